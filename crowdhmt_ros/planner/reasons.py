# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What people read: why a plan was chosen, and what spoke against every other candidate."""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from crowdhmt_ros.planner.budgets import CONSTRAINTS, Budgets, budgets_now, judged, violations
from crowdhmt_ros.planner.choices import Offer, choices_now, refusals
from crowdhmt_ros.planner.scoring import ENERGY, Rated, rate, weights_now
from crowdhmt_ros.types import (
    Away,
    CostEstimate,
    FrontEntry,
    LoopState,
    Plan,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
    Violation,
)

NOT_NEEDED = 'not needed: a candidate that stays here keeps every budget'
FLOOR_WAITS = 'condition of the images not known yet: the accuracy floor waits for it'


@dataclass(frozen=True)
class Explanation:
    """
    Every candidate under one plan, those of peers included, best first.

    :param candidates: their figures
    :param scores: under the plan's weights, None where the candidate was not to be chosen
    :param objections: budgets that it would break or that no peer is needed, '' where it is
        allowed
    :param text: the same for people, one line a candidate, one for each that is left out, one a
        peer that cannot be asked
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


def _by_air(away: Away) -> str:
    """Return the bytes of one frame and the link that they take."""
    return (f'{away.sent_bytes / 1e3:.1f} kB there and {away.received_bytes / 1e3:.2f} kB back a '
            f'frame, link {away.round_trip_s * 1e3:.1f} ms and '
            f'{away.bandwidth_bytes_per_s / 1e6:.2f} MB/s')


def _helper(rated: Sequence[Rated], pick: Rated, budgets: Budgets, state: LoopState) -> List[str]:
    """Say who helps, by which link, why, and how often that failed lately."""
    away = pick.estimate.away
    if away is None:
        return []
    part = pick.estimate.candidate.placement.segments[-1].segment_id
    here = min((r for r in rated if not r.away), key=lambda r: (r.excess, -r.score), default=None)
    parts = [f'{away.robot_id} computes {part}: {_by_air(away)}']
    if here is not None and not here.allowed:
        parts.append('nothing that stays here keeps every budget, nearest '
                     f'{here.candidate_id}: {describe(violations(here.estimate, budgets))}')
    parts.append(f'{state.degraded_ratio * 100:.0f} % of the answers asked of peers were the '
                 f"fallback's ({pick.estimate.fallback_id})")
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
               snapshot: ResourceSnapshot, requirements: Requirements, state: LoopState,
               lost: str = '') -> str:
    """
    Return one line that says why `pick` is in force.

    :param rated: all candidates
    :param pick: the choice
    :param current: what was in force before
    :param runner_up: best other allowed candidate
    :param rival: better one, or one that stays here, that has not won yet
    :param state: with the feedback of this step absorbed
    :param lost: why the candidate in force cannot be had any more
    """
    parts = [_preference(requirements, snapshot)]
    helper = _helper(rated, pick, budgets, state)
    left = [f'left {state.current_id}: {lost}'] if lost else []
    if not pick.allowed:
        parts.append(f'{pick.candidate_id}: {_unmet(rated, pick, budgets)}')
        if budgets.floor_waits:
            parts.append(FLOOR_WAITS)
        return '; '.join([*parts, *helper, *left])
    parts += [f'{pick.candidate_id}: {_against(pick.estimate, runner_up)}', *helper, *left]
    if current is not None and current is not pick:
        broken = describe(violations(current.estimate, budgets))
        parts.append('left {}{}'.format(current.candidate_id, ': ' + broken if broken else ''))
    if rival is not None:
        verb = 'needs no peer' if pick.away and not rival.away else 'is better'
        parts.append(f'{rival.candidate_id} {verb} and must stay so')
    return '; '.join(parts + _margins(pick.estimate, budgets))


def _figures(e: CostEstimate) -> str:
    return (f'accuracy {e.accuracy.mean * 100:.1f} %, latency {e.latency_s.mean * 1e3:.1f} ms, '
            f'memory {_bytes(e.memory_bytes.mean)} MB, {e.energy_j.mean * 1e3:.2f} mJ')


def explain(plan: Plan, front: Sequence[FrontEntry], remote: Sequence[RemoteOption] = ()
            ) -> Explanation:
    """
    Return every candidate as the planner saw it when it made `plan`, best first.

    :param plan: as made, or as read back from a recording
    :param front: the front that the plan was made over
    :param remote: the ways to be helped that it was made over
    """
    offer = Offer(front, remote, plan.peers)
    estimates = choices_now(offer, plan.state, plan.snapshot, plan.requirements,
                            plan.stamp_s).estimates
    budgets = judged(budgets_now(plan.requirements, plan.snapshot), estimates,
                     plan.state.condition)
    items = rate(estimates, weights_now(plan.requirements, plan.snapshot), budgets).items
    at_home = any(r.allowed and not r.away for r in items)
    order = sorted(items, key=lambda r: (r.excess, at_home and r.away, -r.score, r.candidate_id))
    chosen = plan.chosen.candidate.candidate_id
    objections, scores, lines = [], [], [plan.reason]
    for r in order:
        needless = at_home and r.away and r.allowed and r.candidate_id != chosen
        objections.append(NOT_NEEDED if needless else
                          describe(violations(r.estimate, budgets)))
        scores.append(r.score if r.allowed and not needless else None)
        lines.append(_line(r, objections[-1], scores[-1], r.candidate_id == chosen))
    lines += [f'- {line}' for line in refusals(offer, plan.state, plan.stamp_s)]
    return Explanation(tuple(r.estimate for r in order), tuple(scores), tuple(objections),
                       '\n'.join(lines))


def _line(r: Rated, objection: str, score: Optional[float], chosen: bool) -> str:
    verdict = objection if score is None else f'score {score:+.3f}'
    if score is not None and not r.roomy:
        verdict += ', too close to a budget to be switched to'
    if r.estimate.away is not None:
        verdict += f'; {_by_air(r.estimate.away)}; fallback {r.estimate.fallback_id}'
    return f"{'*' if chosen else '-'} {r.candidate_id}: {_figures(r.estimate)}; {verdict}"
