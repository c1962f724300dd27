# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which processes of this machine are this robot's own nodes. Free of ROS."""
from __future__ import annotations

import os
import time
from typing import Callable, Sequence, Tuple

import psutil

REFRESH_S = 5.0
MARK = 'crowdhmt'


class OwnProcesses:
    """
    Finds the robot's processes by their command lines, looked up again every few seconds.

    :param namespace: of the robot, as in `/vehicle`; '/' for none
    """

    def __init__(self, namespace: str,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._namespace = namespace
        self._monotonic = monotonic
        self._found: Tuple[int, ...] = (os.getpid(),)
        self._next_s = -float('inf')

    def __call__(self) -> Tuple[int, ...]:
        """Return their process ids, this one among them."""
        now_s = self._monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + REFRESH_S
            others = (process.pid for process in psutil.process_iter(['cmdline'])
                      if belongs(process.info['cmdline'] or (), self._namespace))
            self._found = tuple({os.getpid(), *others})
        return self._found


def belongs(command_line: Sequence[str], namespace: str) -> bool:
    """Whether a command line is that of a node of the robot with this namespace."""
    if not any(MARK in word for word in command_line[:4]):
        return False
    named = [word.split(':=', 1)[1] for word in command_line if word.startswith('__ns:=')]
    return (named[-1] if named else '/') == namespace
