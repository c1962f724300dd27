# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Has the schedule of the engine looked at and carried out, once a second; free of ROS."""
from __future__ import annotations

import logging
import threading
from typing import Callable, Optional, Sequence

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.crew import CREW
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.scheduled import (
    ComputesElsewhere,
    MeasuredLatency,
    ScheduledPool,
    Scheduler,
    all_computes_here,
    nothing_answers,
)
from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.nodes.serving import WORKER
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.resources.cores import CoreLoads
from crowdhmt_ros.types import CoreLoad

_log = logging.getLogger(__name__)


def workers() -> Sequence[int]:
    """Return the native ids of the threads that have frames answered."""
    return [thread.native_id for thread in threading.enumerate()
            if thread.name == WORKER and thread.native_id is not None]


class EngineSchedule:
    """
    The scheduler of an engine process with what it moves.

    `look` belongs to the thread that brings plans into force.

    :param infer_s: times of segments, from the tables of this device
    :param loads: what the cores did since the last call, None for this machine's own counters
    :param callers: native ids of the threads that run this robot's own frames
    :param elsewhere: tells of each engine whether another processor computes
    """

    def __init__(self, infer_s: MeasuredLatency,
                 loads: Optional[Callable[[], Sequence[CoreLoad]]] = None, *,
                 callers: Callable[[], Sequence[int]] = workers,
                 elsewhere: ComputesElsewhere = all_computes_here) -> None:
        CREW.callers = callers
        self.scheduler = Scheduler(loads or CoreLoads().sample, infer_s=infer_s,
                                   elsewhere=elsewhere)
        self._pending = False

    def over(self, pool: Pool,
             answering: Callable[[], Optional[Executable]] = nothing_answers) -> ScheduledPool:
        """
        Return a pool that answers as the schedule wants it, for the switcher of plans.

        :param answering: what answers frames now, None for nothing
        """
        return ScheduledPool(pool, self.scheduler, answering=answering)

    def look(self, switcher: PlanSwitcher) -> None:
        """Decide anew for what the latest plan wants, and have it prepared where need be."""
        candidate = switcher.wanted
        if candidate is None:
            return
        self._pending = self.scheduler.look(candidate) or self._pending
        if not self._pending or switcher.preparing:
            return
        try:
            in_force = switcher.again()
        except CrowdHMTError as error:
            _log.warning('the engine stays as it was scheduled before: %s', error)
            in_force = True
        self._pending = not in_force and not switcher.failure

    @property
    def reason(self) -> str:
        """Why the engine runs as it does, '' before the first look."""
        found = self.scheduler.schedule
        return found.reason if found is not None else ''
