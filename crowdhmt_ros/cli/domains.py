# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that no other run on this machine has drawn."""
from __future__ import annotations

import fcntl
import os
import random
import tempfile
from pathlib import Path
from typing import Dict

LOWEST_DOMAIN, HIGHEST_DOMAIN = 1, 101
"""Domains whose ports lie below the ephemeral ports of Linux."""
_held: Dict[int, int] = {}


def draw_domain() -> int:
    """
    Return a domain by chance and keep others from drawing it until this process ends.

    :returns: one that is free, or any one when all are taken or no lock can be written
    """
    numbers = list(range(LOWEST_DOMAIN, HIGHEST_DOMAIN + 1))
    random.SystemRandom().shuffle(numbers)
    for number in numbers:
        if _hold(number):
            return number
    return numbers[0]


def let_go(number: int) -> None:
    """Let others draw a domain again."""
    lock = _held.pop(number, None)
    if lock is not None:
        os.close(lock)


def _hold(number: int) -> bool:
    path = Path(tempfile.gettempdir()) / ('crowdhmt-domain-%d.lock' % number)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _held[number] = lock
    return True
