# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

from crowdhmt_ros.report.loss import count_losses, longest_gap
from crowdhmt_ros.report.recording import NS, read_recording

from . import synthetic as s

PERIOD_NS = NS // 10


def run_of(tmp_path, stamps, events):
    (tmp_path / 'events.jsonl').write_text(''.join(json.dumps(e) + '\n' for e in events))
    (tmp_path / 'frames.csv').write_text(
        'stamp_ns,label,light_band\n' + ''.join('%d,car,noon\n' % t for t in stamps))
    return read_recording(tmp_path / 'events.jsonl', tmp_path / 'frames.csv')


def stamps_of(count):
    return [s.START_S * NS + i * PERIOD_NS for i in range(count)]


def test_a_whole_run_loses_nothing(tmp_path):
    count = count_losses(read_recording(*s.write_run(tmp_path)))
    assert (count.emitted, count.answered) == (600, 600)
    assert (count.lost, count.duplicates, count.unknown, count.superseded) == (0, 0, 0, 0)
    assert count.switches == 2


def test_a_frame_without_result_or_report_is_lost(tmp_path):
    stamps = stamps_of(5)
    count = count_losses(run_of(tmp_path, stamps, [s.result(t, 'car', 'w') for t in stamps[:4]]))
    assert count.lost == 1


def test_a_superseded_frame_is_not_lost(tmp_path):
    stamps = stamps_of(3)
    events = [s.result(stamps[0], 'car', 'w'), s.result(stamps[2], 'car', 'w'),
              s.feedback(stamps[2], [stamps[0], stamps[2]], [stamps[1]])]
    count = count_losses(run_of(tmp_path, stamps, events))
    assert (count.lost, count.superseded, count.answered) == (0, 1, 2)


def test_an_answer_given_twice_and_a_frame_both_answered_and_superseded_are_duplicates(tmp_path):
    stamps = stamps_of(2)
    events = [s.result(stamps[0], 'car', 'w')] * 2 + [
        s.result(stamps[1], 'car', 'w'), s.feedback(stamps[1], [stamps[1]], [stamps[1]])]
    assert count_losses(run_of(tmp_path, stamps, events)).duplicates == 2


def test_an_answer_to_a_frame_never_emitted_is_unknown(tmp_path):
    stamps = stamps_of(2)
    events = [s.result(t, 'car', 'w') for t in [*stamps, stamps[1] + 1]]
    assert count_losses(run_of(tmp_path, stamps, events)).unknown == 1


def test_an_answer_older_than_two_periods_is_late(tmp_path):
    stamps = stamps_of(4)
    events = [s.result(t, 'car', 'w', latency_s=latency)
              for t, latency in zip(stamps, (0.01, 0.19, 0.21, 0.01))]
    assert count_losses(run_of(tmp_path, stamps, events)).late_ratio == 0.25


def test_lateness_that_the_node_reports_counts_too(tmp_path):
    stamps = stamps_of(2)
    events = [s.result(t, 'car', 'w') for t in stamps] + [s.feedback(stamps[1], stamps, late=1)]
    assert count_losses(run_of(tmp_path, stamps, events)).late_ratio == 0.5


def test_only_gaps_near_a_switch_count_as_switch_gaps():
    stamps = stamps_of(60)
    answered = set(stamps) - {stamps[5], stamps[6], stamps[7], stamps[40]}
    assert longest_gap(stamps, answered, [stamps[41]]) == 1
    assert longest_gap(stamps, answered, [stamps[8]]) == 3
    assert longest_gap(stamps, answered, []) == 0


def test_a_line_cut_short_by_a_crash_is_skipped(tmp_path):
    events, frames = s.write_run(tmp_path, seconds=2)
    events.write_text(events.read_text()[:-40])
    recording = read_recording(events, frames)
    assert len(recording.answers) == 20
    assert len(recording.windows) == 1
