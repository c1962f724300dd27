# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One frame of the campus with its ground truth: sample a scene, then render it.

A `Scene` holds every number that the picture depends on, so the same scene gives the same
picture on any call. Each frame shows one dominant object, seen from a vehicle (pedestrian,
bicycle, car) or from a drone (building, green space, bird); `other` is an empty place or
something that is none of them, in either view. This is the room's door to single frames;
`world` is the one to films.
"""
from __future__ import annotations

from typing import Tuple

import numpy as np

from crowdhmt_ros.campus.compose import render_with_box
from crowdhmt_ros.campus.description import (
    CLASSES,
    FRAME_HEIGHT,
    FRAME_WIDTH,
    VIEWS,
    Box,
    Scene,
    classes_of,
)
from crowdhmt_ros.campus.light import LIGHT_BANDS
from crowdhmt_ros.campus.paint import Image
from crowdhmt_ros.campus.sampling import sample_scene

__all__ = [
    'Box', 'CLASSES', 'classes_of', 'FRAME_HEIGHT', 'FRAME_WIDTH', 'Image', 'independent_scene',
    'LIGHT_BANDS', 'render', 'render_with_box', 'sample_scene', 'Scene', 'scene_at', 'VIEWS']


def render(scene: Scene, width: int = FRAME_WIDTH, height: int = FRAME_HEIGHT) -> Image:
    """
    Paint a scene as the camera records it.

    :param width: pixels.
    :param height: pixels.
    :returns: (H, W, 3) uint8, blue-green-red.
    """
    return render_with_box(scene, width, height)[0]


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
