# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the memory group that this process runs in leaves to it (Linux, cgroup version 1 or 2).

A robot's process is often started with a limit (MemoryMax= of its unit, --memory of its
container). Pages of files that it reads count there like its own; those that nobody has mapped -
of a log that is written, say - the kernel drops first, so that they count as free here.
"""
from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

VERSION_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file',
             'total_active_file', 'total_mapped_file')
VERSION_2 = ('memory.max', 'memory.current', 'inactive_file', 'active_file', 'file_mapped')
"""Files of limit and use; in memory.stat: pages of files on two lists, and those mapped."""
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
            yield from _upwards(mount / 'memory', name, VERSION_1)
        elif not kinds:
            yield from _upwards(mount, name, VERSION_2)


def _upwards(root: Path, name: str, files: Sequence[str]) -> Iterator[Tuple[int, int]]:
    """A container sees its own group as the root: what is not there is passed over."""
    group = root / name.strip('/')
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):  # version 2 says 'max': no limit
            limit, used = (int((folder / file).read_text()) for file in files[:2])
            yield limit, used - _droppable(folder, files[2:])
        if folder == root:
            return


def _droppable(folder: Path, names: Sequence[str]) -> int:
    """Return the bytes of pages of files that nobody has mapped."""
    try:
        text = (folder / 'memory.stat').read_text()
    except OSError:
        return 0
    found = {line.partition(' ')[0]: int(line.partition(' ')[2]) for line in text.splitlines()}
    inactive, active, mapped = (found.get(name, 0) for name in names)
    return max(0, inactive + active - mapped)
