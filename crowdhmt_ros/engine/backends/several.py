# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several engines as one, so that a pool may hold executables of all of them."""
from __future__ import annotations

import threading
from typing import Callable, Dict, Mapping, Tuple

from crowdhmt_ros.engine.backend import Backend, Executable
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment


class SeveralBackend:
    """
    Hands each segment to the engine that its options name; an engine starts when it is needed.

    One that does not start is not tried again: its reason is what it refuses with.

    :param first: the engine whose name, providers and precisions stand for all; it starts now
    :param makers: engine -> what makes it, the first among them
    :raises BackendError: when the first one does not start
    """

    def __init__(self, first: str, makers: Mapping[str, Callable[[], Backend]]) -> None:
        self._makers = dict(makers)
        self._engines: Dict[str, Backend] = {}
        self._failed: Dict[str, str] = {}
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
        """Of all engines that have started."""
        return tuple(text for engine in self._engines.values() for text in engine.warnings)

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
        return self.engine(options.backend).compile(segment, options)
