# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the way to one peer costs: round trip and bandwidth, from real transfers and from pings.

Pure. The model is `seconds = round_trip + payload bytes / bandwidth` (P III-B1). Medians stand
for means: one lost packet makes a sample of 200 ms and says nothing about the next one.
"""
from __future__ import annotations

import statistics
from collections import deque
from typing import Deque, NamedTuple, Optional, Sequence, Tuple

MAX_AGE_S = 5.0
KEPT = 32
BANDWIDTH_MAX_BYTES_PER_S = 1e9
"""Where payloads take no measurable time (loopback) this is what is told."""
PROBE_BYTES = 16384


class Sample(NamedTuple):
    """One way there and back: payload of both directions, seconds that only the link took."""

    payload_bytes: int
    link_s: float
    at_s: float


class LinkMeter:
    """
    Estimates one link.

    The round trip comes from pings without payload; while frames flow there are none, and the
    last estimate stays, never above what the quickest of the recent transfers took in all.
    Bandwidth is the median over samples with payload, weighted by their payload.
    """

    def __init__(self) -> None:
        self._empty: Deque[Sample] = deque(maxlen=KEPT)
        self._full: Deque[Sample] = deque(maxlen=KEPT)
        self._round_trip_s: Optional[float] = None

    def note(self, payload_bytes: int, link_s: float, now_s: float) -> None:
        """
        Take a sample in.

        :param payload_bytes: both directions together; 0 for a ping without payload
        :param link_s: round trip without the time that the peer accounts for; what is not a
            positive number is left out
        """
        if not 0.0 < link_s < float('inf') or payload_bytes < 0:
            return
        samples = self._full if payload_bytes else self._empty
        samples.append(Sample(payload_bytes, link_s, now_s))
        fresh = _fresh(self._empty, now_s)
        if fresh:
            self._round_trip_s = statistics.median(s.link_s for s in fresh)

    def forget(self) -> None:
        """Start anew: the link is another one, or was away."""
        self._empty.clear()
        self._full.clear()
        self._round_trip_s = None

    def round_trip_s(self, now_s: float) -> Optional[float]:
        """Return the seconds of a request without payload; None while unknown."""
        empty, full = _fresh(self._empty, now_s), _fresh(self._full, now_s)
        known = [s.link_s for s in full]
        if empty:
            return min([statistics.median(s.link_s for s in empty), *known])
        if not known:
            return None
        if self._round_trip_s is not None:
            known.append(self._round_trip_s)
        return min(known)

    def bandwidth_bytes_per_s(self, now_s: float) -> Optional[float]:
        """Return the payload bytes per second of both directions; None while unknown."""
        full, base_s = _fresh(self._full, now_s), self.round_trip_s(now_s)
        if not full or base_s is None:
            return None
        seconds_per_byte = _weighted_median(
            [(max(s.link_s - base_s, 0.0) / s.payload_bytes, s.payload_bytes) for s in full])
        return 1.0 / max(seconds_per_byte, 1.0 / BANDWIDTH_MAX_BYTES_PER_S)


def _fresh(samples: Sequence[Sample], now_s: float) -> Tuple[Sample, ...]:
    return tuple(s for s in samples if now_s - s.at_s <= MAX_AGE_S)


def _weighted_median(pairs: Sequence[Tuple[float, int]]) -> float:
    """Return the value with half of all weight at or below it."""
    ordered = sorted(pairs)
    half, total = 0.5 * sum(weight for _, weight in ordered), 0.0
    for value, weight in ordered:
        total += weight
        if total >= half:
            return value
    return ordered[-1][0]
