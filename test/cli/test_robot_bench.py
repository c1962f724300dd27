# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the robot bench, on a made-up run."""
import argparse
from types import SimpleNamespace

import pytest

from benchmarks import _robot_demo, robot
from crowdhmt_ros.cli.figures import inform
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.cli.robot_run import RunSettings, write_scenario
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.report.recording import read_recording
from crowdhmt_ros.report.summary import summarise
from crowdhmt_ros.report.violations import known_limits
from test.report import synthetic as s

TABLE = {s.RICH: {'scenes/noon': 0.93, 'scenes/afternoon': 0.92, 'scenes/dusk': 0.9},
         s.LEAN: {'scenes/noon': 0.85, 'scenes/afternoon': 0.84, 'scenes/dusk': 0.7}}


def share(run, entry):
    return _robot_demo.static_ratio(entry, run.recording, TABLE, known_limits(run.recording))


def fixed(variant_id, memory_bytes, p95_s=0.006):
    candidate = SimpleNamespace(variant_id=variant_id, candidate_id=variant_id)
    return SimpleNamespace(candidate=candidate, memory_bytes=SimpleNamespace(mean=memory_bytes),
                           latency_s=SimpleNamespace(p95=p95_s))


@pytest.fixture
def run(tmp_path):
    events, frames = s.write_run(tmp_path)
    write_scenario(RunSettings(out=tmp_path))
    recording = read_recording(events, frames)
    report = summarise(recording)
    report['frames']['emitted_ratio'] = 1.0
    return _robot_demo.Run(tmp_path, report, recording)


def test_a_fixed_plan_breaks_the_allotment_once_it_has_fallen(run):
    # 30 MB fit until 21 s of 60 s.
    assert share(run, fixed(s.RICH, 30e6)) == pytest.approx(
        39 / 60)


def test_a_fixed_plan_breaks_the_floor_where_its_accuracy_is_below(run):
    # The floor is 0.8, the lean variant has 0.7 at dusk: the last 18 s.
    assert share(run, fixed(s.LEAN, 8e6)) == pytest.approx(
        18 / 60)


def test_a_slow_fixed_plan_breaks_the_latency_budget_always(run):
    assert share(run, fixed(s.RICH, 1e6, p95_s=0.021)) == 1.0


def test_lighter_from_phase_to_phase_is_the_expected_order(run):
    bundle = SimpleNamespace(macs={s.RICH: 3, s.MIDDLE: 2, s.LEAN: 1}.get)
    assert list(_robot_demo.phase_variants(run).values()) == [s.RICH, s.MIDDLE, s.LEAN]
    # The made-up weights put accuracy first even at the end.
    assert not _robot_demo.in_expected_order(run, bundle)


def figures_of(run, own, statics):
    wrong = dict(run.report['violations'], ratio=own)
    changed = _robot_demo.Run(run.folder, dict(run.report, violations=wrong), run.recording)
    bundle = SimpleNamespace(macs={s.RICH: 3, s.MIDDLE: 2, s.LEAN: 1}.get)
    return {f.key: f for f in _robot_demo.adaptation_figures(changed, statics, bundle)}


def test_the_best_fixed_plan_is_the_one_that_counts(run):
    found = figures_of(run, 0.02, [('a', 0.5), ('b', 0.05)])
    assert found['best_static_violations_ratio'].value == pytest.approx(2.5)
    assert found['best_static_violations_ratio'].holds is False
    assert found['budget_violation_ratio'].holds is True


def test_no_violation_at_all_counts_as_one_frame(run):
    found = figures_of(run, 0.0, [('a', 0.01)])
    assert found['best_static_violations_ratio'].value == pytest.approx(6.0)


@pytest.mark.parametrize(('change', 'holds'), [
    ({}, True), ({'duplicates': 1}, False), ({'unknown': 1}, False), ({'lost': 1}, False),
    ({'emitted_ratio': 0.985}, True), ({'emitted_ratio': 0.97}, False),
    ({'emitted_ratio': None}, False)])
def test_no_frame_is_lost_only_if_all_were_emitted_and_counted_once(run, change, holds):
    frames = dict(run.report['frames'], **change)
    changed = _robot_demo.Run(run.folder, dict(run.report, frames=frames), run.recording)
    found = {f.key: f for f in _robot_demo.count_figures(changed)}
    assert found['frames_lost'].holds is holds
    assert found['frames_emitted_ratio'].value == frames['emitted_ratio']


def options(**changes):
    return argparse.Namespace(**{'only': [], 'quick': True, 'keep': None, **changes})


def test_a_part_that_fails_falls_short_with_the_reason_and_the_others_go_on(monkeypatch):
    def fail(_):
        raise ProcessError('the demo failed:\nno space left')

    monkeypatch.setitem(robot.PARTS, 'demo', fail)
    for name in ('accuracy', 'overhead', 'switch'):
        monkeypatch.setitem(robot.PARTS, name, lambda _, name=name: [
            inform(name, 1.0, how='measured')])
    found = {f.key: f for f in robot.run(options())}
    assert [key for key, f in found.items() if f.how == 'measured'] == [
        'accuracy', 'overhead', 'switch']
    for key in robot.CLAIMS['demo']:
        assert (found[key].value, found[key].holds) == (None, False)
        assert found[key].how == 'not measured: the demo failed: no space left'


def test_what_falls_short_unmeasured_is_what_is_claimed_when_measured(run):
    bundle = SimpleNamespace(macs={s.RICH: 3, s.MIDDLE: 2, s.LEAN: 1}.get)
    figures = [*_robot_demo.count_figures(run),
               *_robot_demo.adaptation_figures(run, [('a', 0.1)], bundle)]
    assert robot.CLAIMS['demo'] == {
        f.key: (f.target, f.better) for f in figures if f.target is not None}


def test_an_unknown_part_is_named():
    with pytest.raises(ConfigError, match='no part nonsense'):
        robot.run(options(only=['nonsense']))
