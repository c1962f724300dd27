# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One frame of the campus with its ground truth: sample a scene, then render it.

A `Scene` holds every number that the picture depends on, so the same scene gives the same
picture on any call. Each frame shows one dominant object, seen from a vehicle (pedestrian,
bicycle, car) or from a drone (building, green space, bird); `other` is an empty place or
something that is none of them, in either view.
"""
from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Optional, Tuple

import cv2
import numpy as np

from crowdhmt_ros.campus import aerial, street
from crowdhmt_ros.campus.distractors import AERIAL_KINDS, paint_distractor, STREET_KINDS
from crowdhmt_ros.campus.light import band_of, band_range, Light, light_at, LIGHT_BANDS
from crowdhmt_ros.campus.paint import Canvas, Dice, Frame, hsv, Image, tone
from crowdhmt_ros.campus.sensor import expose, record

CLASSES = ('pedestrian', 'bicycle', 'car', 'building', 'green_space', 'bird', 'other')
VIEWS = ('vehicle', 'drone')
FRAME_WIDTH = 192
FRAME_HEIGHT = 144

Box = Tuple[float, float, float, float]

_VIEW_OF = {'pedestrian': 'vehicle', 'bicycle': 'vehicle', 'car': 'vehicle',
            'building': 'drone', 'green_space': 'drone', 'bird': 'drone'}
_CLASSES_OF = {'vehicle': ('pedestrian', 'bicycle', 'car', 'other'),
               'drone': ('building', 'green_space', 'bird', 'other')}
# Nearest and farthest distance in metres at which each actor is shown from the vehicle.
_DISTANCE_M = {'pedestrian': (2.6, 7.6), 'bicycle': (2.6, 7.0), 'car': (5.0, 14.0),
               'other': (2.2, 5.6)}
# Lowest and highest size from the drone: pixels per metre at 192 pixels of width, but for a
# bird the wingspan in pixels.
_ALTITUDE_SCALE = {'building': (2.6, 5.2), 'green_space': (2.4, 5.0), 'bird': (32.0, 88.0),
                   'other': (2.4, 4.6)}


# Share of grass around: what is called 'other' must not be a green space by its surroundings.
_GREEN_RATIO = {'building': 0.42, 'green_space': 0.3, 'bird': 0.4, 'other': 0.2}


@dataclass(frozen=True)
class Scene:
    """
    Everything one picture depends on.

    :param label: one of CLASSES.
    :param view: 'vehicle' or 'drone'.
    :param light_ratio: 0 noon .. 1 nightfall.
    :param kind: what is painted: the label, or which distractor, or 'empty'.
    :param x_ratio: where the object stands across the picture, 0..1.
    :param y_ratio: vehicle: height of the horizon; drone: where the object lies, 0..1.
    :param distance_m: vehicle only: distance to the object.
    :param scale_ratio: drone only: pixels per metre (bird: wingspan) at 192 pixels of width.
    :param heading_rad: which way the object (drone: the ground) is turned.
    :param tilt_rad: drone only: camera pitch under the horizon.
    :param phase_ratio: progress of the gait, pedals or wings, 0..1 per cycle.
    :param travel_m: how far the camera has moved on, scrolls the background.
    :param sun_azimuth_rad: direction shadows fall to.
    :param appearance_seed: colours, shapes and details of the object.
    :param background_seed: the place.
    :param clutter_ratio: how much stands around, 0..1.
    :param neighbour: a second, smaller thing beside the object, '' for none.
    :param occluder: what hides part of the object, '' for nothing.
    :param occlusion_ratio: how much of the object's width is hidden, 0..1.
    :param occluder_shift_ratio: how far what hides has moved across, 0 in the middle of its way.
    :param haze_ratio: loss of contrast by weather, 0..1.
    :param gain_ratio: deviation of the automatic gain, about 1.
    :param warmth: deviation of the white balance, about 0.
    :param noise_ratio: factor on the sensor noise.
    :param noise_seed: picks the noise of this frame.
    :param blur_px: motion blur in pixels at 192 pixels of width.
    :param blur_angle_rad: direction of the motion blur.
    """

    label: str
    view: str
    light_ratio: float
    kind: str
    x_ratio: float
    y_ratio: float
    distance_m: float
    scale_ratio: float
    heading_rad: float
    tilt_rad: float
    phase_ratio: float
    travel_m: float
    sun_azimuth_rad: float
    appearance_seed: int
    background_seed: int
    clutter_ratio: float
    neighbour: str
    occluder: str
    occlusion_ratio: float
    occluder_shift_ratio: float
    haze_ratio: float
    gain_ratio: float
    warmth: float
    noise_ratio: float
    noise_seed: int
    blur_px: float
    blur_angle_rad: float

    @property
    def light_band(self) -> str:
        """Name of the band of the day, one of LIGHT_BANDS."""
        return band_of(self.light_ratio)

    @property
    def class_index(self) -> int:
        """Index of the label in CLASSES."""
        return CLASSES.index(self.label)


def sample_scene(rng: np.random.Generator, *, view: Optional[str] = None,
                 label: Optional[str] = None, light_band: str) -> Scene:
    """
    Draw a scene at random.

    :param rng: the only source of randomness.
    :param view: 'vehicle' or 'drone'; any that fits the label when None.
    :param label: one of CLASSES; any that fits the view, evenly, when None.
    :param light_band: one of LIGHT_BANDS.
    :raises ValueError: unknown name, or a label that the view never shows.
    """
    label = _choose_label(rng, view, label)
    view = _choose_view(rng, view, label)
    dice = Dice(int(rng.integers(0, 2 ** 62)))
    low, high = band_range(light_band)
    kind = _choose_kind(dice, view, label)
    near, far = _DISTANCE_M.get(label, (3.0, 9.0))
    if kind == 'skip':
        near, far = 5.0, 10.0
    small, large = _ALTITUDE_SCALE.get(label, (2.3, 4.6))
    drone = view == 'drone'
    light_ratio = dice.span(low, high)
    blur = 0.5 + 2.2 * light_ratio ** 2
    return Scene(
        label=label, view=view, light_ratio=light_ratio, kind=kind,
        x_ratio=dice.span(0.14, 0.86),
        y_ratio=dice.span(0.24, 0.76) if drone else dice.span(0.3, 0.5),
        distance_m=math.exp(dice.span(math.log(near), math.log(far))),
        scale_ratio=math.exp(dice.span(math.log(small), math.log(large))),
        heading_rad=_choose_heading(dice, label),
        tilt_rad=dice.span(0.75, 1.5), phase_ratio=dice.unit(), travel_m=dice.span(0, 50),
        sun_azimuth_rad=dice.span(0, 2 * math.pi),
        appearance_seed=int(dice.unit() * 2 ** 31), background_seed=int(dice.unit() * 2 ** 31),
        clutter_ratio=dice.unit(), neighbour=_choose_neighbour(dice, view),
        occluder=_choose_occluder(dice, view, kind), occlusion_ratio=dice.span(0.1, 0.42), occluder_shift_ratio=0.0,
        haze_ratio=dice.span(0.0, 0.25) if dice.chance(0.3) else 0.0,
        gain_ratio=math.exp(dice.span(-0.28, 0.22)), warmth=dice.span(-0.08, 0.08),
        noise_ratio=math.exp(dice.span(-0.4, 0.5)), noise_seed=int(dice.unit() * 2 ** 31),
        blur_px=dice.span(0.0, 2.0) * blur, blur_angle_rad=dice.span(0, math.pi))


def classes_of(view: str) -> Tuple[str, ...]:
    """
    Labels that a view shows.

    :param view: 'vehicle' or 'drone'.
    :raises ValueError: unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f'unknown view {view!r}: use one of {VIEWS}')
    return _CLASSES_OF[view]


def nearest_m(label: str) -> float:
    """Nearest distance at which the vehicle meets something of this label."""
    return _DISTANCE_M.get(label, _DISTANCE_M['other'])[0]


def _choose_label(rng: np.random.Generator, view: Optional[str], label: Optional[str]) -> str:
    if view is not None and view not in VIEWS:
        raise ValueError(f'unknown view {view!r}: use one of {VIEWS}')
    if label is None:
        options = CLASSES if view is None else _CLASSES_OF[view]
        return options[int(rng.integers(len(options)))]
    if label not in CLASSES:
        raise ValueError(f'unknown label {label!r}: use one of {CLASSES}')
    if view is not None and label not in _CLASSES_OF[view]:
        raise ValueError(f'a {view} never shows {label!r}: use one of {_CLASSES_OF[view]}')
    return label


def _choose_view(rng: np.random.Generator, view: Optional[str], label: str) -> str:
    if view is not None:
        return view
    return _VIEW_OF.get(label) or VIEWS[int(rng.integers(2))]


def _choose_kind(dice: Dice, view: str, label: str) -> str:
    if label != 'other':
        return label
    kinds = tuple(STREET_KINDS if view == 'vehicle' else AERIAL_KINDS)
    return 'empty' if dice.chance(0.18) else dice.pick(kinds)


def _choose_heading(dice: Dice, label: str) -> float:
    """Any heading, but a bicycle is seldom seen exactly from its end."""
    heading = dice.span(0, 2 * math.pi)
    if label == 'bicycle' and abs(math.cos(heading)) < 0.35:
        heading += 0.6
    return heading


def _choose_neighbour(dice: Dice, view: str) -> str:
    chance, pick = dice.unit(), dice.unit()
    if view == 'drone' or chance > 0.13:
        return ''
    kinds = tuple(STREET_KINDS)
    return kinds[int(pick * len(kinds))]


def _choose_occluder(dice: Dice, view: str, kind: str) -> str:
    chance, pick = dice.unit(), dice.unit()
    if chance > 0.26 or kind == 'empty':
        return ''
    options = ('pole', 'hedge', 'branch') if view == 'vehicle' else ('branch', 'cloud', 'strut')
    return options[int(pick * len(options))]


def render(scene: Scene, width: int = FRAME_WIDTH, height: int = FRAME_HEIGHT) -> Image:
    """
    Paint a scene as the camera records it.

    :param width: pixels.
    :param height: pixels.
    :returns: (H, W, 3) uint8, blue-green-red.
    """
    return render_with_box(scene, width, height)[0]


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


def independent_scene(seed: int, index: int, light_band: str) -> Tuple[Image, int]:
    """
    Scene number `index` of a balanced set, the same whatever was rendered before.

    Classes take turns, so any len(CLASSES) consecutive indices hold each class once.

    :param seed: names the set; training and test sets use different ones.
    :param index: 0, 1, 2, ...
    :param light_band: one of LIGHT_BANDS.
    :returns: picture (144, 192, 3) uint8 blue-green-red, index into CLASSES.
    """
    scene = scene_at(seed, index, light_band)
    return render(scene), scene.class_index


def scene_at(seed: int, index: int, light_band: str) -> Scene:
    """
    Sample what `independent_scene` renders.

    :param seed: names the set.
    :param index: 0, 1, 2, ...
    :param light_band: one of LIGHT_BANDS.
    """
    words = (seed, index, LIGHT_BANDS.index(light_band) if light_band in LIGHT_BANDS else 99)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    return sample_scene(rng, label=CLASSES[index % len(CLASSES)], light_band=light_band)


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
    place = Frame((middle[0], middle[1] + scene.travel_m * 0.0), scale * unit)
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
    return 0.0 * unit if scene.kind != 'bird' else (scene.travel_m % 50 - 25) * 0.8 * unit


def _paint_below_bird(canvas: Canvas, ground: aerial.Ground, scene: Scene, light: Light) -> None:
    """What the bird flies over: open ground, a small house or some trees."""
    dice = Dice(scene.background_seed + 2)
    kind = dice.unit()
    if kind < 0.12:
        place = Frame(ground.at(dice.span(-18, 18), dice.span(-14, 14)), ground.scale * .5)
        aerial.paint_building(canvas, aerial.Ground(place, scene.heading_rad, scene.tilt_rad),
                              dice, light=light, sun_azimuth_rad=scene.sun_azimuth_rad)
    elif kind < 0.45:
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
        cv2.addWeighted(canvas.image, 0.6, fog, 0.4, 0.0, dst=canvas.image)
    else:
        side = dice.pick((x0, x1))
        leaf = dice.colour((.18, .36), (.25, .7), (.18, .5))
        for _ in range(10):
            canvas.ellipse((side + dice.span(-.6, .6) * hidden, dice.span(y0 - 4, y1 * .8 + y0 * .2)),
                           .25 * hidden + 2, .2 * hidden + 2, tone(leaf, dice.span(.7, 1.2)))
