# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Folders of one process in a cache that many share, which no process leaves behind for good.

Whoever makes one holds a lock on it. The kernel lets go of that lock with the process, however it
ends, and so tells the next one what nobody owns any more - also of processes of another
container, whose numbers mean nothing here.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Tuple


@contextlib.contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """
    Lend a new folder that goes at the end; `sweep` removes it where this process has none.

    :param parent: where it is made; it is there
    :param prefix: begins its name, and the names of all of its kind
    :raises OSError: no folder can be made there
    """
    descriptor, folder = _claimed(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
        os.close(descriptor)


def sweep(parent: Path, *prefixes: str) -> int:
    """
    Remove the folders of processes that have ended; those of living ones stay.

    :param parent: where they lie; it need not be there
    :param prefixes: begin their names
    :returns: how many were removed
    """
    removed = 0
    for folder in [path for prefix in prefixes for path in parent.glob(prefix + '*')]:
        try:
            descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # its owner has just removed it
            continue
        # Refused while the owner lives, and where the file system knows no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, folder):
                shutil.rmtree(str(folder), ignore_errors=True)
                removed += 1
        os.close(descriptor)
    return removed


def _claimed(parent: Path, prefix: str) -> Tuple[int, Path]:
    """Return a new folder with the lock on it, which is held until it is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=str(parent)))
        try:
            descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # swept between the two: another one is made
            continue
        with contextlib.suppress(OSError):  # without locks nobody sweeps either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, folder):
            return descriptor, folder
        os.close(descriptor)


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is the one that lies there now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(str(folder)))
    except OSError:
        return False
