# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The frozen values that cross the borders between rooms.

Unknown is `None`, never 0. Each number carries its unit in its name. Durations are
seconds on a monotonic clock, stamps are seconds on the node's clock.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Mapping, Optional, Tuple, Union

ParameterValue = Union[int, float, str]

MEASURED = 'measured'
ESTIMATED = 'estimated'
REPLAYED = 'replayed'
ABSENT = 'absent'
SOURCES = (MEASURED, ESTIMATED, REPLAYED, ABSENT)

HERE = 'local'
"""Device name of the robot itself in a placement."""


@dataclass(frozen=True)
class Reading:
    """
    One sensed value with its origin.

    :param value: the number, or None where nothing could be read
    :param source: one of `SOURCES`
    :param age_s: seconds since it was taken
    """

    value: Optional[float]
    source: str = MEASURED
    age_s: float = 0.0


NO_READING = Reading(None, ABSENT)


@dataclass(frozen=True)
class Estimate:
    """
    A predicted figure.

    :param mean: expected value
    :param p95: 95th percentile; equal to the mean where the figure does not vary
    :param source: one of `SOURCES`
    """

    mean: float
    p95: float
    source: str = ESTIMATED


@dataclass(frozen=True, order=True)
class OperatorChoice:
    """
    One compression operator with its parameters, as chosen for one stage (P III-A1).

    :param operator: name of the operator, for example 'channel' or 'depth'
    :param parameters: (name, value) pairs in ascending order of name
    """

    operator: str
    parameters: Tuple[Tuple[str, ParameterValue], ...] = ()


@dataclass(frozen=True, order=True)
class Variant:
    """
    A frozen description of one sub-network; applying it leaves no hidden state.

    :param stages: per stage of the backbone the operators that apply to it
    :param exit_index: which exit answers, 0 is the earliest
    :param precision: 'fp32', 'fp16', 'bf16' or 'int8'
    """

    stages: Tuple[Tuple[OperatorChoice, ...], ...]
    exit_index: int
    precision: str = 'fp32'


@dataclass(frozen=True, order=True)
class SegmentPlacement:
    """
    Where one segment runs and how its input gets there.

    :param role: 'whole', 'head', 'tail' or 'piece'
    :param segment_id: name of the segment in the bundle
    :param device: `HERE` or a peer's robot_id
    :param codec: how the crossing into this segment is packed, 'none' without a crossing
    """

    role: str
    segment_id: str
    device: str = HERE
    codec: str = 'none'


@dataclass(frozen=True, order=True)
class Placement:
    """The segments of one variant in the order in which they run."""

    segments: Tuple[SegmentPlacement, ...]

    @property
    def label(self) -> str:
        """Short name: 'local', or the devices in order joined by '>'."""
        return '>'.join(s.device for s in self.segments)


@dataclass(frozen=True, order=True)
class EngineOptions:
    """
    How an engine runs a segment (P III-C1).

    :param backend: name of an engine backend
    :param threads: intra-operator threads, at least 1
    :param spinning: whether idle engine threads spin for lower latency
    :param precision: arithmetic of the engine, may be lower than the variant's
    :param fusion_set: name of the prebuilt fusion set
    :param memory_mode: 'fast' (arena, weights repacked) or 'lean' (neither)
    """

    backend: str = 'onnxruntime'
    threads: int = 1
    spinning: bool = False
    precision: str = 'fp32'
    fusion_set: str = 'none'
    memory_mode: str = 'fast'


@dataclass(frozen=True)
class Candidate:
    """One way to answer a frame: a variant, where its parts run, and how the engine runs them."""

    variant_id: str
    variant: Variant
    placement: Placement
    engine: EngineOptions

    @cached_property
    def candidate_id(self) -> str:
        """Stable, readable name; equal for equal candidates of one bundle."""
        e = self.engine
        parts = [self.variant_id, self.placement.label, e.backend, '%dt' % e.threads, e.memory_mode]
        if e.spinning:
            parts.append('spin')
        if e.precision != 'fp32':
            parts.append(e.precision)
        if e.fusion_set != 'none':
            parts.append(e.fusion_set)
        return '/'.join(parts)


@dataclass(frozen=True)
class FrontEntry:
    """
    A candidate with what is known of it before the present moment is looked at.

    :param candidate: the candidate
    :param accuracy: condition ('scenes/noon', 'photos', ...) -> ratio of right answers 0..1
    :param latency_s: preprocessing and inference on the idle device
    :param memory_bytes: what the candidate takes while it runs, engine state included
    :param energy_j: one frame, formula (1) of P III-D1 without the idle power
    :param macs: multiply-accumulates of one frame
    :param words: memory accesses of one frame, for formula (1) under another cache-hit ratio
    :param coefficients: of formula (1); None leaves `energy_j` as it is, without idle power
    """

    candidate: Candidate
    accuracy: Mapping[str, float]
    latency_s: Estimate
    memory_bytes: Estimate
    energy_j: Estimate
    macs: int
    words: int = 0
    coefficients: Optional[EnergyCoefficients] = None


@dataclass(frozen=True)
class CostEstimate:
    """What a candidate is expected to do now (formulas (1) and (2), corrected by feedback)."""

    candidate: Candidate
    accuracy: Estimate
    latency_s: Estimate
    memory_bytes: Estimate
    energy_j: Estimate


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
class ResourceSnapshot:
    """
    One look at this machine (P III-D). Field names are the wire names of ResourceStatus.

    :param stamp_s: node clock
    :param robot_id: namespace of the robot
    :param boot_id: drawn anew at each start of the robot's nodes
    """

    stamp_s: float
    robot_id: str = ''
    boot_id: str = ''
    battery_ratio: Reading = NO_READING
    battery_voltage_v: Reading = NO_READING
    battery_current_a: Reading = NO_READING
    power_w: Reading = NO_READING
    memory_total_bytes: Reading = NO_READING
    memory_available_bytes: Reading = NO_READING
    memory_allotted_bytes: Reading = NO_READING
    memory_pressure_ratio: Reading = NO_READING
    cpu_load_ratio: Reading = NO_READING
    cpu_others_ratio: Reading = NO_READING
    cpu_frequency_ratio: Reading = NO_READING
    cpu_temperature_celsius: Reading = NO_READING
    cpu_pressure_ratio: Reading = NO_READING
    cache_hit_ratio: Reading = NO_READING
    gpu_load_ratio: Reading = NO_READING
    gpu_memory_available_bytes: Reading = NO_READING
    gpu_temperature_celsius: Reading = NO_READING
    link_bandwidth_bytes_per_s: Reading = NO_READING
    link_round_trip_s: Reading = NO_READING


READING_FIELDS = tuple(
    name for name in ResourceSnapshot.__dataclass_fields__
    if name not in ('stamp_s', 'robot_id', 'boot_id'))
"""Names of the readings of a snapshot, in wire order."""


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
    :param infer_s: per answered frame, the engine alone
    :param exit_index: per answered frame, which exit answered
    :param confidence: per answered frame, highest class probability 0..1
    :param superseded_stamps_ns: header stamps of frames replaced by a newer one before
        they were computed
    :param late: answered frames older than two frame periods
    :param energy_j: energy of the window's inferences
    :param memory_bytes: what all resident executables take
    :param condition: condition of the images, as in `FrontEntry.accuracy`
    :param luminance_ratio: mean brightness of the frames, 0..1
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


@dataclass(frozen=True)
class CostCorrection:
    """
    What feedback has taught about one candidate.

    :param candidate_id: the candidate
    :param latency_ratio: measured latency over the table's, smoothed
    :param spread_ratio: measured 95th percentile over the measured mean, smoothed, >= 1
    :param samples: answered frames that it rests on
    """

    candidate_id: str
    latency_ratio: float
    spread_ratio: float
    samples: int


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
    """

    plan_seq: int = 0
    current_id: str = ''
    current_since_s: float = 0.0
    corrections: Tuple[CostCorrection, ...] = ()
    condition: str = ''
    challenger_id: str = ''
    challenger_steps: int = 0


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
        the snapshot and the requirements it re-derives the choice
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


@dataclass(frozen=True)
class TensorSpec:
    """
    Name, type and fixed shape of one graph input or output.

    :param name: tensor name in the graph
    :param dtype: numpy type name
    :param shape: fixed extents
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class InputSpec:
    """
    What a model expects: ``x = (rgb * scale - mean) / std`` of the whole frame, stretched.

    :param name: tensor name in every whole graph
    :param dtype: numpy type name, 'float32'
    :param shape: (1, 3, height, width)
    :param color: order of the channels, 'rgb'
    :param resize: 'area', cv2.INTER_AREA on 8-bit channels
    :param scale: factor that is applied to 8-bit values first
    :param mean: per channel, in the order of `color`
    :param std: per channel, in the order of `color`
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]
    color: str
    resize: str
    scale: float
    mean: Tuple[float, ...]
    std: Tuple[float, ...]


@dataclass(frozen=True)
class Segment:
    """
    One prebuilt graph, materialised on this device and ready to compile.

    :param segment_id: name in the bundle
    :param sha256: of the weightless graph in the bundle
    :param path: ONNX file on this device, its weights beside it
    :param inputs: fixed-shape inputs
    :param outputs: fixed-shape outputs
    :param weight_bytes: of the initialisers that it reads, 0 where nobody counted them
    """

    segment_id: str
    sha256: str
    path: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    weight_bytes: int = 0


@dataclass(frozen=True)
class LayerCost:
    """
    Work of one layer for one frame.

    :param name: node name in the graph
    :param operator: ONNX operator type
    :param macs: multiply-accumulates
    :param input_words: elements read, weights excluded
    :param weight_words: elements of weights read
    :param output_words: elements written
    """

    name: str
    operator: str
    macs: int
    input_words: int
    weight_words: int
    output_words: int

    @property
    def words(self) -> int:
        """All memory accesses in words (M_l of formula (1))."""
        return self.input_words + self.weight_words + self.output_words


@dataclass(frozen=True)
class EnergyCoefficients:
    """
    Unit energies of formula (1) and the idle power (P III-D1, *reconstructed*).

    :param joules_per_mac: s1; s2, s3, s4 are multiples of it
    :param cache_multiple: s2 / s1, per word
    :param dram_multiple: s3 / s1, per word
    :param shared_multiple: s4 / s1, per word, GPU only
    :param idle_w: power of one processor core that is awake while a frame is computed
    """

    joules_per_mac: float
    cache_multiple: float = 6.0
    dram_multiple: float = 200.0
    shared_multiple: float = 2.0
    idle_w: float = 0.0


@dataclass(frozen=True)
class FrameTruth:
    """
    Ground truth of a frame where the source knows it (the built-in campus).

    :param label: class name
    :param light_band: 'noon', 'afternoon' or 'dusk'
    :param box: (x0, y0, x1, y1) as ratios of the image, None without an object
    """

    label: str
    light_band: str
    box: Optional[Tuple[float, float, float, float]] = None


@dataclass(frozen=True)
class Inference:
    """
    The executor's answer for one frame.

    :param candidate_id: what computed it
    :param plan_seq: the plan under which it ran
    :param scores: per class, sums to 1
    :param exit_index: which exit answered
    :param preprocess_s: frame to tensor
    :param infer_s: the engine alone
    :param degraded: True when a fallback answered
    """

    candidate_id: str
    plan_seq: int
    scores: Tuple[float, ...]
    exit_index: int
    preprocess_s: float
    infer_s: float
    degraded: bool = False

    @property
    def best(self) -> int:
        """Index of the highest score; the first of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)


@dataclass(frozen=True)
class BundleIdentity:
    """What must agree between a recorded plan and the files that re-derive it."""

    bundle_sha256: str = ''
    front_sha256: str = ''
    config_sha256: str = ''
