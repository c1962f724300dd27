# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The player turns time and energy into the state of the world."""
from __future__ import annotations

import math

import pytest

from crowdhmt_ros.campus.player import ScenarioPlayer
from crowdhmt_ros.campus.scenario import load_scenario

SCENARIO = load_scenario('campus_minute')


def test_start_and_end_of_the_minute() -> None:
    player = ScenarioPlayer(SCENARIO)
    start, end = player.at(0.0, 0.0), player.at(60.0, 60.0)
    assert start.battery_ratio == 0.90
    assert (start.phase, start.light_band) == ('noon', 'noon')
    assert (end.phase, end.light_band) == ('evening_low_battery', 'dusk')
    assert end.memory_allotted_bytes < start.memory_allotted_bytes
    assert end.battery_ratio < start.battery_ratio


def test_light_and_memory_only_fall() -> None:
    states = [ScenarioPlayer(SCENARIO).at(t, 0.0) for t in range(61)]
    for index in range(1, len(states)):
        before, after = states[index - 1], states[index]
        assert after.light_ratio >= before.light_ratio
        assert after.memory_allotted_bytes <= before.memory_allotted_bytes
        assert after.battery_ratio < before.battery_ratio
    assert {state.light_band for state in states} == {'noon', 'afternoon', 'dusk'}


def test_energy_spent_shows_in_the_battery() -> None:
    player = ScenarioPlayer(SCENARIO)
    assert player.at(30.0, 10.0).battery_ratio > player.at(30.0, 60.0).battery_ratio


def test_battery_does_not_depend_on_how_often_it_is_asked() -> None:
    player = ScenarioPlayer(SCENARIO)
    for t in range(60):
        player.at(float(t), float(t))
    assert player.at(60.0, 60.0) == ScenarioPlayer(SCENARIO).at(60.0, 60.0)


def test_compressed_minute_ends_alike_for_the_same_power() -> None:
    long = ScenarioPlayer(SCENARIO).at(60.0, 60.0)
    short = ScenarioPlayer(SCENARIO.compressed(15.0)).at(15.0, 15.0)
    assert short.battery_ratio == pytest.approx(long.battery_ratio)


def test_time_outside_is_held_and_the_end_is_known() -> None:
    player = ScenarioPlayer(SCENARIO)
    assert player.at(-5.0, 0.0) == player.at(0.0, 0.0)
    assert player.at(1e6, 50.0) == player.at(60.0, 50.0)
    assert not player.finished(59.9)
    assert player.finished(60.0)


def test_unknown_energy_is_refused() -> None:
    with pytest.raises(ValueError, match='inference_j'):
        ScenarioPlayer(SCENARIO).at(1.0, math.nan)
