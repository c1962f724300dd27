# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A batch answered part by part, with the memory of one part (P III-C1).

What flows between operators grows with the batch, the weights do not. A processor that one image
keeps busy gains nothing from more of them at once: 16 images of ResNet18 at 224 pixels need 64 MB
between operators, one after another 4 MB, in the same time.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Executable, check_buffers
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import TensorSpec


def part_of(batch: int, live_bytes: int, room_bytes: int) -> int:
    """
    Return how many images of a batch are to be computed at once: as many as the room allows.

    :param batch: images, at least 1
    :param live_bytes: of the largest live set for one image
    :param room_bytes: for what flows between operators
    :returns: a divisor of the batch, 1 at least
    """
    return max((part for part in range(1, batch + 1)
                if batch % part == 0 and part * live_bytes <= room_bytes), default=1)


class BatchExecutable:
    """
    Answers a batch with an executable for a part of it.

    :param inner: for the part; the first extent of all its tensors is the batch
    :param times: how many parts the batch has
    :raises BackendError: a tensor of the inner executable has no extents
    """

    def __init__(self, inner: Executable, times: int) -> None:
        self.inputs = _larger(inner.inputs, times)
        self.outputs = _larger(inner.outputs, times)
        self.memory_bytes = inner.memory_bytes
        self._inner = inner
        self._times = times

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`; each part reads and writes the caller's buffers themselves."""
        check_buffers(self.inputs, inputs, 'input')
        check_buffers(self.outputs, outputs, 'output')
        for turn in range(self._times):
            self._inner.run(*([_part(buffer, spec, turn) for buffer, spec in zip(buffers, specs)]
                              for buffers, specs in ((inputs, self._inner.inputs),
                                                     (outputs, self._inner.outputs))))


def _larger(specs: Sequence[TensorSpec], times: int) -> Tuple[TensorSpec, ...]:
    for spec in specs:
        if not spec.shape:
            raise BackendError('tensor %s has no batch that could be split' % spec.name)
    return tuple(replace(s, shape=(times * s.shape[0], *s.shape[1:])) for s in specs)


def _part(buffer: np.ndarray, spec: TensorSpec, turn: int) -> np.ndarray:
    count = spec.shape[0]
    return buffer[turn * count:(turn + 1) * count]
