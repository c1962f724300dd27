# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Readings from a folder that stands for a machine, and from this machine."""
from __future__ import annotations

import os
import time

import pytest

from crowdhmt_ros.resources import linux
from crowdhmt_ros.resources.linux import (
    LinuxProbe,
    ProcessorShare,
    frequency_ratio,
    group_memory,
    pressure_ratio,
    zone_celsius,
)
from crowdhmt_ros.types import READING_FIELDS


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + '\n')


def test_this_machine_tells_memory_at_once_and_load_from_the_second_look():
    probe = LinuxProbe()
    first = probe.sample(0.0)
    assert first['memory_total_bytes'].value >= first['memory_available_bytes'].value > 0
    assert 'cpu_load_ratio' not in first
    time.sleep(0.1)
    second = probe.sample(0.1)
    assert 0.0 <= second['cpu_others_ratio'].value <= second['cpu_load_ratio'].value <= 1.0
    assert set(second) <= set(READING_FIELDS)


def test_a_machine_without_any_file_tells_what_it_can(tmp_path):
    found = LinuxProbe(root=tmp_path).sample(0.0)
    assert set(found) == {'memory_total_bytes', 'memory_available_bytes'}


def test_pressure_is_a_share_of_ten_seconds(tmp_path):
    put(tmp_path, 'proc/pressure/memory',
        'some avg10=12.50 avg60=1.00 avg300=0.00 total=99\n'
        'full avg10=3.00 avg60=0.00 avg300=0.00 total=9')
    assert pressure_ratio(tmp_path, 'memory') == 0.125
    assert pressure_ratio(tmp_path, 'cpu') is None


@pytest.mark.parametrize('text', ['', 'some', 'some avg10=', 'full avg10=3.00', 'nonsense'])
def test_unreadable_pressure_is_unknown(tmp_path, text):
    put(tmp_path, 'proc/pressure/cpu', text)
    assert pressure_ratio(tmp_path, 'cpu') is None


def test_clock_is_the_mean_over_the_cores_that_tell(tmp_path):
    for core, now in ((0, 1000000), (1, 2000000)):
        put(tmp_path, f'sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq', str(now))
        put(tmp_path, f'sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq', '2000000')
    put(tmp_path, 'sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq', '<unknown>')
    assert frequency_ratio(tmp_path) == 0.75


def test_the_hottest_processor_zone_counts_and_broken_sensors_do_not(tmp_path):
    for number, (kind, millis) in enumerate((
            ('acpitz', '90000'), ('x86_pkg_temp', '55000'), ('CPU-therm', '61500'),
            ('cpu-thermal', '-256000'), ('cpu-thermal', 'N/A'))):
        put(tmp_path, f'sys/class/thermal/thermal_zone{number}/type', kind)
        put(tmp_path, f'sys/class/thermal/thermal_zone{number}/temp', millis)
    assert zone_celsius(tmp_path, linux.PROCESSOR_ZONES) == 61.5
    assert zone_celsius(tmp_path, ('gpu',)) is None


@pytest.mark.parametrize(('limit_file', 'use_file'), [
    ('memory.max', 'memory.current'),
    ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes')])
def test_a_container_limit_counts_as_the_machine(tmp_path, limit_file, use_file):
    put(tmp_path, f'sys/fs/cgroup/{limit_file}', '1000000')
    put(tmp_path, f'sys/fs/cgroup/{use_file}', '400000')
    assert group_memory(tmp_path) == (1000000.0, 400000.0)
    found = LinuxProbe(root=tmp_path).sample(0.0)
    assert found['memory_total_bytes'].value == 1000000.0
    assert found['memory_available_bytes'].value == 600000.0


@pytest.mark.parametrize(('folder', 'limit_file', 'use_file', 'name'), [
    ('', 'memory.max', 'memory.current', 'inactive_file'),
    ('memory/', 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')])
def test_cached_files_of_a_container_are_still_available(tmp_path, folder, limit_file, use_file,
                                                         name):
    put(tmp_path, f'sys/fs/cgroup/{folder}{limit_file}', '1000000')
    put(tmp_path, f'sys/fs/cgroup/{folder}{use_file}', '900000')
    put(tmp_path, f'sys/fs/cgroup/{folder}memory.stat', f'anon 5\nactive_file 7\n{name} 300000')
    assert LinuxProbe(root=tmp_path).sample(0.0)['memory_available_bytes'].value == 400000.0
    put(tmp_path, f'sys/fs/cgroup/{folder}memory.stat', f'{name}\n{name} many')
    assert LinuxProbe(root=tmp_path).sample(0.0)['memory_available_bytes'].value == 100000.0


@pytest.mark.parametrize('limit', ['max', '9223372036854771712'])
def test_an_unlimited_container_is_no_limit(tmp_path, limit):
    put(tmp_path, 'sys/fs/cgroup/memory.max', limit)
    assert group_memory(tmp_path) == (None, None)


class Times:
    """Processor times that a test sets."""

    def __init__(self, monkeypatch):
        self.busy = self.idle = 0.0
        self.own = {}
        monkeypatch.setattr(linux, '_processor_times', lambda: (self.busy, self.idle))
        monkeypatch.setattr(linux, '_process_time', self.own.get)


def test_others_are_the_load_without_own_processes(monkeypatch):
    times, share = Times(monkeypatch), ProcessorShare()
    times.own.update({1: 5.0, 2: 1.0})
    assert share.sample([1, 2]) is None
    times.busy, times.idle = 1.5, 0.5
    times.own.update({1: 5.5, 2: 1.5})
    assert share.sample([1, 2]) == (0.75, 0.25)


def test_a_process_that_starts_or_ends_makes_no_jump(monkeypatch):
    times, share = Times(monkeypatch), ProcessorShare()
    times.own[1] = 100.0
    share.sample([1])
    times.busy, times.idle = 1.0, 1.0
    del times.own[1]
    times.own[3] = 50.0
    assert share.sample([1, 3]) == (0.5, 0.5)


def test_two_looks_at_once_give_the_same_answer(monkeypatch):
    times, share = Times(monkeypatch), ProcessorShare()
    share.sample([])
    times.busy, times.idle = 1.0, 1.0
    assert share.sample([]) == (0.5, 0.5)
    times.busy += 0.01
    assert share.sample([]) == (0.5, 0.5)


def test_own_processes_are_this_one_by_default():
    assert linux.own_process() == (os.getpid(),)
    assert linux._process_time(os.getpid()) > 0.0
    assert linux._process_time(2 ** 22 + 1) is None
