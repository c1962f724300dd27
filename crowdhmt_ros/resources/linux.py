# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What any Linux machine tells: processor, memory, pressure, clock, temperature.

Every file may be absent (containers, boards, old kernels); then the reading is absent too.
`root` stands for '/', so that tests can use a folder.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, Iterable, Mapping, Optional, Tuple

import psutil

from crowdhmt_ros.resources.files import matches, read_number, read_text
from crowdhmt_ros.types import Reading

SHORTEST_INTERVAL_S = 0.05
"""Processor times tick every 10 ms: below this a share is noise."""
PROCESSOR_ZONES = ('cpu', 'x86_pkg', 'coretemp', 'k10temp', 'soc', 'package')
"""Parts of the names of thermal zones that belong to the processor."""
PLAUSIBLE_CELSIUS = (-40.0, 150.0)
UNLIMITED_BYTES = 1 << 60
"""A control group without a limit answers with a number near 2^63."""


def own_process() -> Tuple[int, ...]:
    """Return the process ids that belong to this robot when nobody knows more."""
    return (os.getpid(),)


class LinuxProbe:
    """
    Readings from psutil, /proc and /sys.

    :param own_pids: returns the processes of this robot's nodes, whose load is not others'
    :param root: folder that stands for '/'
    """

    def __init__(self, own_pids: Callable[[], Iterable[int]] = own_process, *,
                 root: Path = Path('/')) -> None:
        self._own_pids = own_pids
        self._root = root
        self._processor = ProcessorShare()

    def sample(self, now_s: float) -> Mapping[str, Reading]:
        """Return what can be read; processor shares from the second call on."""
        found: Dict[str, Optional[float]] = dict(self._memory())
        load = self._processor.sample(self._own_pids())
        if load is not None:
            found['cpu_load_ratio'], found['cpu_others_ratio'] = load
        found['memory_pressure_ratio'] = pressure_ratio(self._root, 'memory')
        found['cpu_pressure_ratio'] = pressure_ratio(self._root, 'cpu')
        found['cpu_frequency_ratio'] = frequency_ratio(self._root)
        found['cpu_temperature_celsius'] = zone_celsius(self._root, PROCESSOR_ZONES)
        return {name: Reading(value) for name, value in found.items() if value is not None}

    def _memory(self) -> Mapping[str, Optional[float]]:
        memory = psutil.virtual_memory()
        total, available = float(memory.total), float(memory.available)
        limit, used = group_memory(self._root)
        if limit is not None and limit < total:
            total = limit
            available = min(available, max(0.0, limit - (used or 0.0)))
        return {'memory_total_bytes': total, 'memory_available_bytes': available}


class ProcessorShare:
    """The load between two samples, of all and of others; no sample ever waits."""

    def __init__(self) -> None:
        self._total: Optional[Tuple[float, float]] = None
        self._own: Dict[int, float] = {}
        self._last: Optional[Tuple[float, float]] = None

    def sample(self, own_pids: Iterable[int]) -> Optional[Tuple[float, float]]:
        """
        Return (load, others' part of it) since the last call, both of all cores, 0..1.

        :param own_pids: processes that are not others; ones that ended count from their last
            sample
        """
        busy, idle = _processor_times()
        own = {pid: t for pid, t in ((p, _process_time(p)) for p in set(own_pids))
               if t is not None}
        before, self._total = self._total, (busy, idle)
        if before is None:
            self._own = own
            return None
        passed = (busy + idle) - (before[0] + before[1])
        if passed < SHORTEST_INTERVAL_S:
            self._total = before
            return self._last
        load = min(1.0, max(0.0, (busy - before[0]) / passed))
        mine = sum(t - self._own[pid] for pid, t in own.items() if pid in self._own) / passed
        self._own = own
        self._last = (load, min(load, max(0.0, load - mine)))
        return self._last


def _processor_times() -> Tuple[float, float]:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, 'iowait', 0.0)
    # guest times are part of user and nice already
    counted = ('user', 'nice', 'system', 'irq', 'softirq', 'steal')
    return sum(getattr(times, name, 0.0) for name in counted), idle


def _process_time(pid: int) -> Optional[float]:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def pressure_ratio(root: Path, resource: str) -> Optional[float]:
    """
    Return the share of the last 10 s in which some task waited for `resource`.

    :param root: folder that stands for '/'
    :param resource: 'cpu', 'memory' or 'io'
    """
    text = read_text(root / 'proc' / 'pressure' / resource) or ''
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == 'some':
            for word in words[1:]:
                name, _, value = word.partition('=')
                if name == 'avg10':
                    return _percent(value)
    return None


def _percent(text: str) -> Optional[float]:
    try:
        return min(1.0, max(0.0, float(text) / 100.0))
    except ValueError:
        return None


def frequency_ratio(root: Path) -> Optional[float]:
    """Return the mean over all cores of the current over the highest clock, 0..1."""
    ratios = []
    for folder in matches(root, 'sys/devices/system/cpu/cpu[0-9]*/cpufreq'):
        now, highest = (read_number(folder / name)
                        for name in ('scaling_cur_freq', 'cpuinfo_max_freq'))
        if now is not None and highest:
            ratios.append(min(1.0, now / highest))
    return sum(ratios) / len(ratios) if ratios else None


def zone_celsius(root: Path, names: Iterable[str]) -> Optional[float]:
    """
    Return the highest temperature of the thermal zones whose type holds one of `names`.

    Values outside of what silicon survives are a sensor that is switched off, hence absent.
    """
    wanted, found = tuple(names), []
    for zone in matches(root, 'sys/class/thermal/thermal_zone[0-9]*'):
        kind = (read_text(zone / 'type') or '').lower()
        millis = read_number(zone / 'temp')
        if millis is None or not any(name in kind for name in wanted):
            continue
        celsius = millis / 1000.0
        if PLAUSIBLE_CELSIUS[0] < celsius < PLAUSIBLE_CELSIUS[1]:
            found.append(celsius)
    return max(found) if found else None


def group_memory(root: Path) -> Tuple[Optional[float], Optional[float]]:
    """
    Return (limit, use) of this container's control group in bytes, None where unlimited.

    Cached file pages that nobody used lately count as used by the kernel, which gives them away
    as soon as anybody asks: they are taken off, as `MemAvailable` does for the whole machine.
    """
    group = root / 'sys' / 'fs' / 'cgroup'
    for folder, limit_file, use_file, idle_name in (
            (group, 'memory.max', 'memory.current', 'inactive_file'),
            (group / 'memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes',
             'total_inactive_file')):
        limit = read_number(folder / limit_file)
        if limit is not None and 0 < limit < UNLIMITED_BYTES:
            used = read_number(folder / use_file)
            if used is not None:
                used = max(0.0, used - _counter(folder / 'memory.stat', idle_name))
            return limit, used
    return None, None


def _counter(path: Path, name: str) -> float:
    """Return the number behind `name` in a file of lines 'name number', 0 without one."""
    for line in (read_text(path) or '').splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return float(words[1])
    return 0.0
