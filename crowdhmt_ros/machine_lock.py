# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The machine lock: measurements run alone, long training waits meanwhile.

The lock is advisory and vanishes with the process that holds it.
"""
from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

logger = logging.getLogger(__name__)

POLL_S = 0.5


def lock_path() -> Path:
    """Return the file that all users of this machine lock."""
    return Path(tempfile.gettempdir()) / 'crowdhmt-machine.lock'


def _open() -> int:
    descriptor = os.open(lock_path(), os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.suppress(PermissionError):  # another user's file is open to all already
        os.fchmod(descriptor, 0o666)
    return descriptor


@contextlib.contextmanager
def hold_machine(waiting: Optional[Callable[[], None]] = None) -> Iterator[None]:
    """
    Hold the machine for a measurement; waits for the one before.

    :param waiting: called again and again until it is free; what it raises ends the wait
    """
    descriptor = _open()
    try:
        if waiting is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        while waiting is not None and not _is_taken(descriptor):
            waiting()
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held() -> bool:
    """Whether someone holds the machine now."""
    descriptor = _open()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def wait_while_held() -> float:
    """
    Wait until nobody holds the machine.

    :returns: seconds waited, 0 when the machine was free
    """
    started = time.monotonic()
    if not is_held():
        return 0.0
    logger.info('the machine is held by a measurement; waiting')
    while is_held():
        time.sleep(POLL_S)
    return time.monotonic() - started
