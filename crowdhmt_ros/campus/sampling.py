# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws scenes at random: sizes, headings, what stands around and what hides the object."""
from __future__ import annotations

import math
from typing import Optional

import numpy as np

from crowdhmt_ros.campus.description import CLASSES, VIEWS, Scene, classes_of
from crowdhmt_ros.campus.distractors import AERIAL_KINDS, STREET_KINDS
from crowdhmt_ros.campus.light import band_range
from crowdhmt_ros.campus.paint import Dice

_VIEW_OF = {'pedestrian': 'vehicle', 'bicycle': 'vehicle', 'car': 'vehicle',
            'building': 'drone', 'green_space': 'drone', 'bird': 'drone'}
# Nearest and farthest distance in metres at which each actor is shown from the vehicle.
_DISTANCE_M = {'pedestrian': (2.6, 7.6), 'bicycle': (2.6, 7.0), 'car': (5.0, 14.0),
               'other': (2.2, 5.6)}
# Lowest and highest size from the drone: pixels per metre at 192 pixels of width, but for a
# bird the wingspan in pixels.
_ALTITUDE_SCALE = {'building': (2.8, 5.2), 'green_space': (2.4, 5.0), 'bird': (36.0, 92.0),
                   'other': (2.4, 4.6)}


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
        occluder=_choose_occluder(dice, view, kind), occlusion_ratio=dice.span(0.1, 0.42),
        occluder_shift_ratio=0.0,
        haze_ratio=dice.span(0.0, 0.25) if dice.chance(0.3) else 0.0,
        gain_ratio=math.exp(dice.span(-0.28, 0.22)), warmth=dice.span(-0.08, 0.08),
        noise_ratio=math.exp(dice.span(-0.4, 0.5)), noise_seed=int(dice.unit() * 2 ** 31),
        blur_px=dice.span(0.0, 2.0) * blur, blur_angle_rad=dice.span(0, math.pi))


def nearest_m(label: str) -> float:
    """Nearest distance at which the vehicle meets something of this label."""
    return _DISTANCE_M.get(label, _DISTANCE_M['other'])[0]


def _choose_label(rng: np.random.Generator, view: Optional[str], label: Optional[str]) -> str:
    if view is not None and view not in VIEWS:
        raise ValueError(f'unknown view {view!r}: use one of {VIEWS}')
    if label is None:
        options = CLASSES if view is None else classes_of(view)
        return options[int(rng.integers(len(options)))]
    if label not in CLASSES:
        raise ValueError(f'unknown label {label!r}: use one of {CLASSES}')
    if view is not None and label not in classes_of(view):
        raise ValueError(f'a {view} never shows {label!r}: use one of {classes_of(view)}')
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
