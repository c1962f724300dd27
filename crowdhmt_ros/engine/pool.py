# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is ready to run, and how more gets ready without anybody waiting.

Looking a resident executable up takes one dictionary access. Compiling happens in the
caller's thread (`prepare`) or in one background thread (`prepare_in_background`) that serves
the latest wish first; equal wishes are served together. A failed preparation changes nothing.
"""
from __future__ import annotations

import itertools
import logging
import threading
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from crowdhmt_ros.engine.backend import Backend, Executable, make_buffers
from crowdhmt_ros.errors import BackendError, CrowdHMTError
from crowdhmt_ros.types import Candidate, Segment

Done = Callable[[Candidate, Optional[Executable], Optional[CrowdHMTError]], None]
"""Told of a finished preparation: an executable or an error, never both."""

WARM_UP_RUNS = 2
_log = logging.getLogger(__name__)


class _Resident:
    """An executable and the turn at which it was last asked for."""

    def __init__(self, executable: Executable, used: int) -> None:
        self.executable = executable
        self.used = used


class Pool:
    """
    The executables of one backend, by candidate. All methods may be called from any thread.

    :param backend: the engine
    :param segments: segment_id -> segment, materialised on this device
    :param memory_bytes: candidate_id -> bytes as measured by calibration; an executable that
        is not in it counts with its own figure
    """

    def __init__(self, backend: Backend, segments: Mapping[str, Segment], *,
                 memory_bytes: Optional[Mapping[str, int]] = None) -> None:
        self._backend = backend
        self._segments = segments
        self._measured_bytes = dict(memory_bytes or {})
        self._resident: Dict[str, _Resident] = {}
        self._turns = itertools.count(1)
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._wishes: Dict[str, Tuple[Candidate, List[Done]]] = {}
        self._worker: Optional[threading.Thread] = None
        self._closed = False

    def get(self, candidate: Candidate) -> Optional[Executable]:
        """Return the executable of a candidate if it is resident, else None; never waits."""
        found = self._resident.get(candidate.candidate_id)
        if found is None:
            return None
        found.used = next(self._turns)
        return found.executable

    def prepare(self, candidate: Candidate) -> Executable:
        """
        Return the executable of a candidate, compiled and warmed up if need be.

        :raises BackendError: when it cannot be made; what is resident stays as it was
        """
        # One compilation at a time: the second thread that wants the same one finds it ready.
        with self._compiling:
            found = self.get(candidate)
            if found is not None:
                return found
            executable = self._compile(candidate)
            with self._lock:
                if self._closed:
                    raise BackendError('the pool is closed')
                self._resident[candidate.candidate_id] = _Resident(executable, next(self._turns))
            return executable

    def prepare_in_background(self, candidate: Candidate, done: Done) -> None:
        """
        Have a candidate prepared by the background thread.

        :param candidate: served before all earlier wishes that still wait
        :param done: called once in the background thread, for a candidate that is resident
            too; never called when the pool is closed first
        """
        with self._lock:
            if self._closed:
                raise BackendError('the pool is closed')
            _, waiting = self._wishes.pop(candidate.candidate_id, (candidate, []))
            self._wishes[candidate.candidate_id] = (candidate, [*waiting, done])
            self._start_worker()

    def evict_to(self, budget_bytes: float, keep: Iterable[str] = ()) -> Tuple[str, ...]:
        """
        Let go of executables, the least recently used first, until the rest fits.

        An executable that a frame still runs on lives until that frame is done.

        :param budget_bytes: what all resident executables may take together
        :param keep: candidate ids that stay in any case
        :returns: candidate ids that were let go
        """
        kept = frozenset(keep)
        gone: List[str] = []
        with self._lock:
            total = self._total_bytes()
            by_age = sorted(self._resident, key=lambda name: self._resident[name].used)
            for name in by_age:
                if total <= budget_bytes:
                    break
                if name not in kept:
                    total -= self._bytes_of(name)
                    del self._resident[name]
                    gone.append(name)
        return tuple(gone)

    def use_memory_table(self, memory_bytes: Mapping[str, int]) -> None:
        """Count candidates with these measured bytes from now on."""
        with self._lock:
            self._measured_bytes = dict(memory_bytes)

    @property
    def resident_ids(self) -> Tuple[str, ...]:
        """Candidate ids that can be switched to at once, the least recently used first."""
        with self._lock:
            return tuple(sorted(self._resident, key=lambda name: self._resident[name].used))

    @property
    def memory_bytes(self) -> int:
        """What all resident executables take together."""
        with self._lock:
            return self._total_bytes()

    def close(self) -> None:
        """Drop all wishes, wait for a running compilation, and let go of everything."""
        with self._lock:
            self._closed = True
            self._wishes.clear()
            worker = self._worker
        if worker is not None and worker is not threading.current_thread():
            worker.join()
        with self._lock:
            self._resident.clear()

    def _compile(self, candidate: Candidate) -> Executable:
        placed = candidate.placement.segments
        if len(placed) != 1 or placed[0].segment_id not in self._segments:
            raise BackendError('candidate %s needs segments %s, this robot has prepared %s' % (
                candidate.candidate_id, ', '.join(p.segment_id for p in placed) or 'none',
                ', '.join(sorted(self._segments)) or 'none'))
        executable = self._backend.compile(
            self._segments[placed[0].segment_id], candidate.engine)
        inputs, outputs = make_buffers(executable.inputs), make_buffers(executable.outputs)
        for _ in range(WARM_UP_RUNS):
            executable.run(inputs, outputs)
        return executable

    def _bytes_of(self, name: str) -> int:
        measured = self._measured_bytes.get(name)
        return self._resident[name].executable.memory_bytes if measured is None else measured

    def _total_bytes(self) -> int:
        return sum(self._bytes_of(name) for name in self._resident)

    def _start_worker(self) -> None:
        """Start the background thread unless it runs; the lock is held."""
        if self._worker is None and self._wishes and not self._closed:
            self._worker = threading.Thread(target=self._work, name='engine-pool', daemon=True)
            self._worker.start()

    def _work(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._wishes:
                        return
                    candidate, waiting = self._wishes.popitem()[1]
                self._serve(candidate, waiting)
        finally:
            # Reached by a defect in a callback too: the other wishes get a new thread.
            with self._lock:
                self._worker = None
                self._start_worker()

    def _serve(self, candidate: Candidate, waiting: List[Done]) -> None:
        executable: Optional[Executable] = None
        failure: Optional[CrowdHMTError] = None
        try:
            executable = self.prepare(candidate)
        except CrowdHMTError as error:
            _log.warning('%s could not be prepared: %s', candidate.candidate_id, error)
            failure = error
        if not self._closed:
            for done in waiting:
                done(candidate, executable, failure)
