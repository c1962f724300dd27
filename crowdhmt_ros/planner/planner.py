# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The online choice (P III-D2): budgets first, then home, then formula (3), then the will to stay.

A candidate that a peer takes part in is considered only while none that stays here keeps every
budget: an answer of one's own needs no link.

Why it does not flap: a candidate in force that breaks no budget stays until the same challenger
has been better by more than noise for two steps; a challenger must fit the budgets with room to
spare. A candidate in force that breaks a budget is left in the same step. The way home from a
peer takes the same two steps and the same room, but no better score.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import ConfigError, RequirementsError, all_problems
from crowdhmt_ros.planner.budgets import budgets_now, judged, violations
from crowdhmt_ros.planner.reasons import Explanation, explain, reason_for
from crowdhmt_ros.planner.scoring import ENERGY, Rated, Rating, rate, weights_now
from crowdhmt_ros.types import CostEstimate, LoopState, Requirements, ResourceSnapshot, Violation

__all__ = ['Decision', 'Explanation', 'choose', 'explain']

MARGIN = 0.02
"""A challenger's lead in score, beyond what noise in the energies could feign."""
ENERGY_NOISE = 1.06
"""Two energies that differ by less than this factor are taken as equal (3 % each)."""
WINNING_STEPS = 2
LEAST_STAY_S = 1.5
"""Steps may follow each other faster than once a second; switches may not."""
NEARLY_AS_BAD = 0.06
"""Where nothing is feasible, a violation smaller by less than this is no reason to switch."""


@dataclass(frozen=True)
class Decision:
    """
    The outcome of one step.

    :param chosen: figures of the choice
    :param runner_up: best other candidate that breaks no budget and was considered
    :param weights: of formula (3)
    :param score: of the choice
    :param violated: what the choice breaks; empty when any candidate breaks nothing
    :param reason: one line for people
    :param challenger_id: who would be better but has not yet won, '' without one
    :param challenger_steps: for how many steps in a row
    """

    chosen: CostEstimate
    runner_up: Optional[CostEstimate]
    weights: Mapping[str, float]
    score: float
    violated: Tuple[Violation, ...]
    reason: str
    challenger_id: str
    challenger_steps: int


def choose(estimates: Sequence[CostEstimate], snapshot: ResourceSnapshot,
           requirements: Requirements, state: LoopState, now_s: float, *, lost: str = ''
           ) -> Decision:
    """
    Return which candidate is to be in force from now on, and why.

    Feasible candidates are ranked by formula (3). When none is feasible the least violation in
    the order latency, memory, accuracy is chosen and published as such.

    :param estimates: one a candidate of the front, and those that peers make possible
    :param snapshot: resources of the moment
    :param requirements: wishes of the user
    :param state: with the feedback of this step absorbed
    :param now_s: node clock
    :param lost: why the candidate in force cannot be had any more, for the reason
    :raises ConfigError: when there is no candidate
    :raises RequirementsError: when the requirements are not usable numbers
    """
    if not estimates:
        raise ConfigError('the front holds no candidate: calibrate again, or use another bundle')
    problems = requirements.problems()
    if problems:
        raise RequirementsError(all_problems(problems))
    budgets = judged(budgets_now(requirements, snapshot), estimates, state.condition)
    weights = weights_now(requirements, snapshot)
    rating = rate(estimates, weights, budgets)
    current = next((r for r in rating.items if r.candidate_id == state.current_id), None)
    rival, steps = _rival(rating, current, weights[ENERGY], state)
    pick = _pick(rating, current, rival if _won(steps, state, now_s) else None)
    if pick is rival:
        rival, steps = None, 0
    runner_up = _best([r for r in rating.items
                       if r.allowed and r is not pick and (pick.away or not r.away)])
    return Decision(
        pick.estimate, runner_up.estimate if runner_up else None, weights, pick.score,
        violations(pick.estimate, budgets),
        reason_for(rating.items, pick, current, runner_up, rival, budgets=budgets,
                   snapshot=snapshot, requirements=requirements, state=state, lost=lost),
        rival.candidate_id if rival else '', steps)


def _best(rated: Sequence[Rated]) -> Optional[Rated]:
    return min(rated, key=lambda r: (-r.score, r.candidate_id)) if rated else None


def home_first(allowed: Sequence[Rated]) -> Sequence[Rated]:
    """Return those that stay here; all when none does."""
    return [r for r in allowed if not r.away] or allowed


def _pick(rating: Rating, current: Optional[Rated], winner: Optional[Rated]) -> Rated:
    allowed = home_first([r for r in rating.items if r.allowed])
    if not allowed:
        return _least_violation(rating.items, current)
    if current is not None and current.allowed:
        return winner or current
    best = _best([r for r in allowed if r.roomy] or allowed)
    assert best is not None, 'at least one candidate is allowed'
    return best


def _rival(rating: Rating, current: Optional[Rated], energy_weight: float, state: LoopState
           ) -> Tuple[Optional[Rated], int]:
    """Return who beats the candidate in force by more than noise, and for how many steps."""
    if current is None or not current.allowed:
        return None, 0
    noise = math.log(ENERGY_NOISE) / rating.energy_span if rating.energy_span > 0.0 else 0.0
    needed = current.score + MARGIN + energy_weight * noise
    usable = [r for r in rating.items if r.allowed and r.roomy]
    at_home = [r for r in usable if not r.away]
    if current.away and at_home:
        better = at_home
    else:
        better = [r for r in usable if r.score > needed and r.away == current.away]
    again = [r for r in better if r.candidate_id == state.challenger_id]
    rival = _best(again or better)
    if rival is None:
        return None, 0
    return rival, state.challenger_steps + 1 if again else 1


def _won(steps: int, state: LoopState, now_s: float) -> bool:
    stayed_s = now_s - state.current_since_s
    return steps >= WINNING_STEPS and not 0.0 <= stayed_s < LEAST_STAY_S


def _least_violation(rated: Sequence[Rated], current: Optional[Rated]) -> Rated:
    least = min(rated, key=lambda r: (r.excess, r.away, -r.score, r.candidate_id))
    if current is not None and all(
            have <= best + NEARLY_AS_BAD for have, best in zip(current.excess, least.excess)):
        return current
    return least
