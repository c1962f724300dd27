# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A slower device in place of this one: every inference is computed several times."""
from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Backend, Executable
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec


class RepeatingExecutable:
    """
    An executable that does its work several times over.

    :param inner: what it runs
    :param times: how often, at least 1
    """

    def __init__(self, inner: Executable, times: int) -> None:
        self._inner = inner
        self._times = times

    @property
    def memory_bytes(self) -> int:
        """As of the inner executable."""
        return self._inner.memory_bytes

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """As of the inner executable."""
        return self._inner.inputs

    @property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """As of the inner executable."""
        return self._inner.outputs

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute the same outputs from the same inputs, several times."""
        for _ in range(self._times):
            self._inner.run(inputs, outputs)


class RepeatingBackend:
    """
    Makes another backend look like a device that is slower by a whole factor.

    Real work is repeated rather than slept through, so that load, contention and energy
    behave as on the slower device.

    :param inner: the engine that does the work
    :param times: how often each inference is computed, at least 1
    :raises BackendError: when `times` is no whole number of at least 1
    """

    def __init__(self, inner: Backend, times: int) -> None:
        if int(times) != times or times < 1:
            raise BackendError('repeat is %r, it must be a whole number of at least 1' % times)
        self.inner = inner
        self.times = int(times)

    @property
    def name(self) -> str:
        """As of the inner engine: candidates name the engine, not the device."""
        return self.inner.name

    @property
    def version(self) -> str:
        """As of the inner engine."""
        return self.inner.version

    @property
    def warnings(self) -> Tuple[str, ...]:
        """As of the inner engine."""
        return self.inner.warnings

    def providers(self) -> Tuple[str, ...]:
        """Return the providers of the inner engine."""
        return self.inner.providers()

    def precisions(self) -> Tuple[str, ...]:
        """Return the precisions of the inner engine."""
        return self.inner.precisions()

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """Return the refusal of the inner engine."""
        return self.inner.refusal(segment, options)

    def compile(self, segment: Segment, options: EngineOptions) -> RepeatingExecutable:
        """Compile with the inner engine; see `Backend.compile`."""
        return RepeatingExecutable(self.inner.compile(segment, options), self.times)
