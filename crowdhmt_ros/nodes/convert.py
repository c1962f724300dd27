# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Our types <-> messages, both ways and exact: a plan read back from a bag re-derives itself.

NaN on the wire is None in Python.
"""
from __future__ import annotations

import array
import json
import math
from dataclasses import asdict
from typing import Any, Iterable, Optional, Sequence, Tuple

from builtin_interfaces.msg import Time

from crowdhmt_ros import types
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.msg import (
    Choice,
    Feedback,
    LoopState,
    Plan,
    Requirements,
    ResourceStatus,
)
from crowdhmt_ros.nodes.convert_fleet import peer_from_msg, peer_to_msg
from crowdhmt_ros.nodes.scalars import (
    NAN,
    doubles,
    ns_to_time,
    number,
    optional,
    seconds_to_time,
    time_to_ns,
    time_to_seconds,
)

# Requirements

def requirements_to_msg(requirements: types.Requirements) -> Requirements:
    """Convert; no wish becomes NaN."""
    return Requirements(
        latency_budget_s=number(requirements.latency_budget_s),
        memory_budget_bytes=number(requirements.memory_budget_bytes),
        accuracy_floor=number(requirements.accuracy_floor),
        accuracy_weight=number(requirements.accuracy_weight))


def requirements_from_msg(message: Requirements) -> types.Requirements:
    """Convert; NaN becomes no wish. The values are not judged here."""
    return types.Requirements(
        latency_budget_s=optional(message.latency_budget_s),
        memory_budget_bytes=optional(message.memory_budget_bytes),
        accuracy_floor=optional(message.accuracy_floor),
        accuracy_weight=optional(message.accuracy_weight))


# Resources

def snapshot_to_msg(snapshot: types.ResourceSnapshot) -> ResourceStatus:
    """Convert one look at the resources, with the origin and age of each number."""
    message = ResourceStatus(robot_id=snapshot.robot_id, boot_id=snapshot.boot_id)
    message.header.stamp = seconds_to_time(snapshot.stamp_s)
    readings = [getattr(snapshot, name) for name in types.READING_FIELDS]
    for name, reading in zip(types.READING_FIELDS, readings):
        setattr(message, name, number(reading.value))
    message.sources = [reading.source for reading in readings]
    message.ages_s = doubles(reading.age_s for reading in readings)
    return message


def snapshot_from_msg(message: ResourceStatus) -> types.ResourceSnapshot:
    """Convert; a message without `sources` counts as measured now, NaN as absent."""
    readings = {}
    for index, name in enumerate(types.READING_FIELDS):
        value = optional(getattr(message, name))
        default = types.ABSENT if value is None else types.MEASURED
        source = message.sources[index] if index < len(message.sources) else default
        age_s = message.ages_s[index] if index < len(message.ages_s) else 0.0
        readings[name] = types.Reading(value, source, age_s)
    return types.ResourceSnapshot(
        time_to_seconds(message.header.stamp), message.robot_id, message.boot_id, **readings)


# Candidates and their figures

def variant_to_json(variant: types.Variant) -> str:
    """Return the canonical text of a variant: sorted keys, no spaces."""
    return json.dumps({
        'stages': [[[c.operator, [list(p) for p in c.parameters]] for c in stage]
                   for stage in variant.stages],
        'exit_index': variant.exit_index, 'precision': variant.precision,
    }, sort_keys=True, separators=(',', ':'))


def variant_from_json(text: str) -> types.Variant:
    """Read a variant back from its canonical text."""
    data = json.loads(text)
    stages = tuple(
        tuple(types.OperatorChoice(operator, tuple((name, value) for name, value in parameters))
              for operator, parameters in stage)
        for stage in data['stages'])
    return types.Variant(stages, data['exit_index'], data['precision'])


def engine_to_json(engine: types.EngineOptions) -> str:
    """Return the canonical text of engine options: sorted keys, no spaces."""
    return json.dumps(asdict(engine), sort_keys=True, separators=(',', ':'))


def candidate_to_msg(candidate: types.Candidate) -> Choice:
    """Convert a candidate, its figures left unknown."""
    segments = candidate.placement.segments
    engine = candidate.engine
    return Choice(
        candidate_id=candidate.candidate_id, variant_id=candidate.variant_id,
        variant_json=variant_to_json(candidate.variant),
        exit_index=candidate.variant.exit_index, precision=candidate.variant.precision,
        segment_ids=[s.segment_id for s in segments],
        segment_roles=[s.role for s in segments],
        segment_devices=[s.device for s in segments],
        segment_codecs=[s.codec for s in segments],
        backend=engine.backend, threads=engine.threads, spinning=engine.spinning,
        engine_precision=engine.precision, fusion_set=engine.fusion_set,
        memory_mode=engine.memory_mode, engine_json=engine_to_json(engine),
        accuracy=NAN, latency_s=NAN, latency_p95_s=NAN, memory_bytes=NAN, energy_j=NAN)


def candidate_from_msg(message: Choice) -> types.Candidate:
    """
    Convert a candidate; its `candidate_id` is derived anew.

    :raises ConfigError: another version wrote it, with parts that this one does not know
    """
    try:
        return _candidate(message)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ConfigError(
            f'{message.candidate_id or "a candidate without a name"} cannot be read '
            f'({type(error).__name__}: {error}): give all robots one version of this package'
            ) from error


def _candidate(message: Choice) -> types.Candidate:
    segments = tuple(
        types.SegmentPlacement(role, segment_id, device, codec)
        for role, segment_id, device, codec in zip(
            message.segment_roles, message.segment_ids, message.segment_devices,
            message.segment_codecs))
    engine = types.EngineOptions(**json.loads(message.engine_json))
    return types.Candidate(message.variant_id, variant_from_json(message.variant_json),
                           types.Placement(segments), engine)


def estimate_to_msg(estimate: Optional[types.CostEstimate]) -> Choice:
    """Convert a candidate with its figures; None becomes an empty `candidate_id`."""
    if estimate is None:
        return Choice(accuracy=NAN, latency_s=NAN, latency_p95_s=NAN, memory_bytes=NAN,
                      energy_j=NAN)
    message = candidate_to_msg(estimate.candidate)
    message.accuracy = float(estimate.accuracy.mean)
    message.accuracy_source = estimate.accuracy.source
    message.latency_s = float(estimate.latency_s.mean)
    message.latency_p95_s = float(estimate.latency_s.p95)
    message.latency_source = estimate.latency_s.source
    message.memory_bytes = float(estimate.memory_bytes.mean)
    message.memory_source = estimate.memory_bytes.source
    message.energy_j = float(estimate.energy_j.mean)
    message.energy_source = estimate.energy_j.source
    message.fallback_id = estimate.fallback_id
    return message


def estimate_from_msg(message: Choice) -> Optional[types.CostEstimate]:
    """Convert; None for an empty `candidate_id`. Figures without a spread have p95 = mean."""
    if not message.candidate_id:
        return None

    def constant(mean: float, source: str) -> types.Estimate:
        return types.Estimate(mean, mean, source)

    return types.CostEstimate(
        candidate_from_msg(message),
        constant(message.accuracy, message.accuracy_source),
        types.Estimate(message.latency_s, message.latency_p95_s, message.latency_source),
        constant(message.memory_bytes, message.memory_source),
        constant(message.energy_j, message.energy_source), message.fallback_id)


# The loop's state

def state_to_msg(state: types.LoopState) -> LoopState:
    """Convert all that the loop remembers."""
    rows, left_out = state.corrections, state.left_out
    return LoopState(
        plan_seq=state.plan_seq, current_id=state.current_id,
        current_since_s=float(state.current_since_s), condition=state.condition,
        challenger_id=state.challenger_id, challenger_steps=state.challenger_steps,
        preprocess_s=number(state.preprocess_s), degraded_ratio=float(state.degraded_ratio),
        fallback_id=state.fallback_id,
        correction_ids=[row.candidate_id for row in rows],
        latency_ratios=doubles(row.latency_ratio for row in rows),
        spread_ratios=doubles(row.spread_ratio for row in rows),
        correction_samples=array.array('I', [row.samples for row in rows]),
        left_out_ids=[row.candidate_id for row in left_out],
        left_out_until_s=doubles(row.until_s for row in left_out),
        left_out_times=array.array('I', [row.times for row in left_out]))


def state_from_msg(message: LoopState) -> types.LoopState:
    """Convert all that the loop remembers."""
    corrections = tuple(
        types.CostCorrection(*row) for row in zip(
            message.correction_ids, message.latency_ratios, message.spread_ratios,
            message.correction_samples))
    left_out = tuple(
        types.LeftOut(*row) for row in zip(
            message.left_out_ids, message.left_out_until_s, message.left_out_times))
    return types.LoopState(
        plan_seq=message.plan_seq, current_id=message.current_id,
        current_since_s=message.current_since_s, corrections=corrections,
        condition=message.condition, challenger_id=message.challenger_id,
        challenger_steps=message.challenger_steps,
        preprocess_s=optional(message.preprocess_s), degraded_ratio=message.degraded_ratio,
        fallback_id=message.fallback_id, left_out=left_out)


# Plan

def plan_to_msg(plan: types.Plan, identity: types.BundleIdentity) -> Plan:
    """Convert a plan; `identity` names the files that re-derive it."""
    message = Plan(
        plan_seq=plan.plan_seq, robot_id=plan.snapshot.robot_id, boot_id=plan.snapshot.boot_id,
        bundle_sha256=identity.bundle_sha256, front_sha256=identity.front_sha256,
        config_sha256=identity.config_sha256,
        requirements=requirements_to_msg(plan.requirements),
        snapshot=snapshot_to_msg(plan.snapshot), state=state_to_msg(plan.state),
        peers=[peer_to_msg(peer) for peer in plan.peers],
        choice=estimate_to_msg(plan.chosen), runner_up=estimate_to_msg(plan.runner_up),
        criteria=list(plan.weights), weights=doubles(plan.weights.values()),
        score=float(plan.score),
        violated=[violation.constraint for violation in plan.violated],
        violated_limits=doubles(violation.limit for violation in plan.violated),
        violated_predictions=doubles(violation.predicted for violation in plan.violated),
        reason=plan.reason)
    message.header.stamp = seconds_to_time(plan.stamp_s)
    return message


def plan_from_msg(message: Plan) -> types.Plan:
    """
    Convert a plan.

    :raises ValueError: the message carries no choice
    :raises ConfigError: another version wrote it
    """
    chosen = estimate_from_msg(message.choice)
    if chosen is None:
        raise ValueError(f'plan {message.plan_seq} carries no choice')
    violated = tuple(types.Violation(*row) for row in zip(
        message.violated, message.violated_limits, message.violated_predictions))
    return types.Plan(
        plan_seq=message.plan_seq, stamp_s=time_to_seconds(message.header.stamp), chosen=chosen,
        runner_up=estimate_from_msg(message.runner_up),
        weights=dict(zip(message.criteria, message.weights)), score=message.score,
        violated=violated, reason=message.reason,
        requirements=requirements_from_msg(message.requirements),
        snapshot=snapshot_from_msg(message.snapshot), state=state_from_msg(message.state),
        peers=tuple(peer_from_msg(peer) for peer in message.peers))


def identity_from_msg(message: Plan) -> types.BundleIdentity:
    """Return which files the plan was made from."""
    return types.BundleIdentity(
        message.bundle_sha256, message.front_sha256, message.config_sha256)


# Feedback

def feedback_to_msg(feedback: types.Feedback, *, answered_stamps_ns: Sequence[int] = (),
                    robot_id: str = '', boot_id: str = '') -> Feedback:
    """
    Convert one window.

    :param answered_stamps_ns: header stamps of the answered frames, in order of completion
    """
    message = Feedback(
        robot_id=robot_id, boot_id=boot_id, plan_seq=feedback.plan_seq,
        candidate_id=feedback.candidate_id, window_s=float(feedback.window_s),
        failed=feedback.failed,
        answered_stamps=[ns_to_time(stamp) for stamp in answered_stamps_ns],
        capture_to_result_s=doubles(feedback.capture_to_result_s),
        queue_s=doubles(feedback.queue_s), preprocess_s=doubles(feedback.preprocess_s),
        infer_s=doubles(feedback.infer_s),
        offload_s=doubles(number(s) for s in feedback.offload_s),
        encode_s=doubles(feedback.encode_s), link_s=doubles(feedback.link_s),
        remote_queue_s=doubles(feedback.remote_queue_s),
        remote_infer_s=doubles(feedback.remote_infer_s),
        exit_indices=array.array('I', feedback.exit_index),
        confidences=doubles(feedback.confidence),
        superseded_stamps=[ns_to_time(stamp) for stamp in feedback.superseded_stamps_ns],
        late=feedback.late, degraded=feedback.degraded,
        sent_bytes=feedback.sent_bytes, received_bytes=feedback.received_bytes,
        peers=[peer_to_msg(peer) for peer in feedback.peers],
        energy_j=number(feedback.energy_j.value), energy_source=feedback.energy_j.source,
        memory_bytes=number(feedback.memory_bytes.value),
        memory_source=feedback.memory_bytes.source, condition=feedback.condition,
        luminance_ratio=number(feedback.luminance_ratio.value))
    message.header.stamp = seconds_to_time(feedback.stamp_s)
    return message


def feedback_from_msg(message: Feedback) -> types.Feedback:
    """Convert one window; the answered stamps are for the loss counter and stay behind."""
    luminance = optional(message.luminance_ratio)
    return types.Feedback(
        plan_seq=message.plan_seq, candidate_id=message.candidate_id,
        stamp_s=time_to_seconds(message.header.stamp), window_s=message.window_s,
        failed=message.failed,
        capture_to_result_s=tuple(message.capture_to_result_s), queue_s=tuple(message.queue_s),
        preprocess_s=tuple(message.preprocess_s), infer_s=tuple(message.infer_s),
        exit_index=tuple(message.exit_indices), confidence=tuple(message.confidences),
        superseded_stamps_ns=tuple(time_to_ns(stamp) for stamp in message.superseded_stamps),
        late=message.late, energy_j=types.Reading(optional(message.energy_j),
                                                  message.energy_source),
        memory_bytes=types.Reading(optional(message.memory_bytes), message.memory_source),
        condition=message.condition,
        luminance_ratio=types.NO_READING if luminance is None else types.Reading(luminance),
        offload_s=tuple(optional(s) for s in message.offload_s),
        encode_s=tuple(message.encode_s), link_s=tuple(message.link_s),
        remote_queue_s=tuple(message.remote_queue_s),
        remote_infer_s=tuple(message.remote_infer_s), degraded=message.degraded,
        sent_bytes=message.sent_bytes, received_bytes=message.received_bytes,
        peers=tuple(peer_from_msg(peer) for peer in message.peers))


# Any message, for files of JSON lines

def to_plain(value: Any) -> Any:
    """Return a message as dictionaries, lists and numbers; NaN becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, 'get_fields_and_field_types'):
        return {name: to_plain(getattr(value, name))
                for name in value.get_fields_and_field_types()}
    if hasattr(value, 'tolist'):
        return [to_plain(item) for item in value.tolist()]
    return [to_plain(item) for item in value]


def stamps_ns(stamps: Iterable[Time]) -> Tuple[int, ...]:
    """Return the stamps of a message field as nanoseconds."""
    return tuple(time_to_ns(stamp) for stamp in stamps)
