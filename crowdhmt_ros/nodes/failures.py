# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which candidates could not be made ready, and when each is to be tried again; free of ROS."""
from __future__ import annotations

import time
from typing import Callable, Dict, NamedTuple, Optional

from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.planner.left_out import hold_s


class _Failure(NamedTuple):
    times: int
    until_s: float
    error: CrowdHMTError


class Failures:
    """
    Remembers failures, so that not every plan tries again what failed a moment ago.

    The waits grow as those after which the planner chooses a candidate again (`hold_s`). For one
    thread at a time: who has several holds a lock.

    :param monotonic: clock
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: Dict[str, _Failure] = {}

    def note(self, candidate_id: str, error: CrowdHMTError) -> None:
        """Remember one more failure, and wait longer before the next trial."""
        before = self._known.get(candidate_id)
        times = 1 if before is None else before.times + 1
        self._known[candidate_id] = _Failure(times, self._monotonic() + hold_s(times), error)

    def forget(self, candidate_id: str) -> None:
        """Forget what has been made ready after all."""
        self._known.pop(candidate_id, None)

    def held(self, candidate_id: str) -> Optional[CrowdHMTError]:
        """Return why a candidate is not to be tried yet, None when it may be."""
        known = self._known.get(candidate_id)
        if known is None or self._monotonic() >= known.until_s:
            return None
        return known.error
