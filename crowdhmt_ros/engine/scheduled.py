# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A plan's candidate, run as the moment demands: `schedule.decide` put into force.

A plan says how many threads an engine may have. Whether they spin and where they run is looked
at anew every second: cores change at once, an executable for another setting is prepared in the
background while the present one answers. Towards plans, results and feedback the candidate
stays the plan's own.
"""
from __future__ import annotations

import logging
from dataclasses import replace
from typing import Callable, Dict, Iterable, Optional, Sequence, Tuple

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.background import Done
from crowdhmt_ros.engine.crew import CREW, Crew
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.schedule import Schedule, Setting, Work, decide
from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.types import HERE, Candidate, CoreLoad, EngineOptions

OWN_ENGINE = 'onnxruntime'
"""The engine that gives a choice of spinning and whose threads can be told where to run."""
MeasuredLatency = Callable[[str, EngineOptions], Optional[float]]
"""Segment and options -> seconds on the idle machine, None where not measured."""
ComputesElsewhere = Callable[[str], bool]
"""Name of an engine -> whether another processor than this computes what it runs."""
_log = logging.getLogger(__name__)


def nothing_answers() -> Optional[Executable]:
    """Know of nothing that answers frames."""
    return None


def nothing_measured(segment_id: str, options: EngineOptions) -> Optional[float]:
    """Know no table of measured times."""
    return None


def all_computes_here(engine: str) -> bool:
    """Know no other processor than this."""
    return False


class Scheduler:
    """
    Looks at the cores and says how engines run until the next look.

    :param loads: what the cores did since the last call, () where unknown
    :param infer_s: times of segments, from the tables of this device
    :param crew: engine threads of this process
    :param elsewhere: tells of each engine whether another processor computes, as far as known:
        a provider shows only with the first session whether it starts
    """

    def __init__(self, loads: Callable[[], Sequence[CoreLoad]], *,
                 infer_s: MeasuredLatency = nothing_measured, crew: Crew = CREW,
                 elsewhere: ComputesElsewhere = all_computes_here) -> None:
        self._loads = loads
        self._infer_s = infer_s
        self._crew = crew
        self._elsewhere = elsewhere
        self._accelerated: Dict[str, bool] = {}  # by engine, as of the last look
        self._arranged: Dict[str, Candidate] = {}
        self._ways: Dict[str, Dict[str, Candidate]] = {}  # each candidate's, the latest last
        self._seen: Tuple[Tuple[CoreLoad, ...], Optional[Schedule]] = ((), None)
        self._placed: Optional[Tuple[Tuple[int, ...], bool]] = None
        self.schedule: Optional[Schedule] = None

    def look(self, candidate: Candidate) -> bool:
        """
        Decide anew, and place engine threads.

        :param candidate: in force
        :returns: whether executables of another setting are needed from now on
        """
        turned = self._look_elsewhere(candidate.engine.backend)
        allowed = self._crew.allowed
        loads = tuple(load for load in self._loads() if load.core in allowed)
        if not loads:
            return turned
        before = self.schedule
        found = decide(self.work(candidate), loads, before)
        self._seen, self.schedule = (loads, before), found
        # Again at each look: engines come, and their threads start where the system puts them.
        if found.cores or self._placed not in (None, (found.cores, found.pinned)):
            self._crew.place(found.cores, pinned=found.pinned)
        self._placed = (found.cores, found.pinned)
        if not turned and before is not None and (before.setting, before.neighbours) == (
                found.setting, found.neighbours):
            return False
        self._arranged = {}
        _log.info('%s', found.reason)
        return turned or before is None or before.setting != found.setting

    def _look_elsewhere(self, engine: str) -> bool:
        """Ask anew whether an engine computes elsewhere; True where that is another answer."""
        known, found = self._accelerated.get(engine), self._elsewhere(engine)
        self._accelerated[engine] = found
        if known in (None, found):
            return False
        self._arranged = {}
        return True

    def _is_accelerated(self, engine: str) -> bool:
        if engine not in self._accelerated:
            self._accelerated[engine] = self._elsewhere(engine)
        return self._accelerated[engine]

    def arranged(self, candidate: Candidate) -> Candidate:
        """Return what is to run in a candidate's place, itself where nothing is to be changed."""
        arranged = self._arranged.get(candidate.candidate_id)
        if arranged is None:
            known = self._arranged  # taken before what was seen: a look renews it behind that
            (loads, before), arranged = self._seen, candidate
            accelerated = self._is_accelerated(candidate.engine.backend)
            if schedulable(candidate, accelerated) and (loads or accelerated):
                found = decide(self.work(candidate), loads, before)
                arranged = replace(candidate, engine=found.arranged(candidate.engine))
            ways = dict(self._ways.get(candidate.candidate_id, {}))
            ways.pop(arranged.candidate_id, None)
            self._ways[candidate.candidate_id] = {**ways, arranged.candidate_id: arranged}
            known[candidate.candidate_id] = arranged  # asked for with every switch
        return arranged

    def ways(self, candidate_id: str) -> Tuple[Candidate, ...]:
        """Return all that ever was to run in a candidate's place, the latest first."""
        return tuple(reversed(tuple(self._ways.get(candidate_id, {}).values())))

    def work(self, candidate: Candidate) -> Work:
        """Return what is to be scheduled when a candidate is in force."""
        engine = candidate.engine
        here = [s.segment_id for s in candidate.placement.segments if s.device == HERE]
        times: Dict[Setting, float] = {}
        for threads in range(1, engine.threads + 1):
            for spinning in (False, True):
                options = replace(engine, threads=threads, spinning=spinning)
                found = [self._infer_s(name, options) for name in here]
                known = [t for t in found if t is not None]
                if known and len(known) == len(here):
                    times[Setting(threads, spinning)] = sum(known)
        own = engine.backend == OWN_ENGINE
        return Work(times, engine.threads, may_spin=own, may_place=own,
                    accelerated=self._is_accelerated(engine.backend))


def schedulable(candidate: Candidate, accelerated: bool = False) -> bool:
    """
    Whether the schedule may change how a candidate runs.

    :param accelerated: whether another processor computes; else only our engine gives a choice
    """
    engine = candidate.engine
    return ((engine.backend == OWN_ENGINE or accelerated) and engine.threads > 1
            and not candidate.placement.peers)


class ScheduledPool:
    """
    A pool that answers for a candidate with what the schedule wants in its place.

    Has the methods of `Pool` that bring plans into force.

    :param pool: of executables
    :param scheduler: says what runs in a candidate's place
    :param answering: what answers frames now, None for nothing
    """

    def __init__(self, pool: Pool, scheduler: Scheduler, *,
                 answering: Callable[[], Optional[Executable]] = nothing_answers) -> None:
        self._pool = pool
        self._scheduler = scheduler
        self._answering = answering
        self._named: Dict[str, Candidate] = {}

    def get(self, candidate: Candidate) -> Optional[Executable]:
        """See `Pool.get`."""
        return self._pool.get(self._arranged(candidate))

    def prepare_in_background(self, candidate: Candidate, done: Done) -> None:
        """See `Pool.prepare_in_background`; `done` is told of the candidate as it was given."""
        def told(_: Candidate, executable: Optional[Executable],
                 error: Optional[CrowdHMTError]) -> None:
            done(candidate, executable, error)
        self._pool.prepare_in_background(self._arranged(candidate), told)

    def missing_bytes(self, candidate: Candidate) -> float:
        """See `Pool.missing_bytes`."""
        return self._pool.missing_bytes(self._arranged(candidate))

    def evict_to(self, budget_bytes: float, keep: Iterable[str] = (),
                 exactly: Iterable[str] = ()) -> Tuple[str, ...]:
        """
        See `Pool.evict_to`; what runs in the place of a candidate to be kept is kept.

        That is what the schedule wants now and, until it is ready, what answers in its place as
        an earlier schedule wanted it.

        :param exactly: candidate ids that run as they are named, whatever the schedule wants
        """
        named = list(keep)
        names = list(named)
        for candidate in (self._named[name] for name in named if name in self._named):
            names.append(self._scheduler.arranged(candidate).candidate_id)
            names += self._answers(candidate)
        return self._pool.evict_to(budget_bytes, names, exactly)

    def _answers(self, candidate: Candidate) -> Tuple[str, ...]:
        """Return the name of what answers now in a candidate's place, () where nothing does."""
        answering = self._answering()
        if answering is None:
            return ()
        # A look counts as a use: where what is wanted now answers, as ever, nothing else is asked.
        return next(((way.candidate_id,) for way in self._scheduler.ways(candidate.candidate_id)
                     if self._pool.get(way) is answering), ())

    def _arranged(self, candidate: Candidate) -> Candidate:
        self._named[candidate.candidate_id] = candidate
        return self._scheduler.arranged(candidate)
