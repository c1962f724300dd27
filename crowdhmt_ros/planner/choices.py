# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What can be chosen from at a moment: the front, and what the peers of the moment add to it."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, Sequence, Tuple

from crowdhmt_ros.offload.placement import objection, offers, uses
from crowdhmt_ros.planner.budgets import HEADROOM, budgets_now
from crowdhmt_ros.planner.left_out import in_words, out_now
from crowdhmt_ros.profiling.accuracy import accuracy_now
from crowdhmt_ros.profiling.cost_model import estimate_all, peer_ratios
from crowdhmt_ros.types import (
    CostEstimate,
    FrontEntry,
    LoopState,
    PeerStatus,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
)


@dataclass(frozen=True)
class Offer:
    """
    What a robot can choose from, but for the moment.

    :param front: candidates that stay here
    :param remote: ways to be helped
    :param peers: who could help, as known now
    """

    front: Sequence[FrontEntry]
    remote: Sequence[RemoteOption] = ()
    peers: Sequence[PeerStatus] = ()


@dataclass(frozen=True)
class Choices:
    """
    The candidates of a moment with their figures.

    :param estimates: those that stay here first, in the order of the front
    :param lost: why the candidate in force is not among them, '' when it is
    """

    estimates: Tuple[CostEstimate, ...]
    lost: str = ''


def choices_now(offer: Offer, state: LoopState, snapshot: ResourceSnapshot,
                requirements: Requirements, now_s: float) -> Choices:
    """
    Return every candidate that can be had now and what it is expected to do.

    Those that could not be made ready are left out, unless nothing that stays here is left.

    :param offer: front, ways to be helped, peers
    :param state: with the feedback of this step absorbed
    :param snapshot: resources of the moment
    :param requirements: wishes of the user
    :param now_s: node clock
    """
    out = out_now(state.left_out, now_s)
    if out:
        offer = replace(offer, front=_without(offer.front, out) or offer.front)
    here = estimate_all(offer.front, state, snapshot)
    helped = _without(_helped(offer, here, state, snapshot, requirements, now_s), out)
    estimates = here + estimate_all(helped, state, snapshot)
    known = any(e.candidate.candidate_id == state.current_id for e in estimates)
    return Choices(estimates, '' if known or not state.current_id else _lost(offer, state, now_s))


def _without(entries: Sequence[FrontEntry], out: FrozenSet[str]) -> Tuple[FrontEntry, ...]:
    return tuple(e for e in entries if e.candidate.candidate_id not in out)


def _helped(offer: Offer, here: Sequence[CostEstimate], state: LoopState,
            snapshot: ResourceSnapshot, requirements: Requirements, now_s: float
            ) -> Tuple[FrontEntry, ...]:
    budgets = budgets_now(requirements, snapshot)
    memory = budgets.memory_bytes
    if memory is not None and budgets.memory_wavers:
        memory *= HEADROOM
    return offers(
        offer.remote, offer.peers, offer.front, memory_budget_bytes=memory, now_s=now_s,
        home=here, deadline_s=budgets.latency_s, current_id=state.current_id,
        fallback_id=state.fallback_id,
        accuracy_of=lambda accuracy: accuracy_now(accuracy, state.condition).mean,
        peer_ratios=peer_ratios(state.corrections))


def _lost(offer: Offer, state: LoopState, now_s: float) -> str:
    if state.current_id in out_now(state.left_out, now_s):
        return 'this robot could not make it ready'
    for peer in offer.peers:
        if uses(state.current_id, peer.robot_id):
            reason = objection(peer, now_s, in_use=True)
            return f'{peer.robot_id}: {reason}' if reason else \
                f'{peer.robot_id} is too slow or too far away for it now'
    return 'the peer that it needs is gone' if '@' in state.current_id else 'it is offered no more'


def refusals(offer: Offer, state: LoopState, now_s: float) -> Tuple[str, ...]:
    """Return one line for each candidate that is left out now, and each peer not to be asked."""
    out = in_words(state.left_out, now_s)
    if not offer.remote:
        return out
    found = ((peer.robot_id, objection(peer, now_s,
                                       in_use=uses(state.current_id, peer.robot_id)))
             for peer in offer.peers)
    return out + tuple(f'{name} is not asked: {reason}' for name, reason in found if reason)
