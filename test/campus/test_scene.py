# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes: the same numbers give the same picture, and the set is balanced and fast."""
from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from crowdhmt_ros.campus.light import LIGHT_BANDS
from crowdhmt_ros.campus.scene import (
    CLASSES,
    independent_scene,
    render,
    render_with_box,
    sample_scene,
    scene_at,
)


def test_independent_scene_does_not_depend_on_call_order() -> None:
    forward = [independent_scene(3, index, 'noon')[0] for index in range(21)]
    backward = [independent_scene(3, index, 'noon')[0] for index in reversed(range(21))]
    for first, second in zip(forward, reversed(backward)):
        np.testing.assert_array_equal(first, second)


def test_picture_is_bgr_bytes_of_the_asked_size() -> None:
    scene = scene_at(1, 2, 'afternoon')
    assert render(scene).shape == (144, 192, 3)
    assert render(scene).dtype == np.uint8
    assert render(scene, 96, 64).shape == (64, 96, 3)


@pytest.mark.parametrize(('width', 'height'), [(640, 480), (32, 24), (1280, 720)])
def test_any_size_shows_the_same_place(width: int, height: int) -> None:
    scene = replace(scene_at(1, 3, 'noon'), noise_ratio=0.0, blur_px=0.0)
    small = cv2.resize(render(scene), (32, 24), interpolation=cv2.INTER_AREA)
    other = cv2.resize(render(scene, width, height), (32, 24), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), other.ravel())[0, 1] > 0.5


def test_seed_index_and_band_each_change_the_picture() -> None:
    base = independent_scene(1, 0, 'noon')[0]
    for other in ((2, 0, 'noon'), (1, 7, 'noon'), (1, 0, 'dusk')):
        assert np.any(base != independent_scene(*other)[0])


def test_classes_are_balanced_and_views_mixed() -> None:
    scenes = [scene_at(5, index, 'noon') for index in range(70)]
    assert set(Counter(scene.label for scene in scenes).values()) == {10}
    others = {scene.view for scene in scenes if scene.label == 'other'}
    assert others == {'vehicle', 'drone'}


def test_truth_matches_the_sampled_scene() -> None:
    for index in range(14):
        scene = scene_at(8, index, 'dusk')
        assert independent_scene(8, index, 'dusk')[1] == CLASSES.index(scene.label)
        assert scene.light_band == 'dusk'


@pytest.mark.parametrize('band', LIGHT_BANDS)
def test_object_lies_in_the_picture(band: str) -> None:
    for index in range(42):
        scene = scene_at(11, index, band)
        _, box = render_with_box(scene, 96, 72)
        if scene.kind == 'empty':
            assert box is None
            continue
        assert box is not None
        x0, y0, x1, y1 = box
        assert 0.0 <= x0 < x1 <= 1.0
        assert 0.0 <= y0 < y1 <= 1.0
        assert (x1 - x0) * (y1 - y0) > 0.001


def test_object_changes_the_pixels_in_its_box() -> None:
    scene = replace(scene_at(4, 2, 'noon'), occluder='')
    picture, box = render_with_box(scene)
    empty = render(replace(scene, label='other', kind='empty'))
    assert box is not None
    x0, y0, x1, y1 = (int(v * s) for v, s in zip(box, (192, 144, 192, 144)))
    inside = cv2.absdiff(picture, empty)[y0:y1, x0:x1].mean()
    assert inside > 10.0


def test_it_grows_dark_towards_dusk() -> None:
    means = [np.mean([independent_scene(2, index, band)[0].mean() for index in range(70)])
             for band in LIGHT_BANDS]
    assert means[0] > means[1] > means[2]


def test_view_and_label_are_honoured_or_refused() -> None:
    rng = np.random.default_rng(0)
    assert sample_scene(rng, view='drone', light_band='noon').label not in CLASSES[:3]
    assert sample_scene(rng, label='bird', light_band='noon').view == 'drone'
    with pytest.raises(ValueError, match='never shows'):
        sample_scene(rng, view='drone', label='car', light_band='noon')
    with pytest.raises(ValueError, match='unknown light band'):
        sample_scene(rng, light_band='midnight')
    with pytest.raises(ValueError, match='unknown label'):
        sample_scene(rng, label='cat', light_band='noon')
    with pytest.raises(ValueError, match='unknown view'):
        sample_scene(rng, view='boat', light_band='noon')


def test_no_global_random_state_is_used() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    independent_scene(1, 1, 'noon')
    after = np.random.get_state()[1]  # type: ignore[index]
    np.testing.assert_array_equal(before, after)


def test_thousands_of_scenes_are_affordable() -> None:
    independent_scene(1, 0, 'noon')
    start_s = time.process_time()
    for index in range(70):
        independent_scene(1, index, LIGHT_BANDS[index % 3])
    assert (time.process_time() - start_s) / 70 < 0.02
