# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What does not change while a robot runs: processor, cores, cache, board."""
from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import List, Optional

from crowdhmt_ros.resources.files import matches, read_text

_UNITS = {'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}


def processor_model(root: Path = Path('/')) -> str:
    """Return the name of the processor as the kernel gives it, else the architecture."""
    for line in (read_text(root / 'proc' / 'cpuinfo') or '').splitlines():
        name, _, value = line.partition(':')
        if name.strip().lower() in ('model name', 'hardware') and value.strip():
            return ' '.join(value.split())
    return board_model(root) or platform.machine()


def board_model(root: Path = Path('/')) -> str:
    """Return the board's name from the device tree, '' on a PC."""
    return (read_text(root / 'proc' / 'device-tree' / 'model') or '').strip('\x00 \n')


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def device_key(engine: str, *, root: Path = Path('/')) -> str:
    """
    Return the name under which tables measured on this machine are kept.

    :param engine: the engine with its version, for example 'onnxruntime 1.31.1'
    """
    return f'{processor_model(root)}, {usable_cores()} cores, {engine}'


def energy_profile(root: Path = Path('/')) -> str:
    """Return which file of config/devices fits this machine."""
    return 'xavier_nx' if 'xavier nx' in board_model(root).lower() else 'generic_x86'


def last_level_cache_bytes(root: Path = Path('/')) -> Optional[float]:
    """Return this core's share of the last-level cache, None where the kernel does not tell."""
    deepest: Optional[float] = None
    deepest_level = 0
    for index in matches(root, 'sys/devices/system/cpu/cpu0/cache/index[0-9]*'):
        level = read_text(index / 'level') or ''
        size = _size_bytes(read_text(index / 'size') or '')
        if read_text(index / 'type') == 'Instruction' or size is None or not level.isdigit():
            continue
        if int(level) > deepest_level:
            sharers = len(_numbers(read_text(index / 'shared_cpu_list') or '0')) or 1
            deepest, deepest_level = size / sharers, int(level)
    return deepest


def _size_bytes(text: str) -> Optional[float]:
    digits, unit = text[:-1], text[-1:]
    if unit in _UNITS and digits.isdigit():
        return float(int(digits) * _UNITS[unit])
    return float(text) if text.isdigit() else None


def _numbers(text: str) -> List[int]:
    """Return the numbers of a kernel list such as '0-3,8'."""
    found: List[int] = []
    for part in text.split(','):
        low, _, high = part.partition('-')
        if low.isdigit():
            found.extend(range(int(low), int(high if high.isdigit() else low) + 1))
    return found
