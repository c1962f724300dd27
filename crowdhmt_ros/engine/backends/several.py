# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several engines as one, so that a pool may hold executables of all of them."""
from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Backend, Executable, check_buffers
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

FAST = 'fast'
_log = logging.getLogger(__name__)


class FallingBack:
    """
    An executable in whose place the first engine goes on when its own fails.

    The frame at which it fails is answered all the same, only later.

    :param inner: of the engine that was asked for
    :param instead: makes that of the first engine; is told the failure
    """

    def __init__(self, inner: Executable, instead: Callable[[BackendError], Executable]) -> None:
        self._inner = inner
        self._instead = instead
        self.inputs: Tuple[TensorSpec, ...] = inner.inputs
        self.outputs: Tuple[TensorSpec, ...] = inner.outputs
        self._changing = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """As of the executable that runs."""
        return self._inner.memory_bytes

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """See `Executable.run`; raises what the first engine raises, if that fails too."""
        inner = self._inner
        try:
            inner.run(inputs, outputs)
        except BackendError as error:
            check_buffers(self.inputs, inputs, 'input')  # the caller's fault is not the engine's
            check_buffers(self.outputs, outputs, 'output')
            with self._changing:
                if self._inner is inner:
                    self._inner = self._instead(error)
            self._inner.run(inputs, outputs)


class SeveralBackend:
    """
    Hands each segment to the engine that its options name; an engine starts when it is needed.

    One that does not start is not tried again: its reason is what it refuses with. One that fails
    while it runs gives way to the first one, for that segment and as long as this lives.

    :param first: the engine whose name, providers and precisions stand for all; it starts now
    :param makers: engine -> what makes it, the first among them
    :raises BackendError: when the first one does not start
    """

    def __init__(self, first: str, makers: Mapping[str, Callable[[], Backend]]) -> None:
        self._makers = dict(makers)
        self._engines: Dict[str, Backend] = {}
        self._failed: Dict[str, str] = {}
        self._gave_way: Set[Tuple[str, EngineOptions]] = set()
        self._warnings: List[str] = []
        self._starting = threading.Lock()
        self._first = self.engine(first)

    @property
    def name(self) -> str:
        """Name of the first engine."""
        return self._first.name

    @property
    def version(self) -> str:
        """Of the first engine; tables keep each engine's own, see `engine`."""
        return self._first.version

    @property
    def warnings(self) -> Tuple[str, ...]:
        """Of all engines that have started, and which of them gave way."""
        return (*(text for engine in tuple(self._engines.values()) for text in engine.warnings),
                *self._warnings)

    def providers(self) -> Tuple[str, ...]:
        """Return those of the first engine."""
        return self._first.providers()

    def precisions(self) -> Tuple[str, ...]:
        """Return those of the first engine."""
        return self._first.precisions()

    def engine(self, name: str) -> Backend:
        """
        Return an engine, started if need be.

        :raises BackendError: when there is none of that name or it does not start
        """
        found = self._engines.get(name)
        if found is not None:
            return found
        with self._starting:
            if name not in self._engines:
                self._engines[name] = self._start(name)
            return self._engines[name]

    def started(self, name: str) -> Optional[Backend]:
        """Return an engine if it runs already; it is not started."""
        return self._engines.get(name)

    def _start(self, name: str) -> Backend:
        if name not in self._makers:
            raise BackendError('there is no backend %r, choose one of %s' % (
                name, ', '.join(sorted(self._makers))))
        if name in self._failed:
            raise BackendError(self._failed[name])
        try:
            return self._makers[name]()
        except BackendError as error:
            self._failed[name] = str(error)
            raise

    def refusal(self, segment: Segment, options: EngineOptions) -> str:
        """See `Backend.refusal`; an engine that does not start refuses with its reason."""
        try:
            engine = self.engine(options.backend)
        except BackendError as error:
            return str(error)
        return engine.refusal(segment, options)

    def compile(self, segment: Segment, options: EngineOptions) -> Executable:
        """See `Backend.compile`."""
        if options.backend == self._first.name:
            return self._first.compile(segment, options)
        if (segment.segment_id, options) in self._gave_way:
            return self._first.compile(segment, self._of_first(options))
        return FallingBack(self.engine(options.backend).compile(segment, options),
                           lambda error: self._give_way(segment, options, error))

    def _give_way(self, segment: Segment, options: EngineOptions, error: BackendError
                  ) -> Executable:
        text = '%s failed at %s (%s): %s goes on, as long as this process runs' % (
            options.backend, segment.segment_id, error, self._first.name)
        self._gave_way.add((segment.segment_id, options))
        self._warnings.append(text)
        _log.error('%s', text)
        return self._first.compile(segment, self._of_first(options))

    def _of_first(self, options: EngineOptions) -> EngineOptions:
        able = options.precision in self._first.precisions()
        return replace(options, backend=self._first.name, memory_mode=FAST,
                       precision=options.precision if able else 'fp32')
