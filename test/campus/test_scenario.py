# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scenario files: what they say, and one clear line for what is wrong."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import yaml

from crowdhmt_ros.campus.scenario import (
    load_scenario,
    robots_of,
    scenario_content,
    scenario_dirs,
)
from crowdhmt_ros.errors import ScenarioError

Edit = Callable[[Dict[str, Any]], Any]


@pytest.fixture
def content() -> Dict[str, Any]:
    path = scenario_dirs()[0] / 'campus_minute.yaml'
    return dict(yaml.safe_load(path.read_text(encoding='utf-8')))


def _write(folder: Path, content: object) -> Path:
    path = folder / 'mine.yaml'
    path.write_text(yaml.safe_dump(content), encoding='utf-8')
    return path


def test_packaged_minute_has_the_story_of_the_demo() -> None:
    scenario = load_scenario('campus_minute')
    assert scenario.duration_s == 60.0
    assert scenario.frame_rate_hz == 10.0
    assert [phase.name for phase in scenario.phases] == [
        'noon', 'memory_tight', 'evening_low_battery']
    shares = [key.bytes / scenario.richest_plan_bytes for key in scenario.memory]
    assert shares[0] == pytest.approx(0.85, abs=0.005)
    assert shares[-1] == pytest.approx(0.28, abs=0.005)
    assert shares == sorted(shares, reverse=True)
    assert scenario.battery_start_ratio == 0.90


def test_packaged_day_is_for_a_vehicle_that_runs_short_and_a_drone_that_does_not() -> None:
    assert robots_of('campus_day') == ('vehicle', 'drone')
    vehicle, drone = (load_scenario('campus_day', robot) for robot in ('vehicle', 'drone'))
    assert load_scenario('campus_day') == vehicle
    assert (vehicle.view, drone.view) == ('vehicle', 'drone')
    for same in ('duration_s', 'seed', 'frame_rate_hz', 'light'):
        assert getattr(vehicle, same) == getattr(drone, same)
    shares = [key.bytes / vehicle.richest_plan_bytes for key in vehicle.memory]
    assert (shares[0], shares[-1]) == (pytest.approx(0.85), pytest.approx(0.28))
    assert vehicle.battery_start_ratio == 0.90
    assert min(key.bytes for key in drone.memory) > max(key.bytes for key in vehicle.memory)


def test_what_stands_under_a_robot_holds_over_what_stands_at_the_top(
        tmp_path: Path, content: Dict[str, Any]) -> None:
    del content['view']
    content['robots'] = {'drone': {'frame_rate_hz': 5}, 'second': {'view': 'drone'}}
    path = _write(tmp_path, content)
    assert load_scenario(path).frame_rate_hz == 5.0
    assert load_scenario(path).view == 'drone'  # as its name says
    second = load_scenario(path, 'second')
    assert (second.frame_rate_hz, second.view) == (10.0, 'drone')
    assert 'robots' not in scenario_content(path, 'second')


def test_a_file_for_one_robot_holds_for_any(tmp_path: Path, content: Dict[str, Any]) -> None:
    path = _write(tmp_path, content)
    assert robots_of(path) == ()
    assert load_scenario(path, 'drone') == load_scenario(path)


@pytest.mark.parametrize(('robots', 'said'), [
    ({'drone': {}}, "has no robot 'vehicle': it has drone"), ([], 'must be a mapping of names'),
    ({}, 'at least one'), ({'vehicle': 3}, 'must be a mapping of names'),
    ({'vehicle': {'seed': 3}}, 'robots.vehicle.seed must stand at the top')])
def test_robots_that_cannot_be_read_are_one_clear_line(
        tmp_path: Path, content: Dict[str, Any], robots: object, said: str) -> None:
    content['robots'] = robots
    with pytest.raises(ScenarioError, match=said) as caught:
        load_scenario(_write(tmp_path, content), 'vehicle')
    assert '\n' not in str(caught.value)


def test_memory_is_linear_between_keys_or_steps(tmp_path: Path, content: Dict[str, Any]) -> None:
    content['memory'] = {'richest_plan_bytes': 1000, 'interpolation': 'linear', 'keyframes': [
        {'from_ratio': 0.0, 'of_richest_ratio': 0.8}, {'from_ratio': 0.5, 'bytes': 400}]}
    linear = load_scenario(_write(tmp_path, content))
    assert [linear.memory_bytes_at(t) for t in (0, 15, 30, 60, 99)] == [800, 600, 400, 400, 400]
    content['memory']['interpolation'] = 'step'
    step = load_scenario(_write(tmp_path, content))
    assert [step.memory_bytes_at(t) for t in (0, 15, 29.9, 30)] == [800, 800, 800, 400]


def test_phase_holds_from_its_fraction_on() -> None:
    scenario = load_scenario('campus_minute')
    names = [scenario.phase_at(t).name for t in (-1.0, 0.0, 20.9, 21.0, 42.0, 1e9)]
    assert names == ['noon', 'noon', 'noon', 'memory_tight', 'evening_low_battery',
                     'evening_low_battery']


def test_compressed_keeps_the_course_of_memory_and_battery() -> None:
    long, short = load_scenario('campus_minute'), load_scenario('campus_minute').compressed(20.0)
    assert short.duration_s == 20.0
    assert short.memory_bytes_at(10.0) == long.memory_bytes_at(30.0)
    assert short.time_compression_ratio == pytest.approx(3 * long.time_compression_ratio)
    with pytest.raises(ScenarioError, match='positive duration'):
        long.compressed(0.0)


@pytest.mark.parametrize(('edit', 'message'), [
    (lambda c: c.pop('name'), 'name must be a text'),
    (lambda c: c.update(duration_s='long'), 'duration_s must be a number'),
    (lambda c: c.update(duration_s=float('nan')), 'duration_s must be'),
    (lambda c: c.update(view='boat'), 'view must be one of vehicle, drone'),
    (lambda c: c.update(colour=3), 'colour is unknown'),
    (lambda c: c.update(memory=3), 'memory must be a mapping'),
    (lambda c: c.update(phases=[]), 'phases must be a list'),
    (lambda c: c['battery'].update(start_ratio=90), r'battery.start_ratio must be within 0..1'),
    (lambda c: c['battery'].pop('capacity_j'), 'battery.capacity_j must be a number'),
    (lambda c: c['phases'][0].update(from_ratio=0.1), 'first from_ratio must be 0'),
    (lambda c: c['light'].reverse(), 'from_ratio must rise'),
    (lambda c: c['phases'][1].update(speed=1), r'phases\[1\].speed is unknown'),
    (lambda c: c['memory']['keyframes'][0].update(bytes=1), 'correct or drop'),
])
def test_a_wrong_value_is_named(tmp_path: Path, content: Dict[str, Any], edit: Edit,
                                message: str) -> None:
    edit(content)
    with pytest.raises(ScenarioError, match=message):
        load_scenario(_write(tmp_path, content))


def test_every_problem_is_listed_in_one_line(tmp_path: Path, content: Dict[str, Any]) -> None:
    content.update(duration_s=-1, view='boat', colour=3)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(_write(tmp_path, content))
    message = str(caught.value)
    assert '\n' not in message
    for part in ('mine.yaml', 'duration_s', 'view', 'colour'):
        assert part in message


def test_missing_and_broken_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match='campus_minute'):
        load_scenario('no_such_scenario')
    with pytest.raises(ScenarioError, match='no scenario file'):
        load_scenario(tmp_path / 'gone.yaml')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [1,', encoding='utf-8')
    with pytest.raises(ScenarioError, match='not YAML') as caught:
        load_scenario(broken)
    assert '\n' not in str(caught.value)
    with pytest.raises(ScenarioError, match='must be a mapping'):
        load_scenario(_write(tmp_path, [1, 2]))


def test_scenarios_are_found_under_an_ament_prefix(tmp_path: Path, monkeypatch: Any,
                                                   content: Dict[str, Any]) -> None:
    folder = tmp_path / 'share' / 'crowdhmt_ros' / 'config' / 'scenarios'
    folder.mkdir(parents=True)
    _write(folder, content)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    assert load_scenario('mine').name == 'campus_minute'
