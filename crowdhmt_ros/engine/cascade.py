# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A variant that stops at the first exit that is sure (P III-A1).

Its steps are executables: each but the last gives an exit's scores and the features from which
the next goes on. What nobody needs is not computed.
"""
from __future__ import annotations

import contextlib
import math
import threading
from dataclasses import dataclass
from typing import ContextManager, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Executable, make_buffers
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EarlyExit, TensorSpec


@dataclass(frozen=True, eq=False)
class _Step:
    run: Executable
    buffers: Tuple[np.ndarray, ...]
    rule: Optional[EarlyExit]


class Cascade:
    """
    Steps as one executable: it takes what the first takes and gives the scores that answered.

    :param steps: executables with the rule by which each but the last may answer
    :param last_exit: number of the exit that the last step gives
    :param turn: entered while a frame is computed, from its first step to its answer
    :raises BackendError: a step does not go on from the one before
    """

    def __init__(self, steps: Sequence[Tuple[Executable, Optional[EarlyExit]]], last_exit: int, *,
                 turn: Optional[ContextManager[None]] = None) -> None:
        _check(steps)
        self.executables = tuple(executable for executable, _ in steps)
        self.inputs: Tuple[TensorSpec, ...] = tuple(steps[0][0].inputs)
        self.outputs: Tuple[TensorSpec, ...] = tuple(steps[-1][0].outputs)
        self._last_exit = last_exit
        self._turn: ContextManager[None] = contextlib.nullcontext() if turn is None else turn
        self._lock = threading.Lock()
        self._early = [_Step(e, make_buffers(e.outputs), rule) for e, rule in steps[:-1]]
        self._last = steps[-1][0]

    @property
    def memory_bytes(self) -> int:
        """What all steps take."""
        return sum(e.memory_bytes for e in self.executables)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`."""
        self.answer(inputs, outputs)

    def answer(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> int:
        """
        Compute outputs from inputs, as far as needed.

        :param outputs: the scores of the exit that answers are written to the first
        :returns: number of that exit
        :raises BackendError: when the engine fails or a buffer does not fit
        """
        given = tuple(inputs)
        with self._lock, self._turn:
            for step in self._early:
                step.run.run(given, step.buffers)
                rule = step.rule
                assert rule is not None
                if confidence(step.buffers[0], rule.temperature) >= rule.threshold:
                    np.divide(step.buffers[0], np.float32(rule.temperature), out=outputs[0])
                    return rule.exit_index
                given = step.buffers[1:]
            self._last.run(given, outputs)
        return self._last_exit


def confidence(scores: np.ndarray, temperature: float = 1.0) -> float:
    """
    Return the highest probability; NaN, which reaches no threshold, where scores are not finite.

    :param scores: (1, classes) float32
    :param temperature: what they are divided by before softmax
    """
    values = scores.astype(np.float64)
    with np.errstate(invalid='ignore', over='ignore'):
        total = float(np.exp((values - values.max()) / temperature).sum())
    return 1.0 / total if math.isfinite(total) and total > 0.0 else math.nan


def _check(steps: Sequence[Tuple[Executable, Optional[EarlyExit]]]) -> None:
    if len(steps) < 2 or any(rule is None for _, rule in steps[:-1]):
        raise BackendError('a variant that answers early needs a rule for each step but the last')
    scores = [(o.shape, o.dtype) for o in steps[-1][0].outputs]
    for (before, _), (after, _) in zip(steps, steps[1:]):
        gives = [(o.shape, o.dtype) for o in before.outputs]
        takes = [(i.shape, i.dtype) for i in after.inputs]
        if gives[:1] != scores or gives[1:] != takes:
            raise BackendError('a step gives %r, the next takes %r and the last gives %r: the '
                               'bundle is not what it claims to be' % (gives, takes, scores))
