# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The adaptation loop on one screen: look, estimate, choose, once a second (P III-D).

`step` is pure: no clock, no file, no hidden memory. Everything that it remembers is in
`LoopState`, which each Plan publishes, so that a recorded plan can be derived again.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Sequence, Tuple

from crowdhmt_ros.planner.planner import Decision, choose
from crowdhmt_ros.profiling.cost_model import absorb, absorb_preprocess, estimate_all
from crowdhmt_ros.types import (
    Feedback,
    FrontEntry,
    LoopState,
    Plan,
    Requirements,
    ResourceSnapshot,
)


def step(state: LoopState, snapshot: ResourceSnapshot, feedbacks: Sequence[Feedback],
         requirements: Requirements, front: Sequence[FrontEntry], now_s: float
         ) -> Tuple[LoopState, Plan]:
    """
    Take one step of the loop: feedback corrects the costs, then the best candidate is chosen.

    :param state: as the last step returned it; `LoopState()` at first
    :param snapshot: resources of the moment
    :param feedbacks: all that arrived since the last step
    :param requirements: wishes of the user
    :param front: candidates with their tables
    :param now_s: node clock
    :returns: the state for the next step, and the plan to be in force until then
    :raises ConfigError: when the front is empty
    :raises RequirementsError: when the requirements are not usable numbers
    """
    known = learn(state, feedbacks, front)
    estimates = estimate_all(front, known, snapshot)
    decision = choose(estimates, snapshot, requirements, known, now_s)
    plan = Plan(
        plan_seq=known.plan_seq + 1, stamp_s=now_s, chosen=decision.chosen,
        runner_up=decision.runner_up, weights=decision.weights, score=decision.score,
        violated=decision.violated, reason=decision.reason, requirements=requirements,
        snapshot=snapshot, state=known)
    return enact(known, decision, now_s), plan


def learn(state: LoopState, feedbacks: Sequence[Feedback], front: Sequence[FrontEntry]
          ) -> LoopState:
    """
    Return the state with the feedback absorbed.

    That is: corrected costs, the time that frames of this camera take to prepare, and the
    condition of its images.
    """
    corrections = absorb(state.corrections, feedbacks, front, current_id=state.current_id,
                         current_since_s=state.current_since_s)
    told = [f for f in feedbacks if f.condition]
    latest = max(told, key=lambda f: (f.stamp_s, f.plan_seq)) if told else None
    return replace(state, corrections=corrections,
                   preprocess_s=absorb_preprocess(state.preprocess_s, feedbacks),
                   condition=latest.condition if latest else state.condition)


def enact(state: LoopState, decision: Decision, now_s: float) -> LoopState:
    """Return the state once the decision is in force."""
    chosen_id = decision.chosen.candidate.candidate_id
    return replace(
        state, plan_seq=state.plan_seq + 1, current_id=chosen_id,
        current_since_s=state.current_since_s if chosen_id == state.current_id else now_s,
        challenger_id=decision.challenger_id, challenger_steps=decision.challenger_steps)


def rederive(plan: Plan, front: Sequence[FrontEntry]) -> str:
    """
    Return the candidate_id that `plan` must have chosen, from what it publishes alone.

    :param plan: as made, or as read back from a recording
    :param front: the front that the plan was made over (`front_sha256` must agree)
    """
    estimates = estimate_all(front, plan.state, plan.snapshot)
    decision = choose(estimates, plan.snapshot, plan.requirements, plan.state, plan.stamp_s)
    return decision.chosen.candidate.candidate_id
