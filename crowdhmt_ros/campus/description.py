# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What one frame of the campus depends on: names, and `Scene` with every number."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from crowdhmt_ros.campus.light import band_of

CLASSES = ('pedestrian', 'bicycle', 'car', 'building', 'green_space', 'bird', 'other')
VIEWS = ('vehicle', 'drone')
FRAME_WIDTH = 192
FRAME_HEIGHT = 144

Box = Tuple[float, float, float, float]

_CLASSES_OF = {'vehicle': ('pedestrian', 'bicycle', 'car', 'other'),
               'drone': ('building', 'green_space', 'bird', 'other')}


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


def classes_of(view: str) -> Tuple[str, ...]:
    """
    Labels that a view shows.

    :param view: 'vehicle' or 'drone'.
    :raises ValueError: unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f'unknown view {view!r}: use one of {VIEWS}')
    return _CLASSES_OF[view]
