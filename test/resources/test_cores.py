# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What others take of each core."""
from __future__ import annotations

import os

import pytest

from crowdhmt_ros.resources.cores import CoreLoads, core_times, thread_time

TICKS = os.sysconf('SC_CLK_TCK')


class Machine:
    """A /proc of two cores and one process with two threads."""

    def __init__(self, root):
        self.root = root
        self.busy, self.idle = [0, 0], [0, 0]
        self.threads = {7: [0, 0], 8: [1, 0]}  # core, ticks

    def write(self):
        lines = ['cpu %d 0 0 %d 0 0 0 0' % (sum(self.busy), sum(self.idle))]
        lines += ['cpu%d %d 0 0 %d 0 0 0 0 0 0' % (core, self.busy[core], self.idle[core])
                  for core in (0, 1)]
        (self.root / 'proc').mkdir(exist_ok=True)
        (self.root / 'proc' / 'stat').write_text('\n'.join([*lines, 'intr 5 4 3']))
        for thread, (core, ticks) in self.threads.items():
            folder = self.root / 'proc' / '7' / 'task' / str(thread)
            folder.mkdir(parents=True, exist_ok=True)
            fields = ['0'] * 50
            fields[0], fields[11], fields[36] = 'R', str(ticks), str(core)
            (folder / 'stat').write_text('%d (a (b) c) %s' % (thread, ' '.join(fields)))


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path)
    found.write()
    return found


def looking_at(machine):
    loads = CoreLoads(lambda: (7, 99), root=machine.root)
    assert loads.sample() == ()
    return loads


def test_own_threads_are_not_others(machine):
    loads = looking_at(machine)
    machine.busy, machine.idle = [TICKS, TICKS // 2], [0, TICKS // 2]
    machine.threads = {7: [0, TICKS // 4], 8: [1, TICKS // 2]}
    machine.write()
    first, second = loads.sample()
    assert (first.core, first.others_ratio, first.idle_ratio) == (0, pytest.approx(0.75), 0.0)
    assert (second.others_ratio, second.idle_ratio) == (0.0, pytest.approx(0.5))


def test_a_thread_that_moved_blurs_cores_but_not_the_sum(machine):
    loads = looking_at(machine)
    machine.busy = [TICKS, TICKS]
    machine.threads = {7: [1, TICKS], 8: [1, TICKS // 2]}
    machine.write()
    found = loads.sample()
    assert sum(core.others_ratio for core in found) == pytest.approx(0.5, abs=0.01)
    assert all(0.0 <= core.others_ratio <= 1.0 for core in found)


def test_a_look_too_soon_repeats_the_last_answer(machine):
    loads = looking_at(machine)
    machine.busy = [TICKS, TICKS]
    machine.write()
    found = loads.sample()
    machine.busy = [TICKS + 1, TICKS]
    machine.write()
    assert loads.sample() == found


def test_without_counters_nothing_is_known(tmp_path):
    loads = CoreLoads(lambda: (), root=tmp_path)
    assert loads.sample() == ()
    assert loads.sample() == ()


def test_names_with_brackets_and_ended_threads():
    assert thread_time('') is None
    assert thread_time('5 (x) R 1 2') is None
    assert core_times(['cpu 1 2 3', 'cpufreq 1', 'cpu3 1 0 1 5 1 0 0 1 9 9']) == {3: (3.0, 6.0)}


def test_the_real_machine_adds_up():
    loads = CoreLoads()
    loads.sample()
    end = os.times().elapsed + 0.3
    while os.times().elapsed < end:
        pass
    for core in loads.sample():
        assert 0.0 <= core.others_ratio <= 1.0
        assert core.others_ratio + core.idle_ratio <= 1.01
