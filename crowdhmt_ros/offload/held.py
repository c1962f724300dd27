# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The segments that leases keep compiled, each with buffers of its own."""
from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.served import GuestPool, Runnable
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec


@dataclass(frozen=True, eq=False)
class Ready:
    """A segment with its buffers; they stay, so that the engine binds them once."""

    executable: Runnable
    inputs: Tuple[np.ndarray, ...]
    outputs: Tuple[np.ndarray, ...]


class Held:
    """
    Keeps segments for as long as somebody has a lease on them; any thread.

    :param pool: compiles and keeps
    :param options: how the engine runs them
    :param memory_bytes: what all together may take
    """

    def __init__(self, pool: GuestPool, options: EngineOptions, memory_bytes: float) -> None:
        self._pool = pool
        self._options = options
        self._memory_bytes = memory_bytes
        self._ready: Dict[str, Ready] = {}
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> float:
        """What all that is held takes."""
        return self._pool.held_bytes

    @property
    def headroom_bytes(self) -> float:
        """What more of it may take."""
        return max(0.0, self._memory_bytes - self.bytes)

    def get(self, segment_id: str) -> Optional[Ready]:
        """Return a segment ready to run, None when nobody holds it."""
        return self._ready.get(segment_id)

    def hold(self, segments: Iterable[Segment]) -> None:
        """
        Compile and keep all of some segments, or none.

        :raises Refused: no room, or one cannot be compiled
        """
        wanted = list(segments)
        self._check_expected(wanted)
        held: List[str] = []
        try:
            for segment in wanted:
                self._hold(segment)
                held.append(segment.segment_id)
            self._check_taken()
        except why.Refused:
            self.let_go(held)
            raise
        except CrowdHMTError as error:
            self.let_go(held)
            raise why.Refused(why.FAILED, 'a segment cannot be compiled: %s' % error) from error

    def let_go(self, segment_ids: Iterable[str]) -> None:
        """Undo one `hold` of each."""
        for segment_id in segment_ids:
            self._pool.unhold(segment_id, self._options)
            with self._lock:
                self._times[segment_id] -= 1
                if self._times[segment_id] <= 0:
                    del self._times[segment_id]
                    self._ready.pop(segment_id, None)

    def _hold(self, segment: Segment) -> None:
        executable = self._pool.hold(segment.segment_id, self._options)
        with self._lock:
            self._times[segment.segment_id] += 1
            if segment.segment_id not in self._ready:
                self._ready[segment.segment_id] = Ready(
                    executable, buffers(segment.inputs), buffers(segment.outputs))

    def _check_expected(self, wanted: Sequence[Segment]) -> None:
        """Refuse what is known to be too large before it is compiled."""
        expected = sum(
            self._pool.segment_bytes(s.segment_id, self._options) or s.weight_bytes
            for s in wanted if s.segment_id not in self._ready)
        if expected > self.headroom_bytes:
            raise why.Refused(why.MEMORY, '%.1f MB are left for peers, the segments take %.1f MB'
                              % (self.headroom_bytes / 1e6, expected / 1e6), why.LATER_S)

    def _check_taken(self) -> None:
        if self.bytes > self._memory_bytes:
            raise why.Refused(
                why.MEMORY, 'peers are given %.1f MB, with these segments they take %.1f MB' % (
                    self._memory_bytes / 1e6, self.bytes / 1e6), why.LATER_S)


def buffers(specs: Sequence[TensorSpec]) -> Tuple[np.ndarray, ...]:
    """Return one zeroed buffer for each spec."""
    return tuple(np.zeros(spec.shape, dtype=spec.dtype) for spec in specs)
