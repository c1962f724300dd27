# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a drone sees: the ground under it, buildings, green space and birds."""
from __future__ import annotations

import math
from typing import List, Sequence, Tuple

from crowdhmt_ros.campus.light import Light
from crowdhmt_ros.campus.paint import Canvas, Colour, Dice, Frame, Point, hsv, mix, tone


class Ground:
    """
    The ground in metres seen from a drone: x, y on the ground, z up, weak perspective.

    :param frame: where ground point (0, 0) lies and pixels per metre.
    :param heading_rad: how the ground is turned.
    :param tilt_rad: camera pitch under the horizon; pi/2 looks straight down.
    """

    def __init__(self, frame: Frame, heading_rad: float, tilt_rad: float) -> None:
        """Keep the mapping."""
        self.frame = frame
        self.scale = frame.scale
        self._cos, self._sin = math.cos(heading_rad), math.sin(heading_rad)
        self._squash, self._rise = math.sin(tilt_rad), math.cos(tilt_rad)

    def at(self, x: float, y: float, z: float = 0.0) -> Point:
        """Pixel of one point."""
        across = x * self._cos - y * self._sin
        along = x * self._sin + y * self._cos
        return (self.frame.x + self.scale * across,
                self.frame.y - self.scale * (along * self._squash + z * self._rise))

    def rect(self, x: float, y: float, half_x: float, half_y: float,
             z: float = 0.0) -> List[Point]:
        """Pixels of the corners of a rectangle lying at height z."""
        return [self.at(x - half_x, y - half_y, z), self.at(x + half_x, y - half_y, z),
                self.at(x + half_x, y + half_y, z), self.at(x - half_x, y + half_y, z)]


def paint_ground(canvas: Canvas, ground: Ground, dice: Dice, *, clutter_ratio: float,
                 green_ratio: float, light: Light, sun_azimuth_rad: float) -> None:
    """
    Paint fields, paving, a road and scattered small things.

    :param green_ratio: share of the surfaces that are grass, 0..1.
    """
    base = _surface(dice, green_ratio)
    canvas.image[:] = base
    for _ in range(dice.count(1, 3)):
        x, y = dice.span(-30, 30), dice.span(-24, 24)
        canvas.convex(ground.rect(x, y, dice.span(6, 30), dice.span(6, 24)),
                      _surface(dice, green_ratio))
    canvas.grain(0, canvas.height, dice, amplitude=dice.span(0.08, 0.3),
                 size=(dice.span(.6, 1.8), dice.span(.6, 1.8)))
    if dice.chance(0.55):
        _lane(canvas, ground, dice)
    for _ in range(int(1 + 4 * clutter_ratio)):
        x, y = dice.span(-32, 32), dice.span(-24, 24)
        if dice.chance(0.68):
            paint_tree(canvas, ground, dice, x, y, dice.span(.8, 2.2), light, sun_azimuth_rad)
        else:
            spot = dice.colour((0, 1), (0, .7), (.15, .95))
            half = dice.pick((.9, .7, .8))
            canvas.convex(ground.rect(x, y, half, half * 2.0), spot)


def _surface(dice: Dice, green_ratio: float) -> Colour:
    kind = dice.unit()
    if kind < green_ratio:
        return dice.colour((0.18, 0.32), (0.2, 0.55), (0.3, 0.6))
    if kind < 0.5 + 0.5 * green_ratio:
        return dice.colour((0.06, 0.14), (0.1, 0.45), (0.4, 0.8))
    return dice.colour((0.0, 1.0), (0.0, 0.07), (0.3, 0.75))


def _lane(canvas: Canvas, ground: Ground, dice: Dice) -> None:
    asphalt = dice.colour((0, 1), (0, .06), (.22, .6))
    y, half = dice.span(-16, 16), dice.span(1.6, 4.0)
    canvas.convex(ground.rect(0, y, 90, half), asphalt)
    if half > 2.6 and dice.chance(.7):
        for index in range(-8, 9):
            canvas.convex(ground.rect(index * 5.0, y, 1.3, .18), (215, 218, 220))


def paint_tree(canvas: Canvas, ground: Ground, dice: Dice, x: float, y: float, radius_m: float,
               light: Light, sun_azimuth_rad: float) -> None:
    """One crown: shadow, dark underside, lit lumps on the side of the sun."""
    tall = radius_m * dice.span(0.8, 1.8)
    dx, dy = math.cos(sun_azimuth_rad), math.sin(sun_azimuth_rad)
    px, foot = ground.at(x, y, tall), ground.at(x, y)
    r = radius_m * ground.scale
    length = min(2.2, light.shadow_length_ratio) * tall * ground.scale
    if light.shadow_ratio > 0.05:
        tip = (foot[0] + dx * length, foot[1] + dy * length)
        ring = [(c[0] + a * r, c[1] + b * r) for c in (foot, tip)
                for a, b in ((.9, 0), (0, .8), (-.9, 0), (0, -.8))]
        canvas.shade(ring, light.shadow_ratio)
    leaf = dice.colour((0.17, 0.36), (0.28, 0.72), (0.22, 0.58))
    canvas.ellipse(px, r, r * 0.92, tone(leaf, 0.62))
    for _ in range(4 if r > 5 else 2):
        angle, far = dice.span(0, 2 * math.pi), dice.span(0.1, 0.55) * r
        lump = (px[0] + far * math.cos(angle) - 0.15 * dx * r,
                px[1] + far * math.sin(angle) - 0.15 * dy * r)
        size = dice.span(0.35, 0.6) * r
        canvas.ellipse(lump, size, size * 0.9, tone(leaf, dice.span(0.8, 1.1)))
    canvas.ellipse((px[0] - .3 * dx * r, px[1] - .3 * dy * r), .34 * r, .3 * r, tone(leaf, 1.25))


def paint_building(canvas: Canvas, ground: Ground, dice: Dice, *, light: Light,
                   sun_azimuth_rad: float) -> None:
    """A building: one or two wings with facades, windows and a roof."""
    half_x, half_y = dice.span(5.5, 11.5), dice.span(4.2, 7.5)
    tall = dice.span(3.0, 13.0)
    wall = dice.colour((0.0, 0.16), (0.02, 0.5), (0.35, 0.95))
    roof = _roof_colour(dice)
    gable = tall < 8.0 and dice.chance(0.55)
    wings = [(0.0, 0.0, half_x, half_y)]
    if dice.chance(0.35):
        wings.append((half_x * dice.pick((-.7, .7)), half_y * 1.5, half_x * 0.35, half_y * 0.8))
    for x, y, a, b in reversed(wings):
        _building_shadow(canvas, ground, (x, y, a, b), tall, light, sun_azimuth_rad)
    for x, y, a, b in reversed(wings):
        _facades(canvas, ground, dice, (x, y, a, b), tall, wall, light)
        _roof(canvas, ground, dice, (x, y, a, b), tall, roof, gable, sun_azimuth_rad)


def _roof_colour(dice: Dice) -> Colour:
    kind = dice.unit()
    if kind < 0.35:
        return dice.colour((0.0, 0.06), (0.35, 0.75), (0.3, 0.75))
    if kind < 0.8:
        return dice.colour((0.0, 1.0), (0.0, 0.1), (0.25, 0.9))
    return dice.colour((0.2, 0.65), (0.1, 0.45), (0.25, 0.65))


def _building_shadow(canvas: Canvas, ground: Ground, wing: Tuple[float, float, float, float],
                     tall: float, light: Light, sun_azimuth_rad: float) -> None:
    x, y, a, b = wing
    base = ground.rect(x, y, a, b)
    length = min(2.0, light.shadow_length_ratio) * tall * ground.scale * 0.8
    dx, dy = math.cos(sun_azimuth_rad) * length, math.sin(sun_azimuth_rad) * length
    canvas.shade(base + [(p[0] + dx, p[1] + dy) for p in base], light.shadow_ratio)


def _facades(canvas: Canvas, ground: Ground, dice: Dice, wing: Tuple[float, float, float, float],
             tall: float, wall: Colour, light: Light) -> None:
    x, y, a, b = wing
    low, high = ground.rect(x, y, a, b), ground.rect(x, y, a, b, tall)
    pane = mix(tone(wall, 0.45), (110.0, 80.0, 60.0), dice.unit())
    floors = max(1, int(tall / 3.0))
    lit = dice.count(0, 2)
    for index, half in ((0, a), (1, b), (2, a), (3, b)):
        after = (index + 1) % 4
        if low[after][0] <= low[index][0]:
            continue
        shade = 0.95 if index % 2 == 0 else 0.72
        canvas.convex((low[index], low[after], high[after], high[index]), tone(wall, shade))
        if high[index][1] > low[index][1] - 4:
            continue
        columns = max(2, int(half * 2 / 3.2))
        _windows(canvas, (low[index], low[after], high[index]), (columns, floors),
                 tone(pane, shade), lit if light.lamps_ratio > 0.2 else 0)


def _windows(canvas: Canvas, corners: Sequence[Point], grid: Tuple[int, int], pane: Colour,
             lit: int) -> None:
    origin, across, up = corners
    ax, ay = (across[0] - origin[0]) / grid[0], (across[1] - origin[1]) / grid[0]
    ux, uy = (up[0] - origin[0]) / grid[1], (up[1] - origin[1]) / grid[1]
    for column in range(grid[0]):
        for floor in range(grid[1]):
            p = (origin[0] + ax * (column + .25) + ux * (floor + .3),
                 origin[1] + ay * (column + .25) + uy * (floor + .3))
            q = (p[0] + ax * .5, p[1] + ay * .5)
            canvas.convex((p, q, (q[0] + ux * .45, q[1] + uy * .45),
                           (p[0] + ux * .45, p[1] + uy * .45)), pane)
            if lit and (column * 2 + floor * 3) % 3 < lit:
                canvas.lamp(((p[0] + q[0] + ux * .45) / 2, (p[1] + q[1] + uy * .45) / 2),
                            min(2.6, max(1.2, abs(ax) * .35)), (80, 165, 225))


def _roof(canvas: Canvas, ground: Ground, dice: Dice, wing: Tuple[float, float, float, float],
          tall: float, roof: Colour, gable: bool, sun_azimuth_rad: float) -> None:
    x, y, a, b = wing
    eaves = ground.rect(x, y, a * 1.04, b * 1.06, tall)
    if gable:
        inset = dice.pick((0.0, 0.35)) * b
        left = ground.at(x - a * 1.04 + inset, y, tall + 0.55 * b)
        right = ground.at(x + a * 1.04 - inset, y, tall + 0.55 * b)
        lit = 1.12 if math.sin(sun_azimuth_rad) < 0 else 0.8
        canvas.convex((eaves[3], eaves[2], right, left), tone(roof, 1.9 - lit))
        canvas.convex((eaves[0], eaves[3], left), tone(roof, 0.85))
        canvas.convex((eaves[1], eaves[2], right), tone(roof, 0.95))
        canvas.convex((eaves[0], eaves[1], right, left), tone(roof, lit))
        canvas.stroke(left, right, max(1.0, 0.25 * ground.scale), tone(roof, 1.3))
        return
    canvas.convex(eaves, tone(roof, 1.25))
    canvas.convex(ground.rect(x, y, a * .94, b * .93, tall), roof)
    for _ in range(dice.count(0, 4)):
        ux, uy = x + dice.span(-.7, .7) * a, y + dice.span(-.7, .7) * b
        half = dice.span(.5, 1.3)
        box = ground.rect(ux, uy, half, half * .8, tall)
        canvas.shade([(p[0] + 2, p[1] + 2) for p in box], 0.3)
        canvas.convex(ground.rect(ux, uy, half, half * .8, tall + .6),
                      hsv(0.6, .03, dice.span(.35, .9)))


def paint_green(canvas: Canvas, ground: Ground, dice: Dice, *, light: Light,
                sun_azimuth_rad: float) -> None:
    """Lawn with a wavy edge, trees, hedges, sometimes a path."""
    lawn = dice.colour((0.19, 0.34), (0.28, 0.68), (0.28, 0.62))
    reach_x, reach_y = dice.span(13, 28), dice.span(10, 22)
    edge: List[Point] = []
    wobble = [dice.span(0.8, 1.15) for _ in range(12)]
    for index, factor in enumerate(wobble):
        angle = 2 * math.pi * index / 12
        edge.append(ground.at(reach_x * factor * math.cos(angle),
                              reach_y * factor * math.sin(angle)))
    canvas.poly(edge, lawn)
    top = max(0, int(min(p[1] for p in edge)))
    low = min(canvas.height, int(max(p[1] for p in edge)))
    canvas.grain(top, low, dice, amplitude=dice.span(.1, .4), size=(.7, .7))
    if dice.chance(0.45):
        path = dice.colour((.07, .13), (.1, .4), (.5, .85))
        bend = dice.span(-6, 6)
        points = [ground.at(t * reach_x, bend * (1 - t * t) + 2 * t) for t in
                  (-1.0, -.5, 0.0, .5, 1.0)]
        for index in range(1, len(points)):
            canvas.stroke(points[index - 1], points[index], max(1.5, 1.4 * ground.scale), path)
    for _ in range(dice.count(3, 9)):
        angle, far = dice.span(0, 2 * math.pi), dice.span(0, .95)
        paint_tree(canvas, ground, dice, reach_x * far * math.cos(angle),
                   reach_y * far * math.sin(angle), dice.span(1.3, 4.2), light, sun_azimuth_rad)


def paint_bird(canvas: Canvas, frame: Frame, dice: Dice, *, phase: float, heading_rad: float,
               light: Light) -> None:
    """
    A bird below or ahead: wings flap, the body follows its heading.

    :param frame: one metre of the frame is the wingspan of this bird.
    """
    body = _plumage(dice)
    wing, tip = tone(body, dice.span(.7, 1.2)), tone(body, dice.span(.3, 1.0))
    flap = math.sin(2 * math.pi * phase)
    tilt = dice.span(0.55, 1.0)
    cos, sin = math.cos(heading_rad), math.sin(heading_rad)

    def at(x: float, y: float, z: float = 0.0) -> Point:
        return frame.at(x * cos - y * sin, (x * sin + y * cos) * tilt + z)

    if dice.chance(0.5) and light.shadow_ratio > 0.05:
        drop = Frame((frame.x + .5 * frame.scale, frame.y + .6 * frame.scale), frame.scale * .8)
        canvas.shade([drop.at(x, y) for x, y in ((-.4, 0), (0, .12), (.4, 0), (0, -.12))],
                     light.shadow_ratio * 0.7)
    rise = 0.22 * flap
    sweep = dice.span(-.06, .1)
    for side in (-1.0, 1.0):
        root_a, root_b = at(.13, .04 * side), at(-.12, .04 * side)
        bend_a = at(.13 + sweep * .4, .26 * side, rise * .7)
        bend_b = at(-.07, .26 * side, rise * .7)
        point = at(.02 - sweep, .5 * side * (1 - .18 * abs(flap)), rise * 1.2)
        shade = wing if side > 0 else tone(wing, .85)
        canvas.convex((root_a, bend_a, bend_b, root_b), shade)
        canvas.convex((bend_a, point, bend_b), mix(shade, tip, .7))
    canvas.convex((at(-.16, 0), at(-.36, .085), at(-.36, -.085)), tone(body, .8))
    canvas.stroke(at(-.2, 0), at(.17, 0), .09 * frame.scale, body, .13 * frame.scale)
    canvas.ellipse(at(.21, 0), .062 * frame.scale, .055 * frame.scale, tone(body, 1.1))
    canvas.convex((at(.25, .025), at(.33, 0), at(.25, -.025)), (40, 150, 220))


def _plumage(dice: Dice) -> Colour:
    kind = dice.unit()
    if kind < 0.42:
        return hsv(0.1, 0.03, dice.span(0.85, 0.98))
    if kind < 0.82:
        return hsv(0.65, 0.12, dice.span(0.06, 0.25))
    return dice.colour((0.04, 0.12), (0.05, 0.45), (0.3, 0.7))
