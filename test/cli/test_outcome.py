# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.cli import outcome
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.cli.robot_run import RunSettings, write_scenario
from crowdhmt_ros.report.page import render_page
from crowdhmt_ros.report.recording import NS, Recording, SourceFrame, read_recording
from crowdhmt_ros.report.summary import summarise
from test.report import synthetic as s


def frames(first_s, count):
    return Recording(frames=tuple(
        SourceFrame(int((1000.0 + first_s + i / 10) * NS), 'car', 'noon') for i in range(count)))


@pytest.mark.parametrize(('first_s', 'count'), [(0.0, 600), (1.2, 588), (0.0, 200)])
def test_the_limits_follow_the_scenario_whether_late_or_cut_short(tmp_path, first_s, count):
    scenario = write_scenario(RunSettings(out=tmp_path, seconds=60.0))
    limits = outcome.scenario_limits(frames(first_s, count), tmp_path / 'scenario.yaml')
    for t_s in (2.0, 30.0, 59.0):
        now = limits(1000.0 + t_s)
        assert now.latency_s == scenario.phase_at(t_s).latency_budget_s
        assert now.memory_bytes == pytest.approx(scenario.memory_bytes_at(t_s), rel=0.01)


def test_without_a_scenario_the_robots_own_knowledge_counts(tmp_path):
    assert outcome.scenario_limits(frames(0.0, 10), tmp_path / 'none.yaml') is None


@pytest.mark.parametrize(('seconds', 'ratio', 'said'), [
    (60.0, 1.0, '600 emitted,'), (75.0, 0.8, '600 emitted (only 80.0 % of the scenario),')])
def test_frames_that_the_source_skipped_are_told(tmp_path, seconds, ratio, said):
    write_scenario(RunSettings(out=tmp_path, seconds=seconds))
    _, report = outcome.make_report(*s.write_run(tmp_path), bundle=None, about={})
    assert report['frames']['emitted_ratio'] == pytest.approx(ratio)
    assert said in '\n'.join(outcome.summary_lines(report, ()))
    assert '%.1f %%</b><span>of all frames' % (100 * ratio) in render_page(report)


def test_frames_are_counted_by_another_process(tmp_path):
    events, log = s.write_run(tmp_path, seconds=5)
    assert outcome.count_apart(log, events)['answered'] == 50


def test_a_counter_that_fails_is_one_clear_line(tmp_path):
    with pytest.raises(ProcessError, match='frames cannot be counted: crowdhmt: '):
        outcome.count_apart(tmp_path / 'none.csv', tmp_path / 'none.jsonl')


def test_the_summary_names_crashes_and_losses(tmp_path):
    report = summarise(read_recording(*s.write_run(tmp_path)))
    said = '\n'.join(outcome.summary_lines(report, [Ended('mind', 1, False),
                                                   Ended('engine', 0, True)]))
    assert '600 emitted, 600 answered, 0 superseded, 0 lost' in said
    assert 'process mind ended with exit code 1' in said
    assert 'engine' not in said
