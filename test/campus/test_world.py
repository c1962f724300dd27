# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world as a film: repeatable, continuous, balanced."""
from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.campus.scene import CLASSES, classes_of
from crowdhmt_ros.campus.world import World

SCENARIO = load_scenario('campus_minute')


def test_a_frame_depends_on_scenario_seed_and_time_only() -> None:
    first, second = World(SCENARIO, 'vehicle', 1), World(SCENARIO, 'vehicle', 1)
    later = second.frame_at(40.0)
    for t in (0.0, 12.3, 40.0):
        image, truth = first.frame_at(t)
        again, same = second.frame_at(t)
        np.testing.assert_array_equal(image, again)
        assert truth == same
    np.testing.assert_array_equal(later[0], first.frame_at(40.0)[0])


def test_seed_and_view_change_the_world() -> None:
    base = World(SCENARIO, 'vehicle', 1).frame_at(5.0)[0]
    assert np.any(base != World(SCENARIO, 'vehicle', 2).frame_at(5.0)[0])
    assert np.any(base != World(SCENARIO, 'drone', 1).frame_at(5.0)[0])


@pytest.mark.parametrize('view', ['vehicle', 'drone'])
def test_encounters_last_one_to_four_seconds_and_are_balanced(view: str) -> None:
    world = World(SCENARIO.compressed(600.0), view, 3)
    scenes = [world.scene_at(t / 10.0) for t in range(6000)]
    runs, start = [], 0
    for index in range(1, len(scenes)):
        if scenes[index].appearance_seed != scenes[index - 1].appearance_seed:
            runs.append((start, index))
            start = index
    lengths_s = [(end - begin) / 10.0 for begin, end in runs]
    assert min(lengths_s) >= 0.9
    assert max(lengths_s) <= 4.1
    seen = Counter(scenes[begin].label for begin, _ in runs)
    assert set(seen) == set(classes_of(view))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_an_object_moves_smoothly_within_an_encounter() -> None:
    world = World(SCENARIO, 'vehicle', 4)
    previous = world.scene_at(0.0)
    for step in range(1, 600):
        scene = world.scene_at(step / 10.0)
        if scene.appearance_seed == previous.appearance_seed:
            assert abs(scene.x_ratio - previous.x_ratio) < 0.02
            assert scene.noise_seed != previous.noise_seed
            assert scene.background_seed == previous.background_seed
        previous = scene


def test_light_follows_the_scenario() -> None:
    world = World(SCENARIO, 'vehicle', 5)
    ratios = [world.scene_at(float(t)).light_ratio for t in range(61)]
    assert ratios == sorted(ratios)
    assert world.frame_at(1.0)[1].light_band == 'noon'
    assert world.frame_at(30.0)[1].light_band == 'afternoon'
    assert world.frame_at(59.0)[1].light_band == 'dusk'
    assert world.frame_at(70.0)[1].light_ratio == ratios[-1]


def test_truth_names_its_class() -> None:
    _, truth = World(SCENARIO, 'drone', 6).frame_at(3.0)
    assert CLASSES[truth.class_index] == truth.label


@pytest.mark.parametrize('t_s', [-0.1, math.nan, math.inf])
def test_impossible_times_are_refused(t_s: float) -> None:
    with pytest.raises(ValueError, match='0 or more'):
        World(SCENARIO).frame_at(t_s)
