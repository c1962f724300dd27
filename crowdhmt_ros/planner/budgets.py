# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which budgets hold at this moment, and by how much a candidate would break them."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple

from crowdhmt_ros.types import CostEstimate, Requirements, ResourceSnapshot, Violation

ACCURACY_TOLERANCE = 1e-9
AVAILABLE_SHARE = 0.5
"""Of the machine's available memory, where nobody stated a budget."""
HEADROOM = 0.94
"""
A candidate that is not in force must keep this share of a budget that wavers.

Figures that waver by 3 % cannot then push a new choice out again: 0.94 x 1.03 / 0.97 < 1.
"""

CONSTRAINTS = ('latency_s', 'memory_bytes', 'accuracy')
"""In the order in which they are given up when not all can be met."""

Excess = Tuple[float, float, float]
"""By how much each of `CONSTRAINTS` is broken, relative to its limit; 0 where it holds."""
NO_EXCESS: Excess = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Budgets:
    """
    The limits in force; None limits nothing.

    :param latency_s: for the 95th percentile
    :param memory_bytes: for the model and its engine
    :param accuracy: lowest ratio of right answers
    :param memory_wavers: True where the memory limit is a share of a fluctuating reading
    :param floor_waits: True while the condition of the images is unknown, see `judged`
    """

    latency_s: Optional[float] = None
    memory_bytes: Optional[float] = None
    accuracy: Optional[float] = None
    memory_wavers: bool = False
    floor_waits: bool = False


def budgets_now(requirements: Requirements, snapshot: ResourceSnapshot) -> Budgets:
    """
    Return the limits in force.

    Memory is the smaller of what the user grants and what is allotted to inference; where both
    are unknown, half of what the machine has available.

    :param requirements: wishes of the user
    :param snapshot: resources of the moment
    """
    stated = [b for b in (requirements.memory_budget_bytes, snapshot.memory_allotted_bytes.value)
              if b is not None]
    available = snapshot.memory_available_bytes.value
    wavers = not stated and available is not None
    if stated:
        memory: Optional[float] = min(stated)
    else:
        memory = None if available is None else AVAILABLE_SHARE * available
    return Budgets(requirements.latency_budget_s, memory, requirements.accuracy_floor, wavers)


def judged(budgets: Budgets, estimates: Sequence[CostEstimate], condition: str) -> Budgets:
    """
    Return the limits by which this step may judge.

    Without a condition of the images an accuracy is a guess, and nobody can say that it breaks
    a floor. So long a floor asks for no more than the best that fits the other budgets: it still
    keeps lean candidates away, and no violation of it is claimed that nobody knows of. The best
    is sought among candidates that stay here: on a guess nobody is asked for help.

    :param budgets: of `budgets_now`
    :param estimates: all candidates
    :param condition: condition of the images, '' while unknown
    """
    if condition or budgets.accuracy is None:
        return budgets
    others = replace(budgets, accuracy=None)
    fitting = [e for e in estimates if excess(e, others) == NO_EXCESS]
    here = [e for e in fitting if not e.candidate.placement.peers]
    best = max((e.accuracy.mean for e in here or fitting), default=0.0)
    return replace(budgets, accuracy=min(budgets.accuracy, best), floor_waits=True)


def _over(value: float, limit: Optional[float]) -> float:
    if limit is None or value <= limit:
        return 0.0
    # An allotment of 0 bytes must still tell little from much.
    return value / max(limit, 1e-9) - 1.0


def excess(estimate: CostEstimate, budgets: Budgets) -> Excess:
    """Return by how much `estimate` breaks each budget, relative to it."""
    floor, accuracy = budgets.accuracy, estimate.accuracy.mean
    short = 0.0
    if floor is not None and accuracy < floor - ACCURACY_TOLERANCE:
        short = 1.0 - accuracy / floor
    return (_over(estimate.latency_s.p95, budgets.latency_s),
            _over(estimate.memory_bytes.mean, budgets.memory_bytes), short)


def has_room(estimate: CostEstimate, budgets: Budgets) -> bool:
    """Return whether `estimate` keeps its distance from every budget that wavers."""
    latency, memory = budgets.latency_s, budgets.memory_bytes
    if latency is not None and estimate.latency_s.p95 > HEADROOM * latency:
        return False
    return not (budgets.memory_wavers and memory is not None
                and estimate.memory_bytes.mean > HEADROOM * memory)


def violations(estimate: CostEstimate, budgets: Budgets) -> Tuple[Violation, ...]:
    """Return the budgets that `estimate` breaks, with the limit and the figure expected."""
    figures = (estimate.latency_s.p95, estimate.memory_bytes.mean, estimate.accuracy.mean)
    limits = (budgets.latency_s, budgets.memory_bytes, budgets.accuracy)
    return tuple(
        Violation(name, limit, figure)
        for name, limit, figure, over in zip(CONSTRAINTS, limits, figures,
                                             excess(estimate, budgets))
        if over > 0.0 and limit is not None)
