# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What people read: why a plan was chosen, and what spoke against every other candidate."""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from crowdhmt_ros.planner.budgets import CONSTRAINTS, Budgets, budgets_now, judged, violations
from crowdhmt_ros.planner.scoring import ENERGY, Rated, rate, weights_now
from crowdhmt_ros.profiling.cost_model import estimate_all
from crowdhmt_ros.types import (
    CostEstimate,
    FrontEntry,
    Plan,
    Requirements,
    ResourceSnapshot,
    Violation,
)

FLOOR_WAITS = 'condition of the images not known yet: the accuracy floor waits for it'


@dataclass(frozen=True)
class Explanation:
    """
    Every candidate of the front under one plan, best first.

    :param candidates: their figures
    :param scores: under the plan's weights, None where a budget forbids the candidate
    :param objections: budgets that it would break, '' where it is allowed
    :param text: the same for people, one line a candidate
    """

    candidates: Tuple[CostEstimate, ...]
    scores: Tuple[Optional[float], ...]
    objections: Tuple[str, ...]
    text: str


def _bytes(value: float) -> str:
    return f'{value / 1e6:.1f}'


def _violation(v: Violation) -> str:
    if v.constraint == 'latency_s':
        return f'latency {v.predicted * 1e3:.1f} of {v.limit * 1e3:.1f} ms'
    if v.constraint == 'memory_bytes':
        return f'memory {_bytes(v.predicted)} of {_bytes(v.limit)} MB'
    return f'accuracy {v.predicted * 100:.1f} of {v.limit * 100:.1f} %'


def describe(violated: Sequence[Violation]) -> str:
    """Return broken budgets as text, '' when all hold."""
    return ', '.join(_violation(v) for v in violated)


def _preference(requirements: Requirements, snapshot: ResourceSnapshot) -> str:
    energy = weights_now(requirements, snapshot)[ENERGY]
    battery = snapshot.battery_ratio.value
    if requirements.accuracy_weight is not None:
        return f'accuracy weight {1.0 - energy:.2f} asked for: energy weighs {energy:.2f}'
    if battery is None:
        return f'battery unknown: energy weighs {energy:.2f}'
    return f'battery {battery * 100:.0f} %: energy weighs {energy:.2f}'


def _against(pick: CostEstimate, other: Optional[Rated]) -> str:
    if other is None:
        return 'no other candidate is allowed'
    joules = other.estimate.energy_j.mean
    energy = '%.0f %% of the energy' % (100 * pick.energy_j.mean / joules) if joules > 0 else ''
    points = (pick.accuracy.mean - other.estimate.accuracy.mean) * 100
    gain = f'{points:+.1f} points of accuracy' if abs(points) >= 0.05 else 'equal accuracy'
    parts = ' and '.join(p for p in (energy, gain) if p)
    return f'{parts} against the runner-up {other.candidate_id}'


def _margins(estimate: CostEstimate, budgets: Budgets) -> List[str]:
    parts = []
    if budgets.latency_s is not None:
        parts.append(_violation(Violation('latency_s', budgets.latency_s, estimate.latency_s.p95)))
    if budgets.memory_bytes is not None:
        parts.append(_violation(
            Violation('memory_bytes', budgets.memory_bytes, estimate.memory_bytes.mean)))
    if budgets.floor_waits:
        parts.append(FLOOR_WAITS)
    elif budgets.accuracy is not None:
        parts.append(f'accuracy {estimate.accuracy.mean * 100:.1f} %, '
                     f'floor {budgets.accuracy * 100:.1f} %')
    return parts


def _unmet(rated: Sequence[Rated], pick: Rated, budgets: Budgets) -> str:
    """Say which budget nobody can meet, or that only their combination cannot be met."""
    hopeless = [name for i, name in enumerate(CONSTRAINTS)
                if all(r.excess[i] > 0.0 for r in rated)]
    broken = describe(violations(pick.estimate, budgets))
    if hopeless:
        names = ' and '.join(n.split('_')[0] for n in hopeless)
        return f'no candidate can meet the {names} asked for; least violation: {broken}'
    return f'no candidate can meet all budgets together; least violation: {broken}'


def reason_for(rated: Sequence[Rated], pick: Rated, current: Optional[Rated],
               runner_up: Optional[Rated], rival: Optional[Rated], *, budgets: Budgets,
               snapshot: ResourceSnapshot, requirements: Requirements) -> str:
    """
    Return one line that says why `pick` is in force.

    :param rated: all candidates
    :param pick: the choice
    :param current: what was in force before
    :param runner_up: best other allowed candidate
    :param rival: better one that has not won yet
    """
    parts = [_preference(requirements, snapshot)]
    if not pick.allowed:
        parts.append(f'{pick.candidate_id}: {_unmet(rated, pick, budgets)}')
        if budgets.floor_waits:
            parts.append(FLOOR_WAITS)
        return '; '.join(parts)
    parts.append(f'{pick.candidate_id}: {_against(pick.estimate, runner_up)}')
    if current is not None and current is not pick:
        broken = describe(violations(current.estimate, budgets))
        parts.append('left {}{}'.format(current.candidate_id, ': ' + broken if broken else ''))
    if rival is not None:
        parts.append(f'{rival.candidate_id} is better and must stay so')
    return '; '.join(parts + _margins(pick.estimate, budgets))


def _figures(e: CostEstimate) -> str:
    return (f'accuracy {e.accuracy.mean * 100:.1f} %, latency {e.latency_s.mean * 1e3:.1f} ms, '
            f'memory {_bytes(e.memory_bytes.mean)} MB, {e.energy_j.mean * 1e3:.2f} mJ')


def explain(plan: Plan, front: Sequence[FrontEntry]) -> Explanation:
    """
    Return every candidate as the planner saw it when it made `plan`, best first.

    :param plan: as made, or as read back from a recording
    :param front: the front that the plan was made over
    """
    estimates = estimate_all(front, plan.state, plan.snapshot)
    budgets = judged(budgets_now(plan.requirements, plan.snapshot), estimates,
                     plan.state.condition)
    items = rate(estimates, weights_now(plan.requirements, plan.snapshot), budgets).items
    order = sorted(items, key=lambda r: (r.excess, -r.score, r.candidate_id))
    scores = tuple(r.score if r.allowed else None for r in order)
    objections = tuple(describe(violations(r.estimate, budgets)) for r in order)
    chosen = plan.chosen.candidate.candidate_id
    lines = [plan.reason]
    for r, score, objection in zip(order, scores, objections):
        mark = '*' if r.candidate_id == chosen else '-'
        verdict = objection if score is None else f'score {score:+.3f}'
        if score is not None and not r.roomy:
            verdict += ', too close to a budget to be switched to'
        lines.append(f'{mark} {r.candidate_id}: {_figures(r.estimate)}; {verdict}')
    return Explanation(tuple(r.estimate for r in order), scores, objections, '\n'.join(lines))
