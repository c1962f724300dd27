# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whose turn it is in one process: this robot's own frames come first, guests take the gaps.

A run of the engine cannot be interrupted, so a guest that has begun goes on; the robot's own
camera never waits for one. What a guest gets is the time between two frames.
"""
from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Optional, Sequence, Tuple, Type

import numpy as np

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.types import TensorSpec


class _Own:
    """The camera's side: two attribute accesses, and a wake-up only where a guest waits."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.busy = True

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        turns = self._turns
        turns.busy = False
        # A guest says that it waits before it looks at `busy`: one of the two sees the other.
        if turns.waiting:
            turns.wake()


class Turns:
    """One per process; the camera's single worker calls `own`, guests call `guest`."""

    def __init__(self) -> None:
        self.busy = False
        self.waiting = 0
        self._changed = threading.Condition()
        self._own = _Own(self)

    def own(self) -> _Own:
        """Return the context in which a frame of this robot is computed; never waits."""
        return self._own

    def guest(self, timeout_s: float) -> bool:
        """
        Wait until no frame of this robot is being computed.

        :param timeout_s: longest wait
        :returns: whether the guest may run now; False when its time is up
        """
        if not self.busy:
            return True
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self.waiting += 1
            try:
                while not self._free():
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0.0:
                        return False
                    self._changed.wait(left_s)
                return True
            finally:
                self.waiting -= 1

    def _free(self) -> bool:
        return not self.busy

    def wake(self) -> None:
        """Let waiting guests look again."""
        with self._changed:
            self._changed.notify_all()


class OwnExecutable:
    """An executable whose runs are this robot's own: guests wait meanwhile."""

    def __init__(self, executable: Executable, turns: Turns) -> None:
        self._executable = executable
        self._run = executable.run
        self._own = turns.own()

    @property
    def memory_bytes(self) -> int:
        """See `Executable.memory_bytes`."""
        return self._executable.memory_bytes

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """See `Executable.inputs`."""
        return self._executable.inputs

    @property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """See `Executable.outputs`."""
        return self._executable.outputs

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`."""
        with self._own:
            self._run(inputs, outputs)
