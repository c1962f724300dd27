# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Checks a memory plan without knowing how it was made.

It does not look at lifetimes: it goes through the steps, notes for each line of the arena which
tensor wrote it last, and asks at every read whether the lines still belong to what is read.
"""
from __future__ import annotations

from typing import Collection, Dict, Mapping, Sequence

import numpy as np

from crowdhmt_ros.engine.memory.lifetimes import ALIGNMENT_BYTES, Step
from crowdhmt_ros.errors import BackendError


def verify(steps: Sequence[Step], sizes: Mapping[str, int], offsets: Mapping[str, int],
           arena_bytes: int, *, kept: Collection[str] = ()) -> None:
    """
    Check that every read finds what was written.

    :param steps: in the order in which they run
    :param sizes: tensor -> bytes
    :param offsets: tensor -> place in the arena, of all that lie in it
    :param arena_bytes: of the arena
    :param kept: tensors that must be whole after the last step
    :raises BackendError: naming the first tensor that is misplaced or overwritten
    """
    arena = _Arena(sizes, offsets, arena_bytes)
    given = {name for step in steps for name in step.gives}
    for name in offsets:
        if name not in given:
            arena.write('the start', name, {})
    for step in steps:
        for name in step.reads:
            arena.read(step.name, name)
        for name in step.gives:
            may = {operand for result, operand in step.in_place if result == name}
            arena.write(step.name, name, {n: n in may for n in step.reads})
        for name in step.gives:
            arena.read(step.name, name)
    for name in kept:
        arena.read('the end', name)


class _Arena:
    """Which tensor each line of an arena holds."""

    def __init__(self, sizes: Mapping[str, int], offsets: Mapping[str, int], arena_bytes: int
                 ) -> None:
        self._numbers: Dict[str, int] = {name: i for i, name in enumerate(offsets, 1)}
        self._lines: Dict[str, slice] = {}
        for name, offset in offsets.items():
            if offset < 0 or offset % ALIGNMENT_BYTES or offset + sizes[name] > arena_bytes:
                raise BackendError('tensor %s of %d bytes at %d does not fit an arena of %d' % (
                    name, sizes[name], offset, arena_bytes))
            stop = offset + max(1, sizes[name])
            self._lines[name] = slice(offset // ALIGNMENT_BYTES, -(-stop // ALIGNMENT_BYTES))
        self._owner = np.zeros(-(-arena_bytes // ALIGNMENT_BYTES), np.int64)

    def read(self, step: str, name: str) -> None:
        if name in self._lines and not np.all(
                self._owner[self._lines[name]] == self._numbers[name]):
            raise BackendError('%s reads %s, which was overwritten' % (step, name))

    def write(self, step: str, name: str, operands: Mapping[str, bool]) -> None:
        """Take the lines; over an operand that may be written over only from its very start."""
        if name not in self._lines:
            return
        lines = self._lines[name]
        for other, in_place in operands.items():
            taken = self._lines.get(other, slice(0, 0))
            meets = lines.start < taken.stop and taken.start < lines.stop
            if meets and not (in_place and lines.start == taken.start):
                raise BackendError('%s writes %s over %s while it reads it' % (step, name, other))
        self._owner[lines] = self._numbers[name]
