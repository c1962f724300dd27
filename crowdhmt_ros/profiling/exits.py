# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a candidate takes that may answer early: head + (1 - share answered there) x tail (P III-A1).

The mean is what a frame takes on average, for energy; the 95th percentile is that of the exit
until which 95 % of the answers are given, so a budget of time counts with hard frames.
"""
from __future__ import annotations

import math
from typing import Dict, List, Sequence, Tuple

from crowdhmt_ros.profiling.latency import spread
from crowdhmt_ros.types import (
    Candidate,
    Estimate,
    ExitCost,
    Feedback,
    FrontEntry,
    Segment,
)

PERCENTILE = 0.95


def exit_costs(candidate: Candidate, steps: Sequence[Segment], times_s: Sequence[Estimate]
               ) -> Tuple[ExitCost, ...]:
    """
    Return what each exit of a candidate takes, the end last; empty for one with a fixed exit.

    :param steps: its segments here
    :param times_s: of each of them, as tabulated
    """
    if not candidate.placement.is_early:
        return ()
    found: List[ExitCost] = []
    mean_s = p95_s = 0.0
    left = 1.0
    for segment, time_s in zip(steps, times_s):
        mean_s, p95_s = mean_s + time_s.mean, p95_s + time_s.p95
        rule = segment.early_exit
        ratio = left if rule is None else min(left, rule.ratio)
        left -= ratio
        number = candidate.variant.exit_index if rule is None else rule.exit_index
        found.append(ExitCost(number, ratio, mean_s, p95_s))
    return tuple(found)


def reached_ratios(exits: Sequence[ExitCost]) -> Tuple[float, ...]:
    """Return the share of frames for which each step runs; that of the only one without exits."""
    found, left = [], 1.0
    for cost in exits:
        found.append(left)
        left = max(0.0, left - cost.ratio)
    return tuple(found) or (1.0,)


def mean_latency(exits: Sequence[ExitCost], source: str) -> Estimate:
    """
    Return the mean over all answers, and the 95th percentile.

    :param exits: at least one
    :param source: of the times
    """
    mean_s = sum(cost.ratio * cost.latency_s for cost in exits)
    return Estimate(mean_s, max(mean_s, _at(exits, PERCENTILE).p95_s), source)


def _at(exits: Sequence[ExitCost], share: float) -> ExitCost:
    """Return the exit until which a share of the answers is given."""
    seen = 0.0
    for cost in exits:
        seen += cost.ratio
        if seen >= share - 1e-9:
            return cost
    return exits[-1]


def depth_spread(entry: FrontEntry) -> float:
    """
    Return how much longer than the mean a frame takes that few are deeper than; 1 without exits.

    It is apart from what holds the machine up, see `machine_spread`.
    """
    if not entry.exits or entry.latency_s.mean <= 0.0:
        return 1.0
    return max(1.0, _at(entry.exits, PERCENTILE).latency_s / entry.latency_s.mean)


def machine_spread(entry: FrontEntry) -> float:
    """Return the tabulated 95th percentile over the centre, of frames of one depth."""
    if not entry.exits:
        return spread(entry.latency_s.mean, entry.latency_s.p95)
    deep = _at(entry.exits, PERCENTILE)
    return spread(deep.latency_s, deep.p95_s)


def depth_of(entry: FrontEntry, feedback: Feedback) -> Tuple[float, ...]:
    """
    Return per frame of a window what its exit takes over what the mean frame takes, by the table.

    :param entry: the candidate that ran
    :returns: empty for a candidate with a fixed exit
    """
    if entry.latency_s.mean <= 0.0:
        return ()
    known = {c.exit_index: c.latency_s / entry.latency_s.mean for c in entry.exits}
    return tuple(known[number] for number in feedback.exit_index if number in known)


def per_frame(entry: FrontEntry, feedback: Feedback) -> Tuple[float, ...]:
    """
    Return a window's times of the engine as if each frame had been of mean depth.

    So they tell how fast the machine is, whichever exits the frames have taken; times of frames
    of which the exit is not known are left out.

    :param entry: the candidate that ran
    :param feedback: of one window
    """
    if not entry.exits:
        return feedback.infer_s
    known: Dict[int, float] = {c.exit_index: c.latency_s for c in entry.exits if c.latency_s > 0.0}
    return tuple(time_s * entry.latency_s.mean / known[number]
                 for time_s, number in zip(feedback.infer_s, feedback.exit_index)
                 if number in known and math.isfinite(time_s))
