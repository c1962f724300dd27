# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the pair bench, on made-up runs."""
import argparse
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import _pair_demo, _pair_faults, _pair_network, _pair_rig, pair
from crowdhmt_ros.campus.scenario import load_scenario, robots_of
from crowdhmt_ros.cli.figures import inform
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.report.recording import NS, Answer, ObstacleEvent, Recording, SourceFrame
from test.report import synthetic as s

T0 = 1_000 * NS
STEP = NS // 10
WAYS = {'noon': 'rich@local', 'memory_falls': 'rich@drone', 'memory_tight': 'rich@drone',
        'evening_low_battery': 'lean@local'}
MACS = {'rich': 3, 'lean': 1}


def frames(labels, area=0.2):
    return tuple(SourceFrame(T0 + i * STEP, label, 'noon', area) for i, label in enumerate(labels))


def event(frame, near=True, after_s=0.05):
    stamp = T0 + frame * STEP
    return ObstacleEvent(stamp, near, 'pedestrian', 0.9, None, after_s,
                         received_ns=stamp + int(after_s * NS))


def answer(frame, placement='local', degraded=False, latency_s=0.02, offload_s=None):
    return Answer(T0 + frame * STEP, 'car', 0.9, 1, 'rich', 1, degraded, latency_s, 0.01,
                  placement, offload_s)


def run_of(labels, events, area=0.2):
    recording = Recording(frames=frames(labels, area), obstacles=tuple(events))
    return SimpleNamespace(helped=SimpleNamespace(recording=recording))


def obstacle_figure(*runs):
    return _pair_demo.obstacle_figures(runs)[0]


PASSING = ['other'] * 3 + ['pedestrian'] * 5 + ['other'] * 3


def test_an_obstacle_is_timed_from_its_first_near_frame_to_the_event():
    assert obstacle_figure(run_of(PASSING, [event(3)])).value == pytest.approx(0.05)
    assert obstacle_figure(run_of(PASSING, [event(5)])).value == pytest.approx(0.25)
    late = obstacle_figure(run_of(PASSING, [event(6, after_s=0.1)]))
    assert late.value == pytest.approx(0.4)
    assert late.holds is False


def test_an_obstacle_never_told_of_and_a_run_without_any_do_not_hold():
    for labels, events in ((PASSING, []), (['other'] * 5, []), (PASSING, [event(9)])):
        figure = obstacle_figure(run_of(labels, events))
        assert (figure.value, figure.holds) == (None, False)


def test_an_obstacle_counts_once_it_is_near_and_only_into_a_free_view():
    assert obstacle_figure(run_of(PASSING, [event(3)], area=0.01)).value is None
    recording = run_of(PASSING, [event(3)]).helped.recording
    growing = tuple(replace(f, area_ratio=0.01 * i) for i, f in enumerate(recording.frames))
    early = _pair_demo.approaches(replace(recording, frames=growing))
    assert [a.told_s for a in early] == [pytest.approx(0.05)]  # near from frame 5 on
    warned = run_of(PASSING, [event(1)])
    assert _pair_demo.approaches(warned.helped.recording) == ()
    freed = run_of(PASSING, [event(0), event(2, near=False), event(4)])
    assert [a.told_s for a in _pair_demo.approaches(freed.helped.recording)] == [
        pytest.approx(0.15)]


def report(ways, lost=0, late=0.0):
    counted = {'lost': lost, 'duplicates': 0, 'unknown': 0, 'emitted_ratio': 1.0, 'emitted': 600,
               'superseded': 0, 'late_ratio': late}
    own = {'frames': counted, 'plans_distinct': 4, 'offload': {'frames_offloaded_ratio': 0.4},
           'violations': {'ratio': 0.01, 'violating': 6, 'frames': 600, 'memory': 0, 'latency': 6,
                          'accuracy': 0},
           'phases': {phase: {'mostly': way, 'violations_ratio': 0.0, 'degraded_ratio': 0.0,
                              'frames_offloaded_ratio': 0.0} for phase, way in ways.items()}}
    return {'robots': {'vehicle': own, 'drone': {'frames': dict(counted, lost=0)}}, 'pair': {
        'degraded_ratio': 0.1, 'frames_offloaded_ratio': {'memory_tight': 0.9},
        'broken_floor_or_memory_ratio': {'memory_tight': 1.0}, 'frames_lost': lost}}


def done(ways=WAYS, energy=0.8, **changes):
    content = report(ways, **changes)
    decision = SimpleNamespace(weights={'energy': energy, 'accuracy': 1.0 - energy})
    recording = SimpleNamespace(decisions=(decision,))
    return _pair_demo.PairRunDone(content, SimpleNamespace(
        report=content['robots']['vehicle'], recording=recording))


def held(figures):
    return {figure.key: figure.holds for figure in figures if figure.holds is not None}


def test_the_day_of_the_case_study_holds():
    assert set(held([*_pair_demo.count_figures(done()),
                     *_pair_demo.adaptation_figures(done(), MACS),
                     *_pair_demo.alone_figures(done())]).values()) == {True}


@pytest.mark.parametrize('ways', [
    {**WAYS, 'noon': 'lean@local'}, {**WAYS, 'noon': 'rich@drone'},
    {**WAYS, 'memory_falls': 'rich@local', 'memory_tight': 'rich@local'},
    {**WAYS, 'evening_low_battery': 'rich@drone'}, {'noon': 'rich@local'}])
def test_another_order_of_plans_does_not_hold(ways):
    assert held(_pair_demo.adaptation_figures(done(ways), MACS))['plans_distinct'] is False


def test_accuracy_before_energy_at_the_end_does_not_hold():
    figures = _pair_demo.adaptation_figures(done(energy=0.3), MACS)
    assert held(figures)['plans_distinct'] is False


def test_a_frame_that_either_robot_lost_does_not_hold():
    assert held(_pair_demo.count_figures(done(lost=1)))['frames_lost'] is False
    assert held(_pair_demo.count_figures(done(late=0.02)))['late_ratio'] is False


def test_the_best_fixed_plan_is_compared_with_at_least_one_frame():
    figure = _pair_demo.static_figures(0.0, 100, [('a', 0.5), ('b', 0.2)])[0]
    assert figure.value == pytest.approx(20.0)
    assert 'b' in figure.how
    assert _pair_demo.static_figures(0.1, 100, [('a', 0.2)])[0].holds is False


def test_the_watch_reads_what_is_written_bit_by_bit(tmp_path):
    events = tmp_path / 'events.jsonl'
    watch = _pair_rig.Watch(events)
    watch.update()
    lines = []
    for i in range(10):
        line = s.result(T0 + i * STEP, 'car', 'rich')
        line['message'].update(placement='drone', offload_s=0.03)
        lines.append(json.dumps(line))
    text = '\n'.join(lines) + '\n'
    events.write_text(text[:500])
    watch.update()
    assert len(watch.answers) < 10
    events.write_text(text)
    watch.update()
    assert [a.stamp_ns for a in watch.answers] == [T0 + i * STEP for i in range(10)]
    assert watch.is_steady()
    assert not watch.is_steady(since_ns=T0 + 5 * STEP)
    assert watch.offload_s() == pytest.approx(0.03)


def test_help_counts_from_a_frame_of_after_the_moment():
    answers = [answer(0, 'drone'), answer(1, degraded=True), answer(2, 'drone', degraded=True),
               answer(3, 'drone', latency_s=0.05)]
    assert _pair_rig.first_help_ns(answers, T0 + 1) == T0 + 3 * STEP + int(0.05 * NS)
    assert _pair_rig.first_help_ns(answers[:3], T0 + 1) is None
    assert _pair_rig.in_work(answers, T0 + STEP + 1) == answers[1]
    assert _pair_rig.in_work(answers, T0 + STEP - 1) is None


def outcome(returns, hit=True, lost=0, doubled=0):
    faults = tuple(_pair_faults.Fault('kill', hit, seconds) for seconds in returns)
    return _pair_faults.Outcome(faults, 600, lost, doubled, 0.0)


def test_faults_hold_only_when_all_came_back_and_enough_hit_a_request():
    assert set(held(_pair_faults.figures_of([outcome([2.0, 3.0])], 2)).values()) == {True}
    assert held(_pair_faults.figures_of([outcome([2.0, None])], 2))['peer_return_s'] is False
    assert held(_pair_faults.figures_of([outcome([2.0, 6.0])], 2))['peer_return_s'] is False
    assert held(_pair_faults.figures_of([outcome([2.0], hit=False)], 1))['peer_hits'] is False
    for changes in ({'lost': 1}, {'doubled': 1}):
        figures = held(_pair_faults.figures_of([outcome([2.0], **changes)], 1))
        assert figures['peer_kill_frames_lost'] is False


def test_network_figures_hold_only_when_help_resumed_after_every_cut():
    good = _pair_network.Outcome((1.0, 2.0), (), 600, 0, 0)
    assert set(held(_pair_network.figures_of(good, 5.0)).values()) == {True}
    for changes in ({'resume_s': (1.0, None)}, {'resume_s': (1.0, 3.5)}, {'resume_s': ()},
                    {'lost': 1}, {'doubled': 2}):
        figures = held(_pair_network.figures_of(replace(good, **changes), 5.0))
        assert False in figures.values()


def options(tmp_path, *only):
    return argparse.Namespace(only=list(only), quick=True, keep=tmp_path)


def test_an_unknown_part_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match='no part noise: choose from demo, ros, faults'):
        pair.run(options(tmp_path, 'noise'))


def test_a_part_that_fails_keeps_its_claims_and_they_do_not_hold(tmp_path, monkeypatch):
    def broken(folder, quick):
        raise ProcessError('no drone')

    monkeypatch.setitem(pair.PARTS, 'faults', broken)
    monkeypatch.setitem(pair.PARTS, 'fleet', lambda folder, quick: [inform('a', 1.0, how='b')])
    figures = pair.run(options(tmp_path, 'faults', 'fleet'))
    assert [f.key for f in figures] == [*_pair_faults.CLAIMS, 'a']
    assert all(f.holds is False and f.how == 'not measured: no drone' for f in figures[:-1])


def test_every_part_has_its_claims():
    assert set(pair.CLAIMS) == set(pair.PARTS)


def test_the_steady_scenario_is_for_vehicle_and_drone():
    assert robots_of(_pair_rig.SCENARIO) == ('vehicle', 'drone')
    for robot in ('vehicle', 'drone'):
        assert load_scenario(_pair_rig.SCENARIO, robot).duration_s == 1200
