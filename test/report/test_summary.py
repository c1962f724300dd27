# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from crowdhmt_ros.report.recording import Recording, read_recording
from crowdhmt_ros.report.summary import (
    merge_bands,
    percentile,
    rolling_accuracy,
    summarise,
)
from crowdhmt_ros.report.violations import count_violations

from . import synthetic as s


@pytest.fixture
def day(tmp_path):
    return read_recording(*s.write_run(tmp_path))


def test_percentile_is_linear_between_neighbours():
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert percentile([5.0], 0.95) == 5.0


def test_equal_neighbours_join_into_one_band():
    bands = merge_bands([(0.0, 'noon'), (1.0, 'noon'), (2.0, 'dusk')], 5.0)
    assert [(b.start_s, b.stop_s, b.name) for b in bands] == [(0.0, 2.0, 'noon'),
                                                             (2.0, 5.0, 'dusk')]


def test_memory_above_the_allotment_is_counted_frame_by_frame(day):
    # The allotment falls to 12 MB at 39 s, the 8 MB variant runs from 42 s.
    count = count_violations(day)
    assert count.frames == 600
    assert count.memory == count.violating == 30


def test_accuracy_below_the_floor_is_counted_by_the_light_of_the_frame(day):
    table = {s.LEAN: {'scenes/dusk': 0.7}}
    assert count_violations(day, accuracy=table).accuracy == 180


def test_rolling_accuracy_compares_with_ground_truth(day):
    values = [v for _, v in rolling_accuracy(day)]
    assert 0.8 < sum(values) / len(values) < 1.0


def test_summary_names_variants_in_the_order_of_use(day):
    report = summarise(day)
    assert report['variants_in_order'] == [s.RICH, s.MIDDLE, s.LEAN]
    assert report['plans_distinct'] == 3
    assert [row['frames'] for row in report['plans']] == [210, 210, 180]
    assert report['energy'] == {'total_j': pytest.approx(3.0), 'source': 'estimated'}


def test_an_empty_run_still_has_a_summary():
    report = summarise(Recording())
    assert report['answers'] == 0
    assert report['rate_hz'] is None
    assert report['frames'] is None


def test_what_an_obstacle_was_is_read_with_the_time_of_its_arrival(tmp_path):
    near = {'topic': '/vehicle/obstacle_near', 'received_ns': 12, 'message': {
        'header': {'stamp': s.time_message(10)}, 'near': True, 'label': 'pedestrian',
        'score': 0.8, 'area_ratio': None, 'capture_to_event_s': 0.01, 'plan_seq': 1}}
    events, frames = s.write_run(tmp_path, seconds=2)
    with open(events, 'a', encoding='utf-8') as file:
        file.write(json.dumps(near) + '\n')
    frames.write_text('stamp_ns,label,light_band,area_ratio\n10,car,noon,0.25\n11,car,noon,\n')
    recording = read_recording(events, frames)
    assert [(e.stamp_ns, e.label, e.received_ns, e.area_ratio) for e in recording.obstacles] == [
        (10, 'pedestrian', 12, None)]
    assert [f.area_ratio for f in recording.frames] == [0.25, None]
