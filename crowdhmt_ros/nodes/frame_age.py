# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How old a frame is on the node's clock, and how far apart frames are. Free of ROS."""
from __future__ import annotations

import threading
from typing import Optional

OLDEST_S = 60.0
FUTURE_S = 0.002
FUTURE_SIM_S = 0.25
"""With a played clock a frame may come before the clock message of its own time."""
SMOOTHING = 0.2
NS = 1e9


class FrameAges:
    """
    Ages and period of frames. Methods may be called from several threads.

    :param sim_time: whether the node's clock is a played one: then any age may be right
    :param period_s: time between two frames where the source fixes it; else it is learned
        from the stamps
    """

    def __init__(self, *, sim_time: bool = False, period_s: Optional[float] = None) -> None:
        self.sim_time = sim_time
        self._fixed_s = period_s
        self._period_s = period_s
        self._last_ns: Optional[int] = None
        self._lock = threading.Lock()
        self.unknown = 0
        self.resets = 0

    @property
    def period_s(self) -> Optional[float]:
        """Time between two frames, None while unknown."""
        return self._period_s

    def observe(self, stamp_ns: int) -> None:
        """Take the stamp of a new frame into the period; a stamp set back starts anew."""
        with self._lock:
            last, self._last_ns = self._last_ns, stamp_ns
            if last is None or self._fixed_s is not None:
                return
            step_s = (stamp_ns - last) / NS
            if step_s < 0.0:
                self._period_s = None
            elif step_s > 0.0:
                before = self._period_s
                self._period_s = step_s if before is None else (
                    before + SMOOTHING * (step_s - before))

    def age_s(self, stamp_ns: int, now_ns: int) -> Optional[float]:
        """
        Return the age of a frame.

        :param stamp_ns: header stamp
        :param now_ns: node clock
        :returns: seconds; None when the stamp is zero, in the future, or over 60 s old without
            a played clock. An unknown age is counted in `unknown` and never a reason to drop
        """
        age_s = (now_ns - stamp_ns) / NS
        ahead_s = FUTURE_SIM_S if self.sim_time else FUTURE_S
        too_old = age_s > OLDEST_S and not self.sim_time
        if stamp_ns == 0 or age_s < -ahead_s or too_old:
            self.unknown += 1
            return None
        return max(0.0, age_s)

    def is_late(self, age_s: Optional[float]) -> bool:
        """Whether an answer of this age is older than two frame periods."""
        period_s = self._period_s
        return age_s is not None and period_s is not None and age_s > 2.0 * period_s

    def reset(self) -> None:
        """Forget what was learned: the clock was set back."""
        with self._lock:
            self._period_s = self._fixed_s
            self._last_ns = None
            self.resets += 1
