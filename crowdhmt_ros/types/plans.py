# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the loop takes and gives: requirements, feedback, its state, and the plan."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from crowdhmt_ros.types.candidates import CostEstimate
from crowdhmt_ros.types.fleet import PeerStatus
from crowdhmt_ros.types.resources import NO_READING, Reading, ResourceSnapshot


def _check_range(name: str, value: Optional[float], low: float, high: float) -> Optional[str]:
    if value is None or (math.isfinite(value) and low <= value <= high):
        return None
    return '%s is %r, it must lie in %g..%g' % (name, value, low, high)


@dataclass(frozen=True)
class Requirements:
    """
    What the user asks for; None means no wish.

    :param latency_budget_s: from frame in memory to answer
    :param memory_budget_bytes: for the model and its engine
    :param accuracy_floor: lowest acceptable ratio of right answers, 0..1
    :param accuracy_weight: fixed weight of accuracy against energy, 0..1; None lets the
        battery decide (formula (3))
    """

    latency_budget_s: Optional[float] = None
    memory_budget_bytes: Optional[float] = None
    accuracy_floor: Optional[float] = None
    accuracy_weight: Optional[float] = None

    def problems(self) -> Tuple[str, ...]:
        """Return every reason why these requirements cannot be used; empty when they can."""
        found = (
            _check_range('latency_budget_s', self.latency_budget_s, 1e-4, 3600.0),
            _check_range('memory_budget_bytes', self.memory_budget_bytes, 1.0, 1e15),
            _check_range('accuracy_floor', self.accuracy_floor, 0.0, 1.0),
            _check_range('accuracy_weight', self.accuracy_weight, 0.0, 1.0),
        )
        return tuple(f for f in found if f)


@dataclass(frozen=True)
class Feedback:
    """
    What was measured while one plan ran, over one window of about a second.

    Tuples with one item a frame are in order of completion.

    :param plan_seq: the plan that ran
    :param candidate_id: what that plan had chosen and the executor really ran
    :param stamp_s: end of the window, node clock
    :param window_s: length of the window
    :param capture_to_result_s: per answered frame, frame in memory to publish returned
    :param queue_s: per answered frame, wait for the worker
    :param preprocess_s: per answered frame
    :param infer_s: per answered frame, the engine of this robot alone
    :param exit_index: per answered frame, which exit answered
    :param confidence: per answered frame, highest class probability 0..1
    :param superseded_stamps_ns: header stamps of frames replaced by a newer one before
        they were computed
    :param late: answered frames older than two frame periods
    :param energy_j: energy of the window's inferences
    :param memory_bytes: what all resident executables take
    :param condition: condition of the images, as in `FrontEntry.accuracy`
    :param luminance_ratio: mean brightness of the frames, 0..1
    :param offload_s: per answered frame, crossing and remote time, None for one answered here
    :param encode_s: per frame that a peer answered, as the next three: parts of `offload_s`
    :param link_s: on the way, both directions
    :param remote_queue_s: wait at the peer
    :param remote_infer_s: computing at the peer
    :param degraded: frames answered by a fallback
    :param sent_bytes: to peers
    :param received_bytes: from peers
    :param peers: what this robot's channels know of its peers
    :param failed: the candidate could not be made ready, and what ran before it goes on
    """

    plan_seq: int
    candidate_id: str
    stamp_s: float
    window_s: float
    capture_to_result_s: Tuple[float, ...] = ()
    queue_s: Tuple[float, ...] = ()
    preprocess_s: Tuple[float, ...] = ()
    infer_s: Tuple[float, ...] = ()
    exit_index: Tuple[int, ...] = ()
    confidence: Tuple[float, ...] = ()
    superseded_stamps_ns: Tuple[int, ...] = ()
    late: int = 0
    energy_j: Reading = NO_READING
    memory_bytes: Reading = NO_READING
    condition: str = ''
    luminance_ratio: Reading = NO_READING
    offload_s: Tuple[Optional[float], ...] = ()
    encode_s: Tuple[float, ...] = ()
    link_s: Tuple[float, ...] = ()
    remote_queue_s: Tuple[float, ...] = ()
    remote_infer_s: Tuple[float, ...] = ()
    degraded: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    peers: Tuple[PeerStatus, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class CostCorrection:
    """
    What feedback has taught about one candidate, or about one peer.

    :param candidate_id: the candidate; 'peer:ROBOT_ID' for the computing at that peer,
        'depth:CANDIDATE_ID' for how deep the frames go of one that may answer early
    :param latency_ratio: measured latency over the table's, smoothed
    :param spread_ratio: measured 95th percentile over the measured mean, smoothed, >= 1
    :param samples: answered frames that it rests on
    """

    candidate_id: str
    latency_ratio: float
    spread_ratio: float
    samples: int


@dataclass(frozen=True)
class LeftOut:
    """
    A candidate that this robot could not make ready to answer.

    :param candidate_id: the candidate
    :param until_s: node clock until which it is not chosen
    :param times: how often it has failed since it last answered
    """

    candidate_id: str
    until_s: float
    times: int


@dataclass(frozen=True)
class LoopState:
    """
    All that the loop remembers between two steps; a Plan publishes it whole.

    :param plan_seq: number of the plan in force, 0 before the first
    :param current_id: candidate in force, '' before the first
    :param current_since_s: node clock at which it came into force
    :param corrections: learned cost corrections, in order of candidate_id
    :param condition: condition of the images as last reported, '' while unknown
    :param challenger_id: candidate that would be better but has not yet won
    :param challenger_steps: consecutive steps that it has been better
    :param preprocess_s: frame to tensor, smoothed over the frames of this camera; None
        while unknown
    :param degraded_ratio: share of the frames given to peers that a fallback answered, smoothed
    :param fallback_id: who answers when the peer of the candidate in force does not, '' where
        nobody else is asked
    :param left_out: candidates that could not be made ready, in order of candidate_id
    """

    plan_seq: int = 0
    current_id: str = ''
    current_since_s: float = 0.0
    corrections: Tuple[CostCorrection, ...] = ()
    condition: str = ''
    challenger_id: str = ''
    challenger_steps: int = 0
    preprocess_s: Optional[float] = None
    degraded_ratio: float = 0.0
    fallback_id: str = ''
    left_out: Tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Violation:
    """
    One budget that the chosen candidate is expected to break.

    :param constraint: 'latency_s', 'memory_bytes' or 'accuracy'
    :param limit: the budget or floor in force, in the unit of the constraint
    :param predicted: the figure expected
    """

    constraint: str
    limit: float
    predicted: float


@dataclass(frozen=True)
class Plan:
    """
    The chosen candidate and why.

    :param plan_seq: grows by one with each plan of a boot
    :param stamp_s: node clock
    :param chosen: predicted figures of the choice
    :param runner_up: best other candidate that was allowed, None without one
    :param weights: criterion -> weight of formula (3)
    :param score: score of the choice under these weights
    :param violated: budgets that no candidate could meet, least violation chosen
    :param reason: one line for people
    :param requirements: as used
    :param snapshot: as used
    :param state: loop state after feedback was absorbed and before this choice was made; with
        the snapshot, the peers and the requirements it re-derives the choice
    :param peers: as used, empty without a fleet
    """

    plan_seq: int
    stamp_s: float
    chosen: CostEstimate
    runner_up: Optional[CostEstimate]
    weights: Mapping[str, float]
    score: float
    violated: Tuple[Violation, ...]
    reason: str
    requirements: Requirements
    snapshot: ResourceSnapshot
    state: LoopState
    peers: Tuple[PeerStatus, ...] = ()


@dataclass(frozen=True)
class BundleIdentity:
    """What must agree between a recorded plan and the files that re-derive it."""

    bundle_sha256: str = ''
    front_sha256: str = ''
    config_sha256: str = ''
