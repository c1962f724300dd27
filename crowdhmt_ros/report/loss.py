# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The counter of frames: the source's own log against what was published.

Every stamp of the log must occur exactly once in `result`, or once as superseded in `feedback`.
Late and degraded answers are counted apart.
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from crowdhmt_ros.report.recording import NS, Recording

SWITCH_WINDOW_S = 1.0


@dataclass(frozen=True)
class LossCount:
    """
    What became of the frames of one run.

    :param emitted: stamps in the source's log
    :param answered: of them, those with exactly one result
    :param superseded: of them, those reported as replaced by a newer frame
    :param lost: of them, those with neither
    :param duplicates: results beyond the first of a stamp, and stamps both answered and
        superseded
    :param unknown: results and superseded stamps that the log does not hold
    :param late_ratio: answers older than two frame periods over all answers; the larger of
        what the node reported and what the results' own latencies say
    :param degraded_ratio: answers of a fallback over all answers
    :param superseded_ratio: superseded over emitted
    :param switches: changes of the variant that answers
    :param switch_gap_frames_max: longest row of consecutive frames without an answer of their
        own within a second of a switch
    """

    emitted: int
    answered: int
    superseded: int
    lost: int
    duplicates: int
    unknown: int
    late_ratio: float
    degraded_ratio: float
    superseded_ratio: float
    switches: int
    switch_gap_frames_max: int


def count_losses(recording: Recording, *, frame_period_s: Optional[float] = None) -> LossCount:
    """
    Count each frame of a run.

    :param recording: with the source's log
    :param frame_period_s: time between two frames; taken from the log when None
    """
    stamps = [frame.stamp_ns for frame in recording.frames]
    logged = set(stamps)
    answers = Counter(answer.stamp_ns for answer in recording.answers)
    superseded = Counter(s for window in recording.windows for s in window.superseded_ns)
    period_s = frame_period_s or median_period_s(stamps)
    late = max(sum(window.late for window in recording.windows),
               sum(1 for a in recording.answers
                   if a.latency_s is not None and period_s and a.latency_s > 2 * period_s))
    switches = switch_stamps(recording)
    total = max(1, len(recording.answers))
    return LossCount(
        emitted=len(stamps),
        answered=sum(1 for s in logged if answers[s]),
        superseded=sum(1 for s in logged if superseded[s] and not answers[s]),
        lost=sum(1 for s in logged if not answers[s] and not superseded[s]),
        duplicates=(sum(n - 1 for n in answers.values()) + sum(n - 1 for n in superseded.values())
                    + sum(1 for s in superseded if answers[s]) + len(stamps) - len(logged)),
        unknown=sum(1 for s in [*answers, *superseded] if s not in logged),
        late_ratio=late / total,
        degraded_ratio=sum(1 for a in recording.answers if a.degraded) / total,
        superseded_ratio=sum(1 for s in logged if superseded[s]) / max(1, len(logged)),
        switches=len(switches),
        switch_gap_frames_max=longest_gap(sorted(logged), set(answers), switches))


def median_period_s(stamps: Sequence[int]) -> Optional[float]:
    """Return the median step between consecutive stamps in seconds, None below two frames."""
    steps = sorted(b - a for a, b in zip(stamps, stamps[1:]))
    return steps[len(steps) // 2] / NS if steps else None


def switch_stamps(recording: Recording) -> Tuple[int, ...]:
    """Return the stamps of the first frames that another variant answered, in order."""
    ordered = sorted(recording.answers, key=lambda a: a.stamp_ns)
    return tuple(b.stamp_ns for a, b in zip(ordered, ordered[1:])
                 if (a.variant_id, a.exit_index) != (b.variant_id, b.exit_index))


def longest_gap(stamps: Sequence[int], answered: set[int], switches: Sequence[int]) -> int:
    """
    Return the longest row of unanswered frames near a switch.

    :param stamps: of the source's log, ascending
    :param answered: stamps that have a result
    :param switches: stamps at which the answering variant changed
    """
    rows: List[Tuple[int, int, int]] = []
    for stamp in stamps:
        if stamp in answered:
            rows.append((0, stamp, stamp))
        else:
            length, first, _ = rows[-1] if rows and rows[-1][0] else (0, stamp, stamp)
            rows.append((length + 1, first, stamp))
    reach = SWITCH_WINDOW_S * NS
    return max((length for length, first, last in rows if length and any(
        first - reach <= switch <= last + reach for switch in switches)), default=0)
