# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings in place of sensors."""
from __future__ import annotations

import pytest

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.resources.replay import TraceProbe, read_trace
from crowdhmt_ros.types import REPLAYED, Reading


def write(path, text):
    path.write_text(text)
    return path


def test_the_row_in_force_holds_until_the_next(tmp_path):
    probe = read_trace(write(tmp_path / 'a.csv', 't_s,remaining,cpu_load\n0,0.9,0.5\n2,0.8,\n'))
    assert probe.duration_s == 2.0
    assert probe.sample(50.0)['battery_ratio'] == Reading(0.9, REPLAYED, 0.0)
    assert probe.sample(51.5)['battery_ratio'] == Reading(0.9, REPLAYED, 1.5)
    assert probe.sample(52.0) == {'battery_ratio': Reading(0.8, REPLAYED, 0.0)}
    assert probe.sample(99.0)['battery_ratio'].value == 0.8


def test_a_negative_ratio_stands_for_unknown_and_a_negative_current_does_not(tmp_path):
    probe = read_trace(write(tmp_path / 'c.csv', 't_s,remaining,cpu_load,current_a\n'
                                                 '0,-1,-1,-1\n1,0,0.5,2\n'))
    assert probe.sample(0.0) == {'battery_current_a': Reading(-1.0, REPLAYED, 0.0)}
    assert probe.sample(1.0)['battery_ratio'] == Reading(0.0, REPLAYED, 0.0)


def test_a_clock_that_jumps_back_starts_anew():
    probe = TraceProbe([0.0, 1.0], [{'battery_ratio': 0.9}, {'battery_ratio': 0.8}])
    probe.sample(10.0)
    assert probe.sample(11.0)['battery_ratio'].value == 0.8
    assert probe.sample(3.0)['battery_ratio'].value == 0.9


def test_a_faster_rate_plays_faster():
    probe = TraceProbe([0.0, 5.0], [{'battery_ratio': 0.9}, {'battery_ratio': 0.8}], rate=5.0)
    probe.sample(0.0)
    assert probe.sample(1.0)['battery_ratio'].value == 0.8


@pytest.mark.parametrize('text', ['', 't_s\n1\n', 'a,b\n1,2\n', 't_s,remaining\nx,0.5\n'])
def test_a_file_without_rows_or_known_columns_is_refused(tmp_path, text):
    with pytest.raises(ProbeError):
        read_trace(write(tmp_path / 'b.csv', text))


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(ProbeError, match='cannot be read'):
        read_trace(tmp_path / 'none.csv')


@pytest.mark.data
def test_recorded_flights_play_back(data_dir):
    files = sorted((data_dir / 'traces').glob('px4_*.csv'))
    assert files
    for path in files:
        first = read_trace(path).sample(0.0)
        assert 0.0 <= first['battery_ratio'].value <= 1.0
    crazyflie = read_trace(next((data_dir / 'traces').glob('crazyflie_*.csv')))
    assert crazyflie.sample(0.0)['battery_voltage_v'].value > 3.0
