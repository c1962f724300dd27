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

from crowdhmt_ros.offload.placement import entries_named
from crowdhmt_ros.planner.choices import Offer, choices_now
from crowdhmt_ros.planner.left_out import absorb_failed
from crowdhmt_ros.planner.planner import Decision, choose
from crowdhmt_ros.profiling.cost_model import absorb, absorb_degraded, absorb_preprocess
from crowdhmt_ros.types import (
    Feedback,
    FrontEntry,
    LoopState,
    PeerStatus,
    Plan,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
)


def step(state: LoopState, snapshot: ResourceSnapshot, feedbacks: Sequence[Feedback],
         requirements: Requirements, front: Sequence[FrontEntry], now_s: float,
         peers: Sequence[PeerStatus] = (), remote: Sequence[RemoteOption] = ()
         ) -> Tuple[LoopState, Plan]:
    """
    Take one step of the loop: feedback corrects the costs, then the best candidate is chosen.

    :param state: as the last step returned it; `LoopState()` at first
    :param snapshot: resources of the moment
    :param feedbacks: all that arrived since the last step
    :param requirements: wishes of the user
    :param front: candidates that stay here, with their tables
    :param now_s: node clock
    :param peers: who could help, as known now
    :param remote: ways to be helped
    :returns: the state for the next step, and the plan to be in force until then
    :raises ConfigError: when the front is empty
    :raises RequirementsError: when the requirements are not usable numbers
    """
    offer = Offer(front, remote, tuple(peers))
    known = learn(state, feedbacks, offer)
    decision = decide(offer, known, snapshot, requirements, now_s)
    plan = Plan(
        plan_seq=known.plan_seq + 1, stamp_s=now_s, chosen=decision.chosen,
        runner_up=decision.runner_up, weights=decision.weights, score=decision.score,
        violated=decision.violated, reason=decision.reason, requirements=requirements,
        snapshot=snapshot, state=known, peers=tuple(peers))
    return enact(known, decision, now_s), plan


def learn(state: LoopState, feedbacks: Sequence[Feedback], offer: Offer) -> LoopState:
    """
    Return the state with the feedback absorbed.

    That is: corrected costs, the time that frames of this camera take to prepare, the condition
    of its images, how often a fallback had to answer for a peer, and which candidates could not
    be made ready.
    """
    named = sorted({f.candidate_id for f in feedbacks})
    helped = entries_named(named, offer.remote, offer.peers)
    corrections = absorb(state.corrections, feedbacks, (*offer.front, *helped),
                         current_id=state.current_id, current_since_s=state.current_since_s)
    told = [f for f in feedbacks if f.condition]
    latest = max(told, key=lambda f: (f.stamp_s, f.plan_seq)) if told else None
    return replace(state, corrections=corrections,
                   preprocess_s=absorb_preprocess(state.preprocess_s, feedbacks),
                   degraded_ratio=absorb_degraded(state.degraded_ratio, feedbacks),
                   condition=latest.condition if latest else state.condition,
                   left_out=absorb_failed(state.left_out, feedbacks))


def decide(offer: Offer, state: LoopState, snapshot: ResourceSnapshot,
           requirements: Requirements, now_s: float) -> Decision:
    """Return the best of what can be had now, what it costs estimated under `state`."""
    choices = choices_now(offer, state, snapshot, requirements, now_s)
    return choose(choices.estimates, snapshot, requirements, state, now_s, lost=choices.lost)


def enact(state: LoopState, decision: Decision, now_s: float) -> LoopState:
    """Return the state once the decision is in force."""
    chosen_id = decision.chosen.candidate.candidate_id
    return replace(
        state, plan_seq=state.plan_seq + 1, current_id=chosen_id,
        current_since_s=state.current_since_s if chosen_id == state.current_id else now_s,
        challenger_id=decision.challenger_id, challenger_steps=decision.challenger_steps,
        fallback_id=decision.chosen.fallback_id)


def rederive(plan: Plan, front: Sequence[FrontEntry], remote: Sequence[RemoteOption] = ()) -> str:
    """
    Return the candidate_id that `plan` must have chosen, from what it publishes alone.

    :param plan: as made, or as read back from a recording
    :param front: the front that the plan was made over (`front_sha256` must agree)
    :param remote: the ways to be helped that it was made over
    """
    decision = decide(Offer(front, remote, plan.peers), plan.state, plan.snapshot,
                      plan.requirements, plan.stamp_s)
    return decision.chosen.candidate.candidate_id
