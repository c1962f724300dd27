# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The resource availability monitor (P III-D): many probes, one snapshot."""
from __future__ import annotations

import logging
import math
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.resources.probe import Probe
from crowdhmt_ros.types import READING_FIELDS, Reading, ResourceSnapshot

logger = logging.getLogger(__name__)

BATTERY_STEP = 0.05
MEMORY_STEP = 0.10
LOAD_STEP = 0.30
"""Changes that call for a decision before its second is over."""
_ROUNDING = 1e-9


class ResourceMonitor:
    """
    Asks every probe and merges the answers.

    :param probes: most trusted first: the first that knows a value wins
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = tuple(probes)
        self._problems: Tuple[str, ...] = ()

    @property
    def problems(self) -> Tuple[str, ...]:
        """What probes complained about at the last snapshot, one sentence each."""
        return self._problems

    def snapshot(self, now_s: float, robot_id: str = '', boot_id: str = '') -> ResourceSnapshot:
        """
        Return one look at this machine. A probe that fails leaves its readings unknown.

        :param now_s: node clock
        :param robot_id: namespace of the robot
        :param boot_id: drawn anew at each start
        """
        merged: Dict[str, Reading] = {}
        problems: List[str] = []
        for probe in self._probes:
            for name, reading in self._ask(probe, now_s, problems).items():
                if name in READING_FIELDS and name not in merged and _is_known(reading):
                    merged[name] = reading
        self._report(tuple(problems))
        return ResourceSnapshot(now_s, robot_id, boot_id, **merged)

    @staticmethod
    def _ask(probe: Probe, now_s: float, problems: List[str]) -> Mapping[str, Reading]:
        try:
            return probe.sample(now_s)
        except ProbeError as error:
            problems.append(str(error))
            return {}

    def _report(self, problems: Tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                logger.warning('%s', problem)
        self._problems = problems

    @staticmethod
    def changed_sharply(previous: ResourceSnapshot, current: ResourceSnapshot) -> bool:
        """Return whether a new decision should not wait; see `changed_sharply`."""
        return changed_sharply(previous, current)


def _is_known(reading: Reading) -> bool:
    return reading.value is not None and math.isfinite(reading.value)


def changed_sharply(previous: ResourceSnapshot, current: ResourceSnapshot) -> bool:
    """
    Return whether the world has changed enough to decide again at once.

    Battery by 5 points, memory allotted or available by a tenth of what it was, processor load
    by 0.3 of all cores; or one of the first three became known or unknown.
    """
    relative = any(
        _moved(getattr(previous, name), getattr(current, name), MEMORY_STEP, relative=True)
        for name in ('memory_allotted_bytes', 'memory_available_bytes'))
    load = _moved(previous.cpu_load_ratio, current.cpu_load_ratio, LOAD_STEP)
    known = previous.cpu_load_ratio.value is not None and current.cpu_load_ratio.value is not None
    return (relative or (load and known)
            or _moved(previous.battery_ratio, current.battery_ratio, BATTERY_STEP))


def _moved(previous: Reading, current: Reading, step: float, *, relative: bool = False) -> bool:
    before: Optional[float] = previous.value
    after: Optional[float] = current.value
    if before is None or after is None:
        return before is not after
    limit = step * abs(before) if relative else step
    return abs(after - before) >= limit - _ROUNDING * max(1.0, abs(before)) and after != before
