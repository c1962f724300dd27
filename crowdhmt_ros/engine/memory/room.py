# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What memory is left to this process: by its group (Linux, cgroup version 1 or 2), by the machine.

A robot's process is often started with a limit (MemoryMax= of its unit, --memory of its
container). Pages of files that it reads count there like its own; those that nobody has mapped -
of a log that is written, say - the kernel drops first, so that they count as free here.

Work behind a robot's back runs in processes of its own in the same group. They ask before they
take much, and are the first that the kernel ends where all the same too much is taken.
"""
from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, Optional, Sequence, Tuple

import psutil

from crowdhmt_ros.errors import BackendError

VERSION_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file',
             'total_active_file', 'total_mapped_file')
VERSION_2 = ('memory.max', 'memory.current', 'inactive_file', 'active_file', 'file_mapped')
"""Files of limit and use; in memory.stat: pages of files on two lists, and those mapped."""
PROC, MOUNT = Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')
OWN_SCORE = Path('/proc/self/oom_score_adj')
FIRST_TO_GO = '1000'
CHILD_BYTES = 40 << 20
"""What Python and an engine take for themselves in a process of their own: 26 to 37 MB."""
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes a number near 2**63 where there is no limit."""


class RoomError(BackendError):
    """What is asked for would take more memory than is left now; later it may do."""


def free_bytes() -> int:
    """Return what may still be taken: until a limit of the memory groups, or of the machine."""
    free = int(psutil.virtual_memory().available)
    room = room_bytes()
    return free if room is None else min(free, room)


def be_first_to_go(path: Path = OWN_SCORE) -> None:
    """Let the kernel end this process, and those that it starts, before any other for memory."""
    with contextlib.suppress(OSError):
        path.write_text(FIRST_TO_GO)


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
