# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
When a peer that leaves requests unanswered is asked again: never at once, never in step.

Pure: the clock and the chance are given. Two robots that lost the same peer come back to it at
different moments, because each draws its own share of the back-off.
"""
from __future__ import annotations

import random
import time
from typing import Callable

FAILURES_TO_OPEN = 2
SILENCE_S = 0.4
"""A peer that said anything within this time is slow, not gone."""
SLOW_TO_OPEN = 6
"""So many requests in a row without an answer in time open it, whatever else the peer says."""
ANSWERS_TO_CLOSE = 2
PING_BROKEN_S = 0.25
BACK_OFF_S = 0.5
BACK_OFF_MAX_S = 1.5
STEADY_S = 10.0
"""Closed for so long, the next back-off starts small again."""


class Breaker:
    """
    Closed: requests may be sent. Open: only pings, until the peer answers again.

    It opens after two requests in a row without an answer from a peer that is silent altogether,
    after six from one that is only slow, after two pings, or with a lost connection. It closes
    when two pings in a row were answered and the back-off is over: 0.5 s, doubled with each
    opening up to 1.5 s, of which a random share between half and all is waited.

    :param monotonic: clock, s
    :param chance: a number in [0, 1)
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic,
                 chance: Callable[[], float] = random.random) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._open = False
        self._answers = 0
        self._back_off_s = BACK_OFF_S
        self._until_s = 0.0
        self._closed_s = self._heard_s = monotonic()
        self._pings_failed = 0
        self.failures = 0
        self.opened = 0

    @property
    def is_open(self) -> bool:
        """Whether requests must not be sent."""
        return self._open

    @property
    def retry_in_s(self) -> float:
        """Shortest time until requests may be sent again, s; 0 when they may now."""
        if not self._open:
            return 0.0
        pings_s = PING_BROKEN_S * (ANSWERS_TO_CLOSE - self._answers)
        return max(self._until_s - self._monotonic(), pings_s, 1e-3)

    def heard(self) -> None:
        """Note that the peer said anything, an answer that comes too late for example."""
        self._heard_s = self._monotonic()

    def answered(self) -> None:
        """Note that a request was answered."""
        self.failures = 0
        self.ping_answered()

    def ping_answered(self) -> None:
        """Note that a ping was answered: it heals an open breaker and excuses no request."""
        self._pings_failed = 0
        self.heard()
        if not self._open:
            return
        self._answers += 1
        if self._answers >= ANSWERS_TO_CLOSE and self._monotonic() >= self._until_s:
            self._open = False
            self.failures = 0
            self._closed_s = self._monotonic()

    def failed(self) -> None:
        """Note that a request was not answered in its time, or was refused."""
        self.failures += 1
        self._answers = 0
        silent_s = self._monotonic() - self._heard_s
        if self.failures >= (FAILURES_TO_OPEN if silent_s >= SILENCE_S else SLOW_TO_OPEN):
            self._trip()

    def ping_failed(self) -> None:
        """Note that a ping was not answered in its time."""
        self._pings_failed += 1
        self._answers = 0
        if self._pings_failed >= FAILURES_TO_OPEN:
            self.failures = max(self.failures, 1)
            self._trip()

    def lost(self) -> None:
        """Note that the connection is gone; it may be told again of the same loss."""
        self.failures = max(self.failures, 1)
        self._answers = 0
        self._trip()

    def hold(self, seconds: float) -> None:
        """Open it, or keep it open, for at least so long: the peer said when to ask again."""
        self._answers = 0
        self._trip()
        self._until_s = max(self._until_s, self._monotonic() + seconds)

    def _trip(self) -> None:
        if self._open:
            return
        now_s = self._monotonic()
        if now_s - self._closed_s >= STEADY_S:
            self._back_off_s = BACK_OFF_S
        self._until_s = now_s + self._back_off_s * (0.5 + 0.5 * self._chance())
        self._back_off_s = min(2.0 * self._back_off_s, BACK_OFF_MAX_S)
        self._open = True
        self._answers = 0
        self.opened += 1
