# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What others take of each processor core: the kernel's counters less this robot's own threads.

A thread's time counts for the core it was last seen on. Threads that wander between two looks
blur the cores, never the sum over all cores.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from crowdhmt_ros.resources.files import read_text
from crowdhmt_ros.resources.linux import SHORTEST_INTERVAL_S, own_process
from crowdhmt_ros.types import CoreLoad

_IDLE_FIELDS = (3, 4)
"""idle and iowait, of the numbers in a `cpu` line."""
_COUNTED = 8
"""user nice system idle iowait irq softirq steal; guest times are part of user already."""
_TICKS_AT, _CORE_AT = (11, 12), 36
"""Of the fields behind the name in a thread's `stat`: user and system time, last core."""


class _Core(NamedTuple):
    busy_ticks: float
    idle_ticks: float


class CoreLoads:
    """
    The load of each core between two samples; no sample ever waits.

    :param own_pids: processes that are not others
    :param root: folder that stands for '/'
    """

    def __init__(self, own_pids: Callable[[], Iterable[int]] = own_process, *,
                 root: Path = Path('/')) -> None:
        self._own_pids = own_pids
        self._proc = root / 'proc'
        self._ticks_per_s = float(os.sysconf('SC_CLK_TCK'))
        self._cores: Mapping[int, _Core] = {}
        self._threads: Mapping[int, Tuple[int, float]] = {}
        self._last: Tuple[CoreLoad, ...] = ()

    def sample(self) -> Tuple[CoreLoad, ...]:
        """Return each core since the last call, by number; () at first and where unknown."""
        cores = core_times((read_text(self._proc / 'stat') or '').splitlines())
        before = self._cores
        passed = _longest_ticks(before, cores) / self._ticks_per_s
        if before and passed < SHORTEST_INTERVAL_S:
            return self._last
        threads = self._own_threads()
        own = _own_ticks(self._threads, threads)
        self._cores, self._threads = cores, threads
        self._last = _loads(before, cores, own) if before else ()
        return self._last

    def _own_threads(self) -> Dict[int, Tuple[int, float]]:
        found = {}
        for pid in set(self._own_pids()):
            folder = self._proc / str(pid) / 'task'
            try:
                names = os.listdir(str(folder))
            except OSError:  # it has ended
                continue
            for name in names:
                thread = thread_time(read_text(folder / name / 'stat') or '')
                if thread is not None:
                    found[int(name)] = thread
        return found


def core_times(lines: Iterable[str]) -> Dict[int, _Core]:
    """Return core -> (busy, idle) ticks since the start, of the lines of /proc/stat."""
    found = {}
    for line in lines:
        words = line.split()
        if words and words[0].startswith('cpu') and words[0][3:].isdigit():
            ticks = [float(word) for word in words[1:1 + _COUNTED]]
            idle = sum(ticks[i] for i in _IDLE_FIELDS if i < len(ticks))
            found[int(words[0][3:])] = _Core(sum(ticks) - idle, idle)
    return found


def thread_time(text: str) -> Optional[Tuple[int, float]]:
    """Return (core last seen on, ticks used) of a thread's `stat`, None where it has ended."""
    fields = text.rpartition(')')[2].split()  # a name may hold blanks and brackets
    if len(fields) <= _CORE_AT:
        return None
    return int(fields[_CORE_AT]), sum(float(fields[i]) for i in _TICKS_AT)


def _longest_ticks(before: Mapping[int, _Core], now: Mapping[int, _Core]) -> float:
    return max((sum(now[c]) - sum(before[c]) for c in now if c in before), default=0.0)


def _own_ticks(before: Mapping[int, Tuple[int, float]], now: Mapping[int, Tuple[int, float]]
               ) -> Dict[int, float]:
    """Return core -> ticks of threads that were there before, half where one came from."""
    found: Dict[int, float] = {}
    for thread, (core, ticks) in now.items():
        if thread not in before:
            continue
        came_from, at = before[thread]
        for place in (came_from, core):
            found[place] = found.get(place, 0.0) + (ticks - at) / 2
    return found


def _loads(before: Mapping[int, _Core], now: Mapping[int, _Core], own: Mapping[int, float]
           ) -> Tuple[CoreLoad, ...]:
    cores = [core for core in sorted(now) if core in before
             and sum(now[core]) > sum(before[core])]
    passed = {c: sum(now[c]) - sum(before[c]) for c in cores}
    busy = {c: max(0.0, now[c].busy_ticks - before[c].busy_ticks) for c in cores}
    others = {c: min(busy[c], max(0.0, busy[c] - own.get(c, 0.0))) for c in cores}
    # Own time that was booked on the wrong core is missing on another: the sum is right.
    true_sum = max(0.0, sum(busy.values()) - sum(own.get(c, 0.0) for c in cores))
    blurred_sum = sum(others.values())
    scale = true_sum / blurred_sum if blurred_sum > true_sum else 1.0
    found: List[CoreLoad] = []
    for core in cores:
        idle = now[core].idle_ticks - before[core].idle_ticks
        found.append(CoreLoad(core, scale * others[core] / passed[core],
                              min(1.0, max(0.0, idle / passed[core]))))
    return tuple(found)
