# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the way to one peer costs: round trip and bandwidth, from real transfers and from pings.

Pure. The model is `seconds = round_trip + payload bytes / bandwidth` (P III-B1). For samples of
like payload their median stands: one lost packet makes a sample of 200 ms and says nothing about
the next one. Groups far enough apart in size tell both figures (least
squares). Payloads all of one size tell only their sum; then the last known pair is the anchor,
and what is slower than it counts as bandwidth only as far as the payload is large: a call of
2 kB that waits 4 ms for a processor has not met a narrow link (*reconstructed*).
"""
from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

MAX_AGE_S = 5.0
KEPT = 64
PROBE_BYTES = 16384
SPAN_BYTES = PROBE_BYTES // 2
"""Payloads that differ by so much tell bandwidth; an excess at this size is half bandwidth."""
RESOLUTION_RATIO = 0.02
"""Of the round trip: what a payload takes below that cannot be told from no time at all."""


class Sample(NamedTuple):
    """One way there and back: payload of both directions, seconds that only the link took."""

    payload_bytes: int
    link_s: float
    at_s: float


class Group(NamedTuple):
    """Samples of like payload: the one that took the (lower) median time, and how many."""

    payload_bytes: int
    link_s: float
    samples: int


class Line(NamedTuple):
    """`seconds = fixed_s + payload bytes * s_per_byte`."""

    fixed_s: float
    s_per_byte: float


class LinkMeter:
    """
    Estimates one link.

    While frames flow there are no pings; payloads of one size then move the last line that
    different sizes told, so that it stays right for that size.
    """

    def __init__(self) -> None:
        self._samples: Deque[Sample] = deque(maxlen=KEPT)
        self._anchor: Optional[Line] = None

    def note(self, payload_bytes: int, link_s: float, now_s: float) -> None:
        """
        Take a sample in.

        :param payload_bytes: both directions together; 0 for a ping without payload
        :param link_s: round trip without the time that the peer accounts for; what is not a
            positive number is left out
        """
        if not 0.0 < link_s < float('inf') or payload_bytes < 0:
            return
        self._samples.append(Sample(payload_bytes, link_s, now_s))
        groups = self._groups(now_s)
        if _span_bytes(groups) >= SPAN_BYTES:
            self._anchor = _fitted(groups)

    def forget(self) -> None:
        """Start anew: the link is another one, or was away."""
        self._samples.clear()
        self._anchor = None

    def round_trip_s(self, now_s: float) -> Optional[float]:
        """Return the seconds of a request without payload; None while unknown."""
        groups = self._groups(now_s)
        return self._line(groups).fixed_s if groups else None

    def bandwidth_bytes_per_s(self, now_s: float) -> Optional[float]:
        """
        Return the payload bytes per second of both directions; None while unknown.

        Where payloads take no time that could be measured, it is the least that fits what was
        seen: their time would be `RESOLUTION_RATIO` of the round trip.
        """
        groups = self._groups(now_s)
        if not groups or groups[-1].payload_bytes == 0:
            return None
        line = self._line(groups)
        largest_bytes = max(groups[-1].payload_bytes, PROBE_BYTES)
        return 1.0 / max(line.s_per_byte, RESOLUTION_RATIO * line.fixed_s / largest_bytes)

    def _groups(self, now_s: float) -> List[Group]:
        return _grouped([s for s in self._samples if now_s - s.at_s <= MAX_AGE_S])

    def _line(self, groups: Sequence[Group]) -> Line:
        if _span_bytes(groups) >= SPAN_BYTES:
            return _fitted(groups)
        quickest_s = min(group.link_s for group in groups)
        return _moved(self._anchor or Line(quickest_s, 0.0), groups)


def _grouped(samples: Sequence[Sample]) -> List[Group]:
    """Return the groups by rising payload; payloads of one group differ by less than double."""
    by_size: Dict[int, List[Sample]] = {}
    for sample in samples:
        by_size.setdefault(sample.payload_bytes.bit_length(), []).append(sample)
    return [_group(by_size[size]) for size in sorted(by_size)]


def _group(samples: Sequence[Sample]) -> Group:
    middle = sorted(samples, key=lambda sample: sample.link_s)[(len(samples) - 1) // 2]
    return Group(middle.payload_bytes, middle.link_s, len(samples))


def _span_bytes(groups: Sequence[Group]) -> int:
    return groups[-1].payload_bytes - groups[0].payload_bytes if groups else 0


def _means(groups: Sequence[Group]) -> Tuple[float, float]:
    """Return mean payload and mean seconds over all samples that the groups stand for."""
    total = sum(g.samples for g in groups)
    return (sum(g.samples * g.payload_bytes for g in groups) / total,
            sum(g.samples * g.link_s for g in groups) / total)


def _fitted(groups: Sequence[Group]) -> Line:
    """Return the slope of least squares with the fixed part of most samples, both >= 0."""
    mean_bytes, mean_s = _means(groups)
    s_per_byte = max(0.0, (
        sum(g.samples * (g.payload_bytes - mean_bytes) * (g.link_s - mean_s) for g in groups)
        / sum(g.samples * (g.payload_bytes - mean_bytes) ** 2 for g in groups)))
    fixed_s = _weighted_median(
        [(g.link_s - s_per_byte * g.payload_bytes, g.samples) for g in groups])
    return Line(max(fixed_s, RESOLUTION_RATIO * min(g.link_s for g in groups)), s_per_byte)


def _moved(anchor: Line, groups: Sequence[Group]) -> Line:
    """Return the anchor moved to run through what payloads of about one size took."""
    mean_bytes, mean_s = _means(groups)
    expected_s = anchor.fixed_s + anchor.s_per_byte * mean_bytes
    if mean_s <= expected_s:  # better in all: neither part can fall below zero
        return Line(*(part * mean_s / expected_s for part in anchor))
    if mean_bytes == 0.0:
        return Line(mean_s, anchor.s_per_byte)
    of_bandwidth = mean_bytes ** 2 / (mean_bytes ** 2 + SPAN_BYTES ** 2)
    s_per_byte = anchor.s_per_byte + of_bandwidth * (mean_s - expected_s) / mean_bytes
    return Line(mean_s - s_per_byte * mean_bytes, s_per_byte)


def _weighted_median(pairs: Sequence[Tuple[float, int]]) -> float:
    """Return the lowest value with half of all weight at or below it."""
    half, total = 0.5 * sum(weight for _, weight in pairs), 0.0
    for value, weight in sorted(pairs):
        total += weight
        if total >= half:
            return value
    return max(pairs)[0]
