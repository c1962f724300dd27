# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the memory group that this process runs in leaves to it (Linux, cgroup version 1 or 2).

A robot's process is often started with a limit (MemoryMax= of its unit, --memory of its
container). Pages of files that it reads count there like its own.
"""
from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, Optional, Tuple

PROC, MOUNT = Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a number near 2**63 where there is no limit."""


def room_bytes(proc: Path = PROC, mount: Path = MOUNT) -> Optional[int]:
    """
    Return the bytes until the tightest limit of this process's memory groups.

    :returns: at least 0, None where no group limits it or none can be read
    """
    left = [limit - used for limit, used in _groups(proc, mount) if limit < _NO_LIMIT_BYTES]
    return max(0, min(left)) if left else None


def _groups(proc: Path, mount: Path) -> Iterator[Tuple[int, int]]:
    """Yield (limit, used) of this process's group and of those around it."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, name = line.split(':', 2)
        if 'memory' in kinds.split(','):
            yield from _upwards(mount / 'memory', name, 'limit_in_bytes', 'usage_in_bytes')
        elif not kinds:
            yield from _upwards(mount, name, 'max', 'current')


def _upwards(root: Path, name: str, limit: str, used: str) -> Iterator[Tuple[int, int]]:
    """A container sees its own group as the root: what is not there is passed over."""
    group = root / name.strip('/')
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):  # version 2 says 'max': no limit
            yield (int((folder / ('memory.' + limit)).read_text()),
                   int((folder / ('memory.' + used)).read_text()))
        if folder == root:
            return
