# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a vehicle sees: the street it drives on and the actors that cross it."""
from __future__ import annotations

import math
from typing import Callable, List, Sequence, Tuple

from crowdhmt_ros.campus.light import Light
from crowdhmt_ros.campus.paint import Canvas, Colour, Dice, Frame, Point, hsv, mix, tone

FOCAL_RATIO = 0.95
CAMERA_HEIGHT_M = 1.3

Projection = Callable[[float, float, float], Point]

_SKIN = (0.02, 0.10)
_CAR_SHAPES = {
    # Side outlines (x forward, z up, metres): body below, cabin above.
    'sedan': (((-2.2, .35), (-2.25, .85), (-1.5, .98), (1.0, 1.0), (2.1, .82), (2.2, .35)),
              ((-1.6, .95), (-.95, 1.42), (.35, 1.45), (1.15, .98))),
    'hatch': (((-1.9, .35), (-1.95, .95), (.9, 1.02), (1.85, .85), (1.95, .35)),
              ((-1.85, .95), (-1.5, 1.48), (.2, 1.5), (1.0, 1.0))),
    'suv': (((-2.2, .42), (-2.25, 1.1), (1.1, 1.15), (2.1, 1.0), (2.2, .42)),
            ((-2.2, 1.1), (-1.95, 1.75), (.4, 1.75), (1.15, 1.15))),
    'van': (((-2.4, .4), (-2.45, 1.25), (1.7, 1.25), (2.25, .95), (2.35, .4)),
            ((-2.45, 1.2), (-2.4, 2.05), (1.0, 2.05), (1.75, 1.2))),
    'pickup': (((-2.5, .45), (-2.5, 1.0), (1.2, 1.05), (2.3, .95), (2.4, .45)),
               ((-.6, 1.0), (-.5, 1.62), (.6, 1.62), (1.25, 1.05))),
}


def ground_frame(canvas: Canvas, *, horizon_ratio: float, x_ratio: float,
                 distance_m: float) -> Frame:
    """Frame standing on the road at a distance, for a pinhole camera 1.3 m above ground."""
    scale = FOCAL_RATIO * canvas.width / distance_m
    y = horizon_ratio * canvas.height + scale * CAMERA_HEIGHT_M
    return Frame((x_ratio * canvas.width, y), scale)


def paint_street(canvas: Canvas, dice: Dice, *, horizon_ratio: float, travel_m: float,
                 clutter_ratio: float, light: Light) -> None:
    """Paint sky, the far side of the campus, road, kerb and pavement."""
    horizon = horizon_ratio * canvas.height
    _sky(canvas, dice, horizon)
    _skyline(canvas, dice, horizon, travel_m, clutter_ratio, light)
    _road(canvas, dice, horizon, travel_m)


def _sky(canvas: Canvas, dice: Dice, horizon: float) -> None:
    overcast = dice.unit()
    top = mix(hsv(0.58, dice.span(0.3, 0.65), 0.92), hsv(0.6, 0.05, 0.8), overcast)
    low = mix(hsv(0.56, 0.12, 0.98), hsv(0.6, 0.03, 0.9), overcast)
    rows = max(2, int(horizon) + 1)
    for index in range(3):
        step = (low[index] - top[index]) / rows
        for band in range(0, rows, 6):
            canvas.image[band:band + 6, :, index] = int(top[index] + step * band)
    canvas.grain(0, rows, dice, amplitude=dice.span(0.05, 0.35), size=(3.0, 2.0))


def _skyline(canvas: Canvas, dice: Dice, horizon: float, travel_m: float, clutter_ratio: float,
             light: Light) -> None:
    """Hedges, houses and trees beyond the road: clutter in every class."""
    width, unit = canvas.width, canvas.height / 144.0
    shift = -travel_m * 1.2 * unit
    base = horizon + 2.0 * unit
    hedge = dice.colour((0.22, 0.38), (0.25, 0.6), (0.2, 0.5))
    canvas.convex(((0, base - dice.span(3, 14) * unit), (width, base - dice.span(3, 14) * unit),
                   (width, base), (0, base)), hedge)
    for _ in range(int(2 + 6 * clutter_ratio)):
        x = (dice.span(-0.2, 1.2) * width + shift) % (1.6 * width) - 0.3 * width
        kind = dice.unit()
        if kind < 0.42:
            _far_house(canvas, dice, x, base, unit, light)
        elif kind < 0.93:
            _far_tree(canvas, dice, x, base, unit)
        else:
            pole = hsv(0.1, 0.1, dice.span(0.2, 0.7))
            canvas.stroke((x, base + 3 * unit), (x, base - dice.span(25, 60) * unit),
                          dice.span(1.0, 2.2) * unit, pole)


def _far_house(canvas: Canvas, dice: Dice, x: float, base: float, unit: float,
               light: Light) -> None:
    wide, tall = dice.span(18, 70) * unit, dice.span(10, 58) * unit
    wall = dice.colour((0.0, 0.18), (0.03, 0.5), (0.35, 0.9))
    canvas.convex(((x, base), (x, base - tall), (x + wide, base - tall), (x + wide, base)), wall)
    columns, rows = dice.count(2, 4), dice.count(1, 3)
    pane = tone(wall, dice.span(0.4, 0.75))
    lit = dice.chance(0.6)
    for column in range(columns):
        for row in range(rows):
            left = x + wide * (column + 0.3) / columns
            top = base - tall * (row + 0.75) / rows
            right, low = left + wide * 0.38 / columns, top + tall * 0.4 / rows
            canvas.convex(((left, top), (right, top), (right, low), (left, low)), pane)
            if lit and light.lamps_ratio > 0.3 and (column + row) % 2 == 0:
                canvas.lamp(((left + right) / 2, (top + low) / 2), 2.2 * unit, (90, 170, 220))


def _far_tree(canvas: Canvas, dice: Dice, x: float, base: float, unit: float) -> None:
    radius, tall = dice.span(6, 22) * unit, dice.span(10, 34) * unit
    bark = hsv(0.07, 0.4, dice.span(0.15, 0.4))
    canvas.stroke((x, base + unit), (x, base - tall), max(1.5, radius * 0.16), bark)
    leaf = dice.colour((0.18, 0.38), (0.3, 0.7), (0.2, 0.6))
    for _ in range(3):
        centre = (x + dice.span(-.6, .6) * radius, base - tall + dice.span(-.5, .5) * radius)
        canvas.ellipse(centre, radius * dice.span(.5, .9), radius * dice.span(.45, .8),
                       tone(leaf, dice.span(0.75, 1.2)))


def _road(canvas: Canvas, dice: Dice, horizon: float, travel_m: float) -> None:
    width, height = canvas.width, canvas.height
    kind = dice.unit()
    verge = (dice.colour((0.2, 0.33), (0.25, 0.6), (0.3, 0.62)) if kind < 0.55
             else dice.colour((0.05, 0.15), (0.03, 0.25), (0.45, 0.8)))
    asphalt = dice.colour((0.0, 1.0), (0.0, 0.07), (0.24, 0.6))
    vanish = (dice.span(0.25, 0.75) * width, horizon)
    left, right = dice.span(-1.1, 0.12) * width, dice.span(0.85, 2.1) * width
    canvas.convex(((0, horizon), (width, horizon), (width, height), (0, height)), verge)
    for edge, side in ((left, -1.0), (right, 1.0)):
        pave = dice.colour((0.05, 0.15), (0.02, 0.15), (0.45, 0.8))
        reach = dice.span(0.25, 0.9) * width
        canvas.convex((vanish, (edge, height), (edge + side * reach, height)), pave)
        kerb = tone(pave, dice.span(1.1, 1.4))
        canvas.convex((vanish, (edge, height), (edge + side * 0.06 * width, height)), kerb)
    canvas.convex((vanish, (left, height), (right, height)), asphalt)
    if dice.chance(0.7):
        _lane(canvas, vanish, left + (right - left) * dice.span(0.3, 0.7), travel_m,
              hsv(dice.pick((0.1, 0.14)), dice.pick((0.05, 0.6)), dice.span(0.6, 0.95)))
    canvas.grain(int(horizon), height, dice, amplitude=dice.span(0.05, 0.24), size=(0.8, 0.5))
    if dice.chance(0.4):
        stain = (dice.span(0.1, 0.9) * width, horizon + (height - horizon) * dice.span(0.2, 0.9))
        canvas.ellipse(stain, dice.span(0.06, 0.25) * width, dice.span(0.01, 0.05) * height,
                       tone(asphalt, dice.span(0.6, 1.25)))


def _lane(canvas: Canvas, vanish: Point, foot_x: float, travel_m: float, colour: Colour) -> None:
    depth = canvas.height - vanish[1]
    slope = (foot_x - vanish[0]) / depth
    phase = travel_m % 6.0
    for index in range(5):
        near, far = 2.0 + index * 6.0 - phase, 5.0 + index * 6.0 - phase
        if far < 1.4:
            continue
        rows = [min(depth, 1.3 * FOCAL_RATIO * canvas.width / max(z, 1.0)) for z in (near, far)]
        wide = [0.03 * row for row in rows]
        points: List[Point] = []
        for row, half in zip(rows, wide):
            points.append((vanish[0] + slope * row - half, vanish[1] + row))
        for row, half in zip(reversed(rows), reversed(wide)):
            points.append((vanish[0] + slope * row + half, vanish[1] + row))
        canvas.convex(points, colour)


def cast_shadow(canvas: Canvas, frame: Frame, light: Light, *, half_width_m: float,
                height_m: float, azimuth_rad: float) -> None:
    """Darken the ground where something of a given size stands between it and the sun."""
    length = min(3.0, light.shadow_length_ratio) * height_m
    dx, dy = length * math.cos(azimuth_rad), 0.22 * length * math.sin(azimuth_rad)
    thick = 0.1 * half_width_m
    base = ((-half_width_m, thick), (half_width_m, thick), (-half_width_m, -thick),
            (half_width_m, -thick))
    tip = ((dx - half_width_m * .7, dy + thick), (dx + half_width_m * .7, dy + thick))
    canvas.shade(frame.all(base + tip), light.shadow_ratio)
    ring = [(0.8 * half_width_m * math.cos(step * math.pi / 5),
             0.09 * half_width_m * math.sin(step * math.pi / 5)) for step in range(10)]
    canvas.shade(frame.all(ring), 0.4)


def paint_pedestrian(canvas: Canvas, frame: Frame, dice: Dice, *, phase: float,
                     heading_rad: float) -> None:
    """A walking person: two-segment limbs swing with the gait."""
    tall = dice.span(0.82, 1.08)
    side = abs(math.cos(heading_rad))
    body = Frame((frame.x, frame.y), frame.scale * tall,
                 math.copysign(1.0, math.cos(heading_rad)))
    top, trousers = dice.colour(), dice.colour((0, 1), (0, .7), (0.08, .75))
    skin = dice.colour(_SKIN, (0.25, 0.6), (0.3, 0.95))
    build = dice.span(0.85, 1.3)
    swing = math.sin(2 * math.pi * phase) * (0.25 + 0.3 * side)
    coat = dice.chance(0.25)
    backpack = dice.colour() if dice.chance(0.25) else None
    _leg(canvas, body, -swing, trousers, build, side, -1)
    _arm(canvas, body, swing, tone(top, 0.75), skin, build, side, -1)
    if backpack is not None:
        x = -0.22 * side if side > 0.4 else 0.0
        canvas.ellipse(body.at(x, 1.2), 0.17 * body.scale, 0.26 * body.scale, backpack)
    _leg(canvas, body, swing, trousers, build, side, 1)
    shoulder, hip = (0.13 + 0.09 * (1 - side)) * build, (0.11 + 0.05 * (1 - side)) * build
    hem = 0.55 if coat else 0.84
    canvas.convex(body.all(((-shoulder, 1.43), (shoulder, 1.43), (hip, 0.95), (hip * 1.15, hem),
                            (-hip * 1.15, hem), (-hip, 0.95))), top)
    canvas.ellipse(body.at(0.0, 1.42), shoulder * body.scale, 0.07 * body.scale, top)
    _arm(canvas, body, -swing, top, skin, build, side, 1)
    _head(canvas, body, dice, skin, side)


def _leg(canvas: Canvas, body: Frame, swing: float, trousers: Colour, build: float, side: float,
         which: int) -> None:
    colour = trousers if which > 0 else tone(trousers, 0.75)
    hip_x = which * 0.08 * (1 - side)
    knee = (hip_x + 0.42 * math.sin(swing) * side, 0.9 - 0.42 * math.cos(swing))
    bend = swing - (0.15 + max(0.0, -swing)) * side
    lift = 0.1 * max(0.0, swing) * (1 - side)
    foot = (knee[0] + 0.45 * math.sin(bend), max(0.02, knee[1] - 0.43 * math.cos(bend) + lift))
    scale = body.scale * build
    canvas.stroke(body.at(hip_x, 0.95), body.at(*knee), 0.17 * scale, colour, 0.12 * scale)
    canvas.stroke(body.at(*knee), body.at(*foot), 0.12 * scale, colour, 0.09 * scale)
    toe = (foot[0] + 0.05 + 0.12 * side, foot[1])
    canvas.stroke(body.at(foot[0] - 0.05, foot[1]), body.at(*toe), 0.08 * body.scale,
                  (30, 30, 40))


def _arm(canvas: Canvas, body: Frame, swing: float, sleeve: Colour, skin: Colour, build: float,
         side: float, which: int) -> None:
    x = which * (0.22 * (1 - side) + 0.01) * build
    elbow = (x + 0.27 * math.sin(swing), 1.4 - 0.29 * math.cos(swing))
    reach = swing + 0.25 * side
    hand = (elbow[0] + 0.25 * math.sin(reach), elbow[1] - 0.25 * math.cos(reach))
    scale = body.scale
    canvas.stroke(body.at(x, 1.42), body.at(*elbow), 0.11 * scale, sleeve, 0.09 * scale)
    canvas.stroke(body.at(*elbow), body.at(*hand), 0.085 * scale, sleeve, 0.06 * scale)
    canvas.ellipse(body.at(*hand), 0.045 * scale, 0.05 * scale, skin)


def _head(canvas: Canvas, body: Frame, dice: Dice, skin: Colour, side: float) -> None:
    hair = dice.colour((0.02, 0.12), (0.1, 0.7), (0.05, 0.6))
    scale = body.scale
    canvas.stroke(body.at(0, 1.44), body.at(0.01, 1.54), 0.1 * scale, skin)
    canvas.ellipse(body.at(0.02 * side, 1.62), 0.1 * scale, 0.125 * scale, skin)
    canvas.ellipse(body.at(-0.02 * side, 1.675), 0.105 * scale, 0.085 * scale, hair)


def paint_bicycle(canvas: Canvas, frame: Frame, dice: Dice, *, phase: float, heading_rad: float,
                  rider: bool) -> None:
    """A bicycle, with a pedalling rider or parked alone."""
    cos = math.cos(heading_rad)
    squeeze = math.copysign(max(0.3, abs(cos)), cos)
    bike = Frame((frame.x, frame.y), frame.scale, squeeze)
    scale = bike.scale
    paint, tyre = dice.colour((0, 1), (0.2, 1), (0.15, 0.95)), hsv(0.6, 0.1, dice.span(.05, .3))
    radius, ring = 0.34, max(1.2, 0.055 * scale)
    for x in (-0.53, 0.53):
        canvas.ellipse(bike.at(x, radius), radius * scale * abs(squeeze), radius * scale, tyre,
                       ring=ring)
        for spoke in range(3 if scale > 28 else 0):
            angle = phase * 2 * math.pi + spoke * math.pi / 3
            dx, dz = radius * math.cos(angle), radius * math.sin(angle)
            canvas.stroke(bike.at(x - dx, radius - dz), bike.at(x + dx, radius + dz), 0.4,
                          (110, 110, 112))
    crank, seat, head = (-0.08, 0.3), (-0.22, 0.85), (0.38, 0.82)
    tube = max(1.3, 0.05 * scale)
    for start, end in ((crank, seat), (crank, head), (seat, head), ((-.53, radius), crank),
                       ((-.53, radius), seat), ((.53, radius), head)):
        canvas.stroke(bike.at(*start), bike.at(*end), tube, paint)
    canvas.stroke(bike.at(*head), bike.at(0.42, 1.0), tube, tyre)
    canvas.stroke(bike.at(0.42, 1.0), bike.at(0.28, 1.02), tube, tyre)
    if abs(squeeze) < 0.6:
        canvas.stroke((bike.at(0.38, 1.0)[0] - 0.26 * scale, bike.at(0, 1.0)[1]),
                      (bike.at(0.38, 1.0)[0] + 0.26 * scale, bike.at(0, 1.0)[1]), tube, tyre)
    canvas.stroke(bike.at(-0.36, 0.93), bike.at(-0.1, 0.93), 0.07 * scale, (25, 25, 25))
    if rider:
        _rider(canvas, bike, dice, phase)


def _rider(canvas: Canvas, bike: Frame, dice: Dice, phase: float) -> None:
    top, trousers = dice.colour(), dice.colour((0, 1), (0, .7), (0.08, .75))
    skin = dice.colour(_SKIN, (0.25, 0.6), (0.3, 0.95))
    scale, hip = bike.scale, (-0.2, 0.98)
    for which, colour in ((1, tone(trousers, 0.75)), (0, trousers)):
        angle = 2 * math.pi * phase + which * math.pi
        foot = (-0.08 + 0.17 * math.cos(angle), 0.3 + 0.17 * math.sin(angle))
        knee = ((hip[0] + foot[0]) / 2 + 0.27, (hip[1] + foot[1]) / 2 + 0.12)
        canvas.stroke(bike.at(*hip), bike.at(*knee), 0.16 * scale, colour, 0.12 * scale)
        canvas.stroke(bike.at(*knee), bike.at(*foot), 0.12 * scale, colour, 0.08 * scale)
    lean = dice.span(0.02, 0.3)
    neck = (hip[0] + 0.1 + lean, 1.5 - 0.3 * lean)
    canvas.stroke(bike.at(*hip), bike.at(*neck), 0.26 * scale, top, 0.3 * scale)
    canvas.stroke(bike.at(neck[0], neck[1] - 0.08), bike.at(0.4, 1.03), 0.1 * scale,
                  tone(top, 0.85), 0.07 * scale)
    head = bike.at(neck[0] + 0.08, neck[1] + 0.17)
    canvas.ellipse(head, 0.1 * scale, 0.125 * scale, skin)
    cap = dice.colour() if dice.chance(0.6) else dice.colour((.02, .12), (.1, .7), (.05, .6))
    canvas.ellipse((head[0], head[1] - 0.06 * scale), 0.12 * scale, 0.085 * scale, cap)


def paint_car(canvas: Canvas, frame: Frame, dice: Dice, *, heading_rad: float,
              light: Light) -> None:
    """A car as an extruded side outline, seen from any heading."""
    body_line, cabin_line = _CAR_SHAPES[dice.pick(tuple(sorted(_CAR_SHAPES)))]
    grey = dice.chance(0.5)
    paint = (dice.colour((0, 1), (0, 0.08), (0.08, 0.95)) if grey
             else dice.colour((0, 1), (0.3, 0.95), (0.2, 0.9)))
    glass = hsv(0.58, dice.span(0.05, 0.35), dice.span(0.12, 0.55))
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)
    near = -1.0 if cos >= 0.0 else 1.0
    face = 1.0 if sin >= 0.0 else -1.0

    def at(x: float, y: float, z: float) -> Point:
        """Screen point of x forward, y left, z up; nearer ground points lie lower."""
        depth = x * sin + y * near * cos
        swell = 1.0 + 0.045 * depth
        return (frame.x + frame.scale * swell * (x * cos - y * near * sin),
                frame.y - frame.scale * (z * swell - 0.13 * depth))

    half = 0.86
    bottom = [(x, y) for x in (body_line[0][0], body_line[-1][0]) for y in (-half, half)]
    canvas.shade([at(x * 1.03, y * 1.08, 0.0) for x, y in bottom], 0.55)
    for x in (-1.35, 1.35):
        _wheel(canvas, at(x, -half * 0.9, 0.34), 0.32 * frame.scale, cos)
    for y in (half, -half):
        canvas.hull([at(x, y, z) for x, z in body_line] +
                    [at(x, -y, z) for x, z in body_line], tone(paint, 0.68))
    canvas.hull([at(x, y, z) for x, z in cabin_line for y in (-half * .88, half * .88)],
                tone(paint, 0.95))
    canvas.poly([at(x, half, z) for x, z in body_line], paint)
    _cabin(canvas, at, cabin_line, half, glass, paint)
    _end(canvas, at, body_line, cabin_line, half, face, glass, paint, light)
    for x in (-1.35, 1.35):
        _wheel(canvas, at(x, half, 0.33), 0.34 * frame.scale, cos)


def _cabin(canvas: Canvas, at: Projection, line: Sequence[Point], half: float, glass: Colour,
           paint: Colour) -> None:
    low = sum(z for _, z in line) / len(line)
    mid = sum(x for x, _ in line) / len(line)
    canvas.poly([at(x, half * .9, z) for x, z in line], tone(paint, 0.9))
    inner = [(mid + (x - mid) * 0.86, low + (z - low) * 0.74) for x, z in line]
    canvas.poly([at(x, half * .91, z) for x, z in inner], glass)
    canvas.stroke(at(mid, half * .92, inner[0][1]), at(mid, half * .92, inner[1][1]),
                  1.5, tone(paint, 0.8))


def _end(canvas: Canvas, at: Projection, body: Sequence[Point], cabin: Sequence[Point],
         half: float, face: float, glass: Colour, paint: Colour, light: Light) -> None:
    """Bonnet or boot end with windscreen and lights; it turns towards the camera."""
    index = (-1, -2) if face > 0 else (0, 1)
    bottom, top = body[index[0]], body[index[1]]
    canvas.convex([at(bottom[0], half, bottom[1]), at(top[0], half, top[1]),
                   at(top[0], -half, top[1]), at(bottom[0], -half, bottom[1])],
                  tone(paint, 0.85))
    low, high = (cabin[-1], cabin[-2]) if face > 0 else (cabin[0], cabin[1])
    canvas.convex([at(low[0], half * .8, low[1] + .02), at(high[0], half * .7, high[1] - .06),
                   at(high[0], -half * .7, high[1] - .06), at(low[0], -half * .8, low[1] + .02)],
                  glass)
    z = bottom[1] * 0.35 + top[1] * 0.65
    lens = (235.0, 245.0, 250.0) if face > 0 else (40.0, 30.0, 190.0)
    left, right = at(bottom[0] * 1.01, half * .72, z), at(bottom[0] * 1.01, -half * .72, z)
    size = math.hypot(right[0] - left[0], right[1] - left[1])
    for lamp in (left, right):
        canvas.ellipse(lamp, max(1.0, size * 0.11), max(1.0, size * 0.08), lens)
        if light.lamps_ratio > 0.0:
            glow = (200.0, 235.0, 255.0) if face > 0 else (40.0, 40.0, 235.0)
            canvas.lamp(lamp, max(2.0, size * (0.3 if face > 0 else 0.2)), glow)
    plate = at(bottom[0] * 1.01, 0.0, bottom[1] + 0.15)
    canvas.ellipse(plate, max(1.0, size * 0.13), max(0.8, size * 0.035), (215, 225, 225))


def _wheel(canvas: Canvas, centre: Point, radius: float, cos: float) -> None:
    squeeze = max(0.25, abs(cos))
    canvas.ellipse(centre, radius * squeeze, radius, (22, 22, 24))
    canvas.ellipse(centre, radius * squeeze * 0.55, radius * 0.55, (135, 135, 138))


def extent_m(label: str) -> Tuple[float, float]:
    """Half width and height in metres that an actor's shadow is cast with."""
    return {'pedestrian': (0.25, 1.7), 'bicycle': (0.8, 1.3), 'car': (1.9, 1.2)}.get(
        label, (0.35, 0.9))
