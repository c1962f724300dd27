# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One snapshot from many probes, and when the world has changed sharply."""
from __future__ import annotations

import math

import pytest

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.resources.battery import BatteryReport
from crowdhmt_ros.resources.monitor import ResourceMonitor, changed_sharply
from crowdhmt_ros.resources.told import ToldProbe
from crowdhmt_ros.types import NO_READING, REPLAYED, Reading, ResourceSnapshot


class Says:
    def __init__(self, **values):
        self.values = values

    def sample(self, now_s):
        return {name: Reading(value) for name, value in self.values.items()}


class Fails:
    def sample(self, now_s):
        raise ProbeError('the sensor hangs: unplug it')


def test_the_first_probe_that_knows_wins():
    monitor = ResourceMonitor([Says(power_w=5.0), Says(power_w=9.0, cpu_load_ratio=0.5)])
    snapshot = monitor.snapshot(3.0, 'car', 'b1')
    assert (snapshot.power_w.value, snapshot.cpu_load_ratio.value) == (5.0, 0.5)
    assert (snapshot.stamp_s, snapshot.robot_id, snapshot.boot_id) == (3.0, 'car', 'b1')
    assert snapshot.battery_ratio == NO_READING


def test_what_is_not_a_number_or_not_a_reading_is_left_out():
    monitor = ResourceMonitor([Says(power_w=math.nan, wishes=3.0), Says(power_w=4.0)])
    assert monitor.snapshot(0.0).power_w.value == 4.0


def test_a_failing_probe_costs_only_its_own_readings_and_is_said_once(caplog):
    monitor = ResourceMonitor([Fails(), Says(power_w=4.0)])
    for _ in range(3):
        assert monitor.snapshot(0.0).power_w.value == 4.0
    assert monitor.problems == ('the sensor hangs: unplug it',)
    assert len(caplog.records) == 1


def test_told_values_age_and_go_stale():
    probe = ToldProbe(stale_after_s=10.0)
    probe.tell('memory_allotted_bytes', 5e6, 100.0, source=REPLAYED)
    assert probe.sample(104.0)['memory_allotted_bytes'] == Reading(5e6, REPLAYED, 4.0)
    assert probe.sample(90.0)['memory_allotted_bytes'].age_s == 0.0
    assert probe.sample(111.0) == {}


def test_a_bad_battery_report_takes_the_last_good_one_back():
    probe = ToldProbe()
    assert probe.tell_battery(BatteryReport(percentage=0.5, voltage=24.0), 0.0) == ()
    assert probe.sample(1.0)['battery_ratio'].value == 0.5
    assert len(probe.tell_battery(BatteryReport(percentage=37.0, voltage=24.0), 2.0)) == 1
    assert 'battery_ratio' not in probe.sample(3.0)
    assert probe.problems


def look(**values):
    return ResourceSnapshot(0.0, **{k: Reading(v) for k, v in values.items()})


@pytest.mark.parametrize(('before', 'after', 'sharp'), [
    ({'battery_ratio': 0.90}, {'battery_ratio': 0.85}, True),
    ({'battery_ratio': 0.90}, {'battery_ratio': 0.86}, False),
    ({'memory_allotted_bytes': 10e6}, {'memory_allotted_bytes': 9e6}, True),
    ({'memory_allotted_bytes': 10e6}, {'memory_allotted_bytes': 9.5e6}, False),
    ({'memory_available_bytes': 10e9}, {'memory_available_bytes': 11.5e9}, True),
    ({'memory_allotted_bytes': 10e6}, {'memory_allotted_bytes': 0.0}, True),
    ({'memory_allotted_bytes': 0.0}, {'memory_allotted_bytes': 0.0}, False),
    ({'cpu_load_ratio': 0.2}, {'cpu_load_ratio': 0.5}, True),
    ({'cpu_load_ratio': 0.2}, {'cpu_load_ratio': 0.4}, False),
    ({}, {'cpu_load_ratio': 0.9}, False),
    ({}, {'battery_ratio': 0.9}, True),
    ({'memory_allotted_bytes': 10e6}, {}, True),
    ({}, {}, False),
])
def test_sharp_changes(before, after, sharp):
    assert changed_sharply(look(**before), look(**after)) is sharp
    assert ResourceMonitor.changed_sharply(look(**before), look(**after)) is sharp
