# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From a plan to what answers frames: at once when it is resident, else when it is ready.

Free of ROS. While a candidate is being prepared the old one goes on answering; when that fails
the old plan stays, the planner is told, and the same is tried again only after a while. The
latest wish wins: a preparation that nobody wants any more is dropped.
"""
from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, Iterable, Optional, Protocol, Tuple

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.background import Done
from crowdhmt_ros.errors import BackendError, CrowdHMTError, OffloadError
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.nodes.failures import Failures
from crowdhmt_ros.nodes.helped import HelpedPlans, Ready, Terms
from crowdhmt_ros.types import Candidate

_log = logging.getLogger(__name__)
KEPT_TIMES = 1000


_Wish = Tuple[Optional[Candidate], int, Optional[Terms]]
"""
What the latest plan wants, its number, and what goes with help.

One tuple, so set at once and without the lock: who needs more than one of the three takes it once.
"""
NO_WISH: _Wish = (None, 0, None)


class Switchable(Protocol):
    """What answers frames; `crowdhmt_ros.executor.Executor` is one."""

    def switch(self, candidate: Candidate, executable: Executable, plan_seq: int) -> None:
        """Let another executable answer from the next frame on."""

    def switch_hedged(self, candidate: Candidate, hedge: Hedge, fallback: Candidate,
                      executable: Executable, plan_seq: int) -> None:
        """Let a candidate with a peer answer from the next frame on."""


class Prepares(Protocol):
    """What makes executables ready; `engine.pool.Pool` does, or one that arranges for it."""

    def get(self, candidate: Candidate) -> Optional[Executable]:
        """Return what answers with a candidate, None unless resident."""

    def prepare_in_background(self, candidate: Candidate, done: Done) -> None:
        """Have a candidate made ready."""

    def missing_bytes(self, candidate: Candidate) -> float:
        """Return what that is going to take."""

    def evict_to(self, budget_bytes: float, keep: Iterable[str] = (),
                 exactly: Iterable[str] = ()) -> Tuple[str, ...]:
        """Let go of what there is no room for."""


def _nothing() -> None:
    return


def _nobody(candidate_id: str, plan_seq: int) -> None:
    return


class PlanSwitcher:
    """
    Brings plans into force.

    `switched` may be replaced: it is called after each change that comes later than the call of
    `apply` that asked for it, in the thread that made it. What a call of `apply` brings into force
    at once its caller knows, and goes on by itself: the figures of its plan come first.

    `failed` may be replaced too: it is called with candidate_id and plan_seq, in any thread, when
    a plan names a candidate that the engine of this robot cannot make ready, and another one
    goes on answering.

    :param executor: what answers frames
    :param pool: what is ready to run
    :param in_force_id: candidate that answers already, '' for none
    :param helped: prepares candidates that a peer takes part in, None where none can
    :param monotonic: clock of the waits after a failure
    """

    def __init__(self, executor: Switchable, pool: Prepares, *, in_force_id: str = '',
                 helped: Optional[HelpedPlans] = None,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._pool = pool
        self._lock = threading.Lock()
        self._wish: _Wish = NO_WISH
        self._in_force_id = in_force_id
        self._helped = helped
        self._ready: Optional[Ready] = None
        self._leasing: Dict[str, str] = {}  # under way: candidate_id -> id of its fallback
        self._failures = Failures(monotonic)
        self.failure = ''
        self.preparing = ''
        self.switches = 0
        self.switched: Callable[[], None] = _nothing
        self.failed: Callable[[str, int], None] = _nobody
        self.resident_switch_s: Deque[float] = deque(maxlen=KEPT_TIMES)

    def apply(self, candidate: Candidate, plan_seq: int, entered_s: Optional[float] = None, *,
              terms: Optional[Terms] = None) -> bool:
        """
        Bring a plan into force, or start to.

        :param candidate: what the plan chose
        :param plan_seq: number of the plan
        :param entered_s: `time.perf_counter()` when the plan came in, for the record
        :param terms: fallback and time, for a candidate that a peer takes part in
        :returns: whether it is in force now; False while it is being prepared, or waits for that
            because it failed a moment ago
        :raises CrowdHMTError: it can never be brought into force; the old plan stays
        """
        self._wish = (candidate, plan_seq, terms)
        if terms is not None:
            return self._apply_helped(candidate, terms)
        return self._apply_here(candidate, entered_s)

    def _apply_here(self, candidate: Candidate, entered_s: Optional[float] = None) -> bool:
        executable = self._pool.get(candidate)
        if executable is not None:
            in_force, _ = self._switch(candidate, executable)
            if entered_s is not None:
                self.resident_switch_s.append(time.perf_counter() - entered_s)
            return in_force
        if self._is_held(candidate):
            return False
        with self._lock:
            asked_for = self.preparing == candidate.candidate_id
            self.preparing = candidate.candidate_id
        if not asked_for:
            self._pool.prepare_in_background(candidate, self._prepared)
        return False

    def _is_held(self, candidate: Candidate) -> bool:
        """Whether a candidate failed a moment ago and is not to be tried yet; that is told."""
        with self._lock:
            error, wish = self._failures.held(candidate.candidate_id), self._wish
        if error is None:
            return False
        if _names(wish, candidate):
            self._say(wish[1], candidate, error)
        return True

    @property
    def wanted(self) -> Optional[Candidate]:
        """What the latest plan wants, None before the first."""
        return self._wish[0]

    def again(self) -> bool:
        """
        Bring the latest plan into force anew: the pool may have another executable for it by now.

        :returns: whether it is in force, True where there is nothing to do
        :raises CrowdHMTError: it can never be brought into force; what answered goes on
        """
        with self._lock:
            candidate, _, terms = self._wish
        if candidate is None or terms is not None:
            return True
        return self._apply_here(candidate)

    def drop_help(self) -> None:
        """Give back what is reserved at a peer, at the end; nothing is brought in any more."""
        with self._lock:
            self._wish = NO_WISH
            before, self._ready = self._ready, None
        _retire(before)

    def _apply_helped(self, candidate: Candidate, terms: Terms) -> bool:
        ready = self._ready
        if ready is not None and ready.serves(candidate, terms):
            ready.hedge.budget_s = terms.budget_s
            in_force, _ = self._bring_in(ready, resumed=True)
            if in_force:
                return True
        if self._helped is None:
            raise OffloadError('%s needs a peer, offloading is off here' % candidate.candidate_id)
        if self._is_held(candidate):
            return False
        with self._lock:
            asked_for = candidate.candidate_id in self._leasing
            self._leasing.setdefault(candidate.candidate_id, terms.fallback.candidate_id)
            self.preparing = candidate.candidate_id
        if not asked_for:
            self._helped.prepare_in_background(candidate, terms, self._help_prepared)
        return False

    def _help_prepared(self, candidate: Candidate, ready: Optional[Ready],
                       error: Optional[CrowdHMTError]) -> None:
        """Take what was made ready, or not, in the background."""
        with self._lock:
            self._leasing.pop(candidate.candidate_id, None)
            if self.preparing == candidate.candidate_id:
                self.preparing = ''
            wish = self._wish
            self._note(candidate, error)
        if ready is not None:
            try:
                _, changed = self._bring_in(ready)
            except CrowdHMTError as refused:
                _retire(ready)
                error = refused
            else:
                if changed:
                    self.switched()
                return
        if _names(wish, candidate):
            self._fail(wish[1], candidate, error)

    def _bring_in(self, ready: Ready, *, resumed: bool = False) -> Tuple[bool, bool]:
        """
        Let a candidate with a peer answer, unless another plan has come in since.

        :param resumed: it was ready before: it must not have been given back in between
        :returns: whether it is in force, and whether another one, or another fallback, was
            before; what is not in force, and was not before, is given back
        :raises BackendError: it cannot answer frames; nothing has changed
        """
        changed = False
        with self._lock:
            # Once: a plan sets it without the lock, and what one wants goes with its number.
            wish = self._wish
            before: Optional[Ready] = ready
            wanted = (_is_best(ready, wish, self._ready)
                      and (not resumed or ready is self._ready))
            if wanted:
                candidate_id = ready.candidate.candidate_id
                self._executor.switch_hedged(ready.candidate, ready.hedge, ready.terms.fallback,
                                             ready.executable, wish[1])
                changed = self._in_force_id != candidate_id
                self._in_force_id, self.failure = candidate_id, ''
                self.switches += changed
                before, self._ready = self._ready, ready
            if before is self._ready:
                before = None
        _retire(before)
        # Of another fallback the old one may go.
        return wanted, changed or (wanted and before is not None)

    def keep_within(self, budget_bytes: Optional[float], extra: Iterable[str] = ()
                    ) -> Tuple[str, ...]:
        """
        Let go of compiled candidates that the budget has no room for.

        What answers now, what is being prepared, and `extra` stay; room is made for what is
        being prepared before it takes it. A fallback runs as it is named, not as the schedule
        would have it, so it is that which is counted and kept.

        :returns: candidate ids that were let go
        """
        if budget_bytes is None:
            return ()
        with self._lock:
            (wanted, _, terms), ready = self._wish, self._ready
            keep = {self._in_force_id, self.preparing, *extra, *self._leasing}
            exactly = set(self._leasing.values())
        if ready is not None:
            exactly.add(ready.terms.fallback.candidate_id)
        if wanted is not None:
            keep.add(wanted.candidate_id)
        if wanted is not None and terms is None:
            budget_bytes -= self._pool.missing_bytes(wanted)
        elif wanted is not None and terms is not None and self._helped is not None:
            exactly.add(terms.fallback.candidate_id)
            budget_bytes -= self._helped.missing_bytes(wanted, terms)
        return self._pool.evict_to(budget_bytes, keep, exactly)

    def _switch(self, candidate: Candidate, executable: Executable) -> Tuple[bool, bool]:
        """
        Replace what answers, unless another plan has come in since.

        :returns: whether the candidate is in force now, and whether another one was before
        """
        candidate_id = candidate.candidate_id
        with self._lock:
            wanted, plan_seq, _ = self._wish
            if wanted is None or wanted.candidate_id != candidate_id:
                return False, False
            self._executor.switch(candidate, executable, plan_seq)
            changed = candidate_id != self._in_force_id
            if changed:
                self._in_force_id = candidate_id
                self.switches += 1
            self.failure = ''
            before, self._ready = self._ready, None
        _retire(before)
        return True, changed

    def _prepared(self, candidate: Candidate, executable: Optional[Executable],
                  error: Optional[CrowdHMTError]) -> None:
        """Take what the background thread has made."""
        with self._lock:
            wish = self._wish
            if self.preparing == candidate.candidate_id:
                self.preparing = ''
            self._note(candidate, error)
        if not _names(wish, candidate):
            return
        if executable is None:
            self._fail(wish[1], candidate, error)
            return
        try:
            _, changed = self._switch(candidate, executable)
        except CrowdHMTError as refused:
            self._fail(wish[1], candidate, refused)
            return
        if changed:
            self.switched()

    def _note(self, candidate: Candidate, error: Optional[CrowdHMTError]) -> None:
        """Remember how a preparation ended; what a peer refuses is its matter. Lock held."""
        if isinstance(error, BackendError):
            self._failures.note(candidate.candidate_id, error)
        elif error is None:
            self._failures.forget(candidate.candidate_id)

    def _fail(self, plan_seq: int, candidate: Candidate, error: Optional[CrowdHMTError]) -> None:
        self._say(plan_seq, candidate, error)
        _log.error('%s', self.failure)

    def _say(self, plan_seq: int, candidate: Candidate, error: Optional[CrowdHMTError]) -> None:
        """Say that a plan is not brought into force, to people and where it helps the planner."""
        self.failure = (f'plan {plan_seq}: {candidate.candidate_id} cannot be prepared ({error}); '
                        'the plan before it stays')
        self.refused(candidate, plan_seq, error)

    def refused(self, candidate: Candidate, plan_seq: int, error: Optional[CrowdHMTError]) -> None:
        """
        Tell the planner that a plan changes nothing, unless its candidate answers already.

        What a peer refuses it knows from elsewhere.
        """
        if isinstance(error, BackendError) and candidate.candidate_id != self._in_force_id:
            self.failed(candidate.candidate_id, plan_seq)


def _is_best(ready: Ready, wish: _Wish, present: Optional[Ready]) -> bool:
    """
    Whether a plan wants it, and what is ready already serves no better.

    :param wish: what the plan wants
    :param present: what is ready already, None for nothing
    """
    wanted, _, terms = wish
    if wanted is None or terms is None or not _names(wish, ready.candidate):
        return False
    return (present is None or present is ready or ready.serves(wanted, terms)
            or not present.serves(wanted, terms))


def _names(wish: _Wish, candidate: Candidate) -> bool:
    """Whether a plan names this candidate."""
    wanted = wish[0]
    return wanted is not None and wanted.candidate_id == candidate.candidate_id


def _retire(ready: Optional[Ready]) -> None:
    """Give back what is reserved at a peer; never while the lock is held."""
    if ready is not None:
        ready.hedge.retire()


def switch_percentile_s(times_s: Iterable[float], ratio: float = 0.99) -> Optional[float]:
    """Return a percentile of switch times by the nearest rank; None without any."""
    ordered = sorted(times_s)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))]
