# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From a plan to what answers frames: at once when it is resident, else when it is ready.

Free of ROS. While a candidate is being prepared the old one goes on answering; when that fails
the old plan stays. The latest wish wins: a preparation that nobody wants any more is dropped.
"""
from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Callable, Deque, Iterable, Optional, Protocol, Tuple

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import CrowdHMTError, OffloadError
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.nodes.helped import HelpedPlans, Ready, Terms
from crowdhmt_ros.types import Candidate

_log = logging.getLogger(__name__)
KEPT_TIMES = 1000


class Switchable(Protocol):
    """What answers frames; `crowdhmt_ros.executor.Executor` is one."""

    def switch(self, candidate: Candidate, executable: Executable, plan_seq: int) -> None:
        """Let another executable answer from the next frame on."""

    def switch_hedged(self, candidate: Candidate, hedge: Hedge, fallback: Candidate,
                      executable: Executable, plan_seq: int) -> None:
        """Let a candidate with a peer answer from the next frame on."""


def _nothing() -> None:
    return


class PlanSwitcher:
    """
    Brings plans into force.

    `switched` may be replaced: it is called after each change, in the thread that made it.

    :param executor: what answers frames
    :param pool: what is ready to run
    :param in_force_id: candidate that answers already, '' for none
    :param helped: prepares candidates that a peer takes part in, None where none can
    """

    def __init__(self, executor: Switchable, pool: Pool, *, in_force_id: str = '',
                 helped: Optional[HelpedPlans] = None) -> None:
        self._executor = executor
        self._pool = pool
        self._lock = threading.Lock()
        self._wish: Tuple[Optional[Candidate], int] = (None, 0)
        self._in_force_id = in_force_id
        self._helped = helped
        self._ready: Optional[Ready] = None
        self.failure = ''
        self.preparing = ''
        self.switches = 0
        self.switched: Callable[[], None] = _nothing
        self.resident_switch_s: Deque[float] = deque(maxlen=KEPT_TIMES)

    def apply(self, candidate: Candidate, plan_seq: int, entered_s: Optional[float] = None, *,
              terms: Optional[Terms] = None) -> bool:
        """
        Bring a plan into force, or start to.

        :param candidate: what the plan chose
        :param plan_seq: number of the plan
        :param entered_s: `time.perf_counter()` when the plan came in, for the record
        :param terms: fallback and time, for a candidate that a peer takes part in
        :returns: whether it is in force now; False while it is being prepared
        :raises CrowdHMTError: it can never be brought into force; the old plan stays
        """
        with self._lock:
            self._wish = (candidate, plan_seq)
        if terms is not None:
            return self._apply_helped(candidate, terms)
        executable = self._pool.get(candidate)
        if executable is not None:
            in_force, changed = self._switch(candidate, executable)
            if entered_s is not None:
                self.resident_switch_s.append(time.perf_counter() - entered_s)
            if changed:
                self.switched()
            return in_force
        with self._lock:
            asked_for = self.preparing == candidate.candidate_id
            self.preparing = candidate.candidate_id
        if not asked_for:
            self._pool.prepare_in_background(candidate, self._prepared)
        return False

    def drop_help(self) -> None:
        """Give back what is reserved at a peer, at the end."""
        self._keep_help(None)

    def _apply_helped(self, candidate: Candidate, terms: Terms) -> bool:
        ready = self._ready
        if ready is not None and ready.serves(candidate, terms):
            ready.hedge.budget_s = terms.budget_s
            self._bring_in(ready)
            return True
        if self._helped is None:
            raise OffloadError('%s needs a peer, offloading is off here' % candidate.candidate_id)
        with self._lock:
            asked_for = self.preparing == candidate.candidate_id
            self.preparing = candidate.candidate_id
        if not asked_for:
            self._helped.prepare_in_background(candidate, terms, self._help_prepared)
        return False

    def _help_prepared(self, candidate: Candidate, ready: Optional[Ready],
                       error: Optional[CrowdHMTError]) -> None:
        """Take what was made ready, or not, in the background."""
        with self._lock:
            if self.preparing == candidate.candidate_id:
                self.preparing = ''
            wanted, plan_seq = self._wanted(candidate), self._wish[1]
        if ready is not None:
            self._bring_in(ready)
        elif wanted:
            self._fail(plan_seq, candidate, error)

    def _bring_in(self, ready: Ready) -> None:
        """Let a candidate with a peer answer, unless another plan has come in since."""
        with self._lock:
            wanted, plan_seq = self._wanted(ready.candidate), self._wish[1]
            changed = wanted and self._in_force_id != ready.candidate.candidate_id
            if wanted:
                self._executor.switch_hedged(ready.candidate, ready.hedge, ready.terms.fallback,
                                             ready.executable, plan_seq)
                self._in_force_id, self.failure = ready.candidate.candidate_id, ''
                self.switches += changed
        self._keep_help(ready if wanted else self._ready)
        if not wanted and ready is not self._ready:
            ready.hedge.retire()
        if changed:
            self.switched()

    def _wanted(self, candidate: Candidate) -> bool:
        """Whether the latest plan still names this candidate; the lock is held."""
        wanted = self._wish[0]
        return wanted is not None and wanted.candidate_id == candidate.candidate_id

    def _keep_help(self, ready: Optional[Ready]) -> None:
        """Give back what is reserved at a peer for anything but `ready`."""
        before, self._ready = self._ready, ready
        if before is not None and before is not ready:
            before.hedge.retire()

    def keep_within(self, budget_bytes: Optional[float], extra: Iterable[str] = ()
                    ) -> Tuple[str, ...]:
        """
        Let go of compiled candidates that the budget has no room for.

        What answers now, what is being prepared, and `extra` stay; room is made for what is
        being prepared before it takes it.

        :returns: candidate ids that were let go
        """
        if budget_bytes is None:
            return ()
        wanted = self._wish[0]
        ready = self._ready
        keep = {self._in_force_id, self.preparing, *extra}
        if ready is not None:
            keep.add(ready.terms.fallback.candidate_id)
        if wanted is not None:
            keep.add(wanted.candidate_id)
            budget_bytes -= self._pool.missing_bytes(wanted)
        return self._pool.evict_to(budget_bytes, keep)

    def _switch(self, candidate: Candidate, executable: Executable) -> Tuple[bool, bool]:
        """
        Replace what answers, unless another plan has come in since.

        :returns: whether the candidate is in force now, and whether another one was before
        """
        with self._lock:
            wanted, plan_seq = self._wish
            if wanted is None or wanted.candidate_id != candidate.candidate_id:
                return False, False
            self._executor.switch(candidate, executable, plan_seq)
            changed = candidate.candidate_id != self._in_force_id
            if changed:
                self._in_force_id = candidate.candidate_id
                self.switches += 1
            self.failure = ''
        self._keep_help(None)
        return True, changed

    def _prepared(self, candidate: Candidate, executable: Optional[Executable],
                  error: Optional[CrowdHMTError]) -> None:
        """Take what the background thread has made."""
        with self._lock:
            wanted, plan_seq = self._wish
            if self.preparing == candidate.candidate_id:
                self.preparing = ''
        if wanted is None or wanted.candidate_id != candidate.candidate_id:
            return
        if executable is None:
            self._fail(plan_seq, candidate, error)
            return
        try:
            _, changed = self._switch(candidate, executable)
        except CrowdHMTError as refused:
            self._fail(plan_seq, candidate, refused)
            return
        if changed:
            self.switched()

    def _fail(self, plan_seq: int, candidate: Candidate, error: Optional[CrowdHMTError]) -> None:
        self.failure = (f'plan {plan_seq}: {candidate.candidate_id} cannot be prepared ({error}); '
                        'the plan before it stays')
        _log.error('%s', self.failure)


def switch_percentile_s(times_s: Iterable[float], ratio: float = 0.99) -> Optional[float]:
    """Return a percentile of switch times by the nearest rank; None without any."""
    ordered = sorted(times_s)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]
