# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Paints a scene: the place, the object in it, what hides it; then the camera records it."""
from __future__ import annotations

import math
from typing import Optional, Tuple

import cv2

from crowdhmt_ros.campus import aerial, street
from crowdhmt_ros.campus.description import FRAME_HEIGHT, FRAME_WIDTH, Box, Scene
from crowdhmt_ros.campus.distractors import paint_distractor
from crowdhmt_ros.campus.light import Light, light_at
from crowdhmt_ros.campus.paint import Canvas, Dice, Frame, Image, hsv, tone
from crowdhmt_ros.campus.sensor import expose, record

# Share of grass around: what is called 'other' must not be a green space by its surroundings.
_GREEN_RATIO = {'building': 0.42, 'green_space': 0.3, 'bird': 0.4, 'other': 0.2}


def render_with_box(scene: Scene, width: int = FRAME_WIDTH,
                    height: int = FRAME_HEIGHT) -> Tuple[Image, Optional[Box]]:
    """
    Paint a scene and say where its object is.

    :returns: picture (H, W, 3) uint8 blue-green-red; (x0, y0, x1, y1) of the object as ratios
        of the picture, None when there is none in it.
    """
    canvas, light = Canvas(width, height), light_at(scene.light_ratio)
    box = (_paint_vehicle(canvas, scene, light) if scene.view == 'vehicle'
           else _paint_drone(canvas, scene, light))
    picture = expose(canvas, light, gain_ratio=scene.gain_ratio, warmth=scene.warmth,
                     haze_ratio=scene.haze_ratio)
    image = record(picture, light, noise_seed=scene.noise_seed, noise_ratio=scene.noise_ratio,
                   blur_px=scene.blur_px * width / FRAME_WIDTH,
                   blur_angle_rad=scene.blur_angle_rad)
    return image, box


def _paint_vehicle(canvas: Canvas, scene: Scene, light: Light) -> Optional[Box]:
    street.paint_street(canvas, Dice(scene.background_seed), horizon_ratio=scene.y_ratio,
                        travel_m=scene.travel_m, clutter_ratio=scene.clutter_ratio, light=light)
    look = Dice(scene.appearance_seed)
    if scene.neighbour:
        _paint_neighbour(canvas, scene, light)
    frame = street.ground_frame(canvas, horizon_ratio=scene.y_ratio, x_ratio=scene.x_ratio,
                                distance_m=scene.distance_m)
    if scene.kind == 'empty':
        return None
    half, tall = street.extent_m(scene.label)
    street.cast_shadow(canvas, frame, light, half_width_m=half, height_m=tall,
                       azimuth_rad=scene.sun_azimuth_rad)
    canvas.track()
    if scene.kind == 'pedestrian':
        street.paint_pedestrian(canvas, frame, look, phase=scene.phase_ratio,
                                heading_rad=scene.heading_rad)
    elif scene.kind == 'bicycle':
        street.paint_bicycle(canvas, frame, look, phase=scene.phase_ratio,
                             heading_rad=scene.heading_rad, rider=look.chance(0.65))
    elif scene.kind == 'car':
        street.paint_car(canvas, frame, look, heading_rad=scene.heading_rad, light=light)
    else:
        frame.squeeze = 1.0 if math.cos(scene.heading_rad) >= 0.0 else -1.0
        paint_distractor(canvas, frame, look, scene.kind, phase=scene.phase_ratio)
    box = canvas.tracked()
    _paint_occluder(canvas, scene, box)
    return box


def _paint_neighbour(canvas: Canvas, scene: Scene, light: Light) -> None:
    dice = Dice(scene.background_seed + 1)
    x = scene.x_ratio + dice.pick((-1.0, 1.0)) * dice.span(0.22, 0.5)
    frame = street.ground_frame(canvas, horizon_ratio=scene.y_ratio, x_ratio=x,
                                distance_m=max(8.0, scene.distance_m * dice.span(2.0, 3.0)))
    paint_distractor(canvas, frame, dice, scene.neighbour, phase=scene.phase_ratio)


def _paint_drone(canvas: Canvas, scene: Scene, light: Light) -> Optional[Box]:
    unit = canvas.width / FRAME_WIDTH
    bird = scene.kind == 'bird'
    middle = (scene.x_ratio * canvas.width, scene.y_ratio * canvas.height)
    scale = 3.2 if bird else scene.scale_ratio
    place = Frame(middle, scale * unit)
    ground = aerial.Ground(place, scene.heading_rad, scene.tilt_rad)
    wide = aerial.Ground(Frame((canvas.width / 2, canvas.height / 2 + _scroll(scene, unit)),
                               scale * unit), scene.heading_rad, scene.tilt_rad)
    aerial.paint_ground(canvas, wide, Dice(scene.background_seed),
                        clutter_ratio=scene.clutter_ratio, green_ratio=_GREEN_RATIO[scene.label],
                        light=light, sun_azimuth_rad=scene.sun_azimuth_rad)
    look = Dice(scene.appearance_seed)
    if bird:
        _paint_below_bird(canvas, wide, scene, light)
    if scene.kind == 'empty':
        return None
    canvas.track()
    if scene.kind == 'building':
        aerial.paint_building(canvas, ground, look, light=light,
                              sun_azimuth_rad=scene.sun_azimuth_rad)
    elif scene.kind == 'green_space':
        aerial.paint_green(canvas, ground, look, light=light,
                           sun_azimuth_rad=scene.sun_azimuth_rad)
    elif bird:
        aerial.paint_bird(canvas, Frame(middle, scene.scale_ratio * unit), look,
                          phase=scene.phase_ratio, heading_rad=scene.heading_rad * 1.7,
                          light=light)
    else:
        if scene.kind in ('quadcopter', 'kite'):
            place = Frame(middle, scene.scale_ratio * unit * 1.3)
        paint_distractor(canvas, place, look, scene.kind, phase=scene.phase_ratio)
    box = canvas.tracked()
    _paint_occluder(canvas, scene, box)
    return box


def _scroll(scene: Scene, unit: float) -> float:
    """How far the ground slides by under a bird; under anything else the drone hovers."""
    return (scene.travel_m % 50 - 25) * 0.8 * unit if scene.kind == 'bird' else 0.0


def _paint_below_bird(canvas: Canvas, ground: aerial.Ground, scene: Scene, light: Light) -> None:
    """What the bird flies over: open ground, a small house or some trees."""
    dice = Dice(scene.background_seed + 2)
    kind = dice.unit()
    if kind < 0.08:
        place = Frame(ground.at(dice.span(-18, 18), dice.span(-14, 14)), ground.scale * .5)
        aerial.paint_building(canvas, aerial.Ground(place, scene.heading_rad, scene.tilt_rad),
                              dice, light=light, sun_azimuth_rad=scene.sun_azimuth_rad)
    elif kind < 0.4:
        for _ in range(dice.count(1, 4)):
            aerial.paint_tree(canvas, ground, dice, dice.span(-24, 24), dice.span(-18, 18),
                              dice.span(1.3, 3.5), light, scene.sun_azimuth_rad)


def _paint_occluder(canvas: Canvas, scene: Scene, box: Optional[Box]) -> None:
    """Hide a part of the object behind something nearer to the camera."""
    if not scene.occluder or box is None:
        return
    dice = Dice(scene.appearance_seed + 1)
    w, h = canvas.width, canvas.height
    shift = scene.occluder_shift_ratio * (box[2] - box[0]) * w
    x0, x1 = box[0] * w + shift, box[2] * w + shift
    y0, y1 = box[1] * h, box[3] * h
    hidden = scene.occlusion_ratio * (x1 - x0)
    if scene.occluder in ('pole', 'strut'):
        wide = min(max(0.5 * hidden, 0.015 * w), 0.1 * w)
        x = dice.span(x0, x1)
        lean = dice.span(-.05, .05) * h if scene.occluder == 'pole' else dice.span(-1, 1) * h
        colour = hsv(0.1, .15, dice.span(.1, .8))
        canvas.stroke((x - lean, -2), (x + lean, h + 2), wide, colour)
        canvas.stroke((x - lean + wide * .25, -2), (x + lean + wide * .25, h + 2), wide * .3,
                      tone(colour, .75))
    elif scene.occluder == 'hedge':
        top = y1 - scene.occlusion_ratio * 0.8 * (y1 - y0)
        leaf = dice.colour((.2, .36), (.25, .65), (.2, .5))
        canvas.convex(((-2, top), (w + 2, top + dice.span(0, 4)), (w + 2, y1 + .05 * h),
                       (-2, y1 + .05 * h)), leaf)
        for _ in range(9):
            canvas.ellipse((dice.span(0, w), dice.span(top + 2, y1)), dice.span(5, 14),
                           dice.span(3, 8), tone(leaf, dice.span(.75, 1.25)))
    elif scene.occluder == 'cloud':
        fog = canvas.image.copy()
        haze = Canvas(w, h)
        haze.image = fog
        for _ in range(4):
            haze.ellipse((dice.span(x0, x1), dice.span(y0, y1)), .5 * hidden + 6, .3 * hidden + 5,
                         (228, 228, 226))
        cv2.addWeighted(canvas.image, 0.68, fog, 0.32, 0.0, dst=canvas.image)
    else:
        side = dice.pick((x0, x1))
        leaf = dice.colour((.18, .36), (.25, .7), (.18, .5))
        for _ in range(10):
            leaves = (side + dice.span(-.6, .6) * hidden, dice.span(y0 - 4, y1 * .8 + y0 * .2))
            canvas.ellipse(leaves, .25 * hidden + 2, .2 * hidden + 2,
                           tone(leaf, dice.span(.7, 1.2)))
