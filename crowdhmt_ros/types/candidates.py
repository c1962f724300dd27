# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What can be chosen: variant, placement and engine options, with the figures known of them."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Mapping, Optional, Tuple

from crowdhmt_ros.types.fleet import Away
from crowdhmt_ros.types.models import FP32, INT8, PRECISIONS, Variant
from crowdhmt_ros.types.resources import Estimate

HERE = 'local'
"""Device name of the robot itself in a placement."""
SPIN = 'spin'
STEP_ROLES = ('exit', 'end')
"""Of segments that run here one behind the other, as far as needed: early exits, and the end."""


@dataclass(frozen=True, order=True)
class SegmentPlacement:
    """
    Where one segment runs and how its input gets there.

    :param role: 'whole', 'head', 'tail' or 'piece'; or of `STEP_ROLES`
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
        if self.is_early:
            return HERE
        return '>'.join(s.device for s in self.segments)

    @property
    def is_early(self) -> bool:
        """Whether its variant runs here step by step and may answer early."""
        return bool(self.segments) and all(
            s.role in STEP_ROLES and s.device == HERE for s in self.segments)

    @cached_property
    def peers(self) -> Tuple[str, ...]:
        """The other robots that take part, in order."""
        return tuple(s.device for s in self.segments if s.device != HERE)

    @property
    def name(self) -> str:
        """
        Unique name: 'local' for one uncut segment here, else each segment, device, codec.

        A variant that may answer early runs in one way only, so that is 'local', too.
        """
        if self.is_early:
            return HERE
        if len(self.segments) == 1 and self.segments[0].codec == 'none':
            return self.segments[0].device
        return '>'.join('%s@%s:%s' % (s.segment_id, s.device, s.codec) for s in self.segments)


@dataclass(frozen=True, order=True)
class EngineOptions:
    """
    How an engine runs a segment (P III-C1).

    :param backend: name of an engine backend
    :param threads: intra-operator threads, at least 1
    :param spinning: whether idle engine threads spin for lower latency
    :param precision: arithmetic of the engine, may be lower than the variant's
    :param fusion_set: name of the prebuilt fusion set
    :param memory_mode: 'fast' (arena, weights repacked) or 'lean' (neither); of ONNX Runtime also
        'mapped', 'planned' and 'streamed', see `engine.backends.mapped`
    """

    backend: str = 'onnxruntime'
    threads: int = 1
    spinning: bool = False
    precision: str = 'fp32'
    fusion_set: str = 'none'
    memory_mode: str = 'fast'

    @property
    def graph_precision(self) -> str:
        """Precision of the graph that is run: all but int8 are made of the one in fp32."""
        return INT8 if self.precision == INT8 else FP32

    @property
    def name(self) -> str:
        """Unique name; `engine_named` reads it."""
        words = [self.backend, '%dt' % self.threads, self.memory_mode]
        words += [SPIN] if self.spinning else []
        words += [self.precision] if self.precision != FP32 else []
        words += [self.fusion_set] if self.fusion_set != 'none' else []
        return '/'.join(words)


def engine_named(name: str) -> Optional[EngineOptions]:
    """Return the engine options of a name, None for what is none."""
    words = name.split('/')
    if len(words) < 3 or not words[1].endswith('t') or not words[1][:-1].isdigit():
        return None
    backend, threads, memory_mode, rest = words[0], int(words[1][:-1]), words[2], words[3:]
    spinning = rest[:1] == [SPIN]
    rest = rest[spinning:]
    precision = rest.pop(0) if rest and rest[0] in PRECISIONS else FP32
    found = EngineOptions(backend, threads, spinning, precision, '/'.join(rest) or 'none',
                          memory_mode)
    return found if found.name == name else None


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
        return '/'.join((self.variant_id, self.placement.name, self.engine.name))


@dataclass(frozen=True)
class EnergyCoefficients:
    """
    Unit energies of formula (1) and the idle power (P III-D1, *reconstructed*).

    :param joules_per_mac: s1; s2, s3, s4 are multiples of it
    :param cache_multiple: s2 / s1, per word
    :param dram_multiple: s3 / s1, per word
    :param shared_multiple: s4 / s1, per word, GPU only
    :param idle_w: power of one processor core that is awake while a frame is computed
    :param joules_per_byte: e_tx, one payload byte sent or received by radio
    """

    joules_per_mac: float
    cache_multiple: float = 6.0
    dram_multiple: float = 200.0
    shared_multiple: float = 2.0
    idle_w: float = 0.0
    joules_per_byte: float = 0.0


@dataclass(frozen=True)
class ExitCost:
    """
    What one exit of a candidate that may answer early takes.

    :param exit_index: number of the exit
    :param ratio: share of all answers that are given there
    :param latency_s: from the input to the answer there, on the idle device
    :param p95_s: its 95th percentile
    """

    exit_index: int
    ratio: float
    latency_s: float
    p95_s: float


@dataclass(frozen=True)
class FrontEntry:
    """
    A candidate with what is known of it before the present moment is looked at.

    :param candidate: the candidate
    :param accuracy: condition ('scenes/noon', 'photos', ...) -> ratio of right answers 0..1
    :param latency_s: inference alone, on the idle device
    :param memory_bytes: what the candidate takes while it runs, engine state included
    :param energy_j: one frame, formula (1) of P III-D1 without the idle power
    :param macs: multiply-accumulates of one frame
    :param words: memory accesses of one frame, for formula (1) under another cache-hit ratio
    :param coefficients: of formula (1); None leaves `energy_j` as it is, without idle power
    :param preprocess_s: frame to tensor for a frame of usual size on the idle device; stands in
        until the robot's own camera was timed
    :param away: what a peer computes; the figures above are then of the part that stays here,
        `memory_bytes` with the fallback's counted in
    :param fallback_id: candidate that answers when the peer does not, '' where nobody else is
        involved
    :param fallback_accuracy: as `accuracy`, of the fallback
    :param exits: of a candidate that may answer early, in the order in which it tries, the end
        last; the figures above are then means over its answers, memory apart
    """

    candidate: Candidate
    accuracy: Mapping[str, float]
    latency_s: Estimate
    memory_bytes: Estimate
    energy_j: Estimate
    macs: int
    words: int = 0
    coefficients: Optional[EnergyCoefficients] = None
    preprocess_s: float = 0.0
    away: Optional[Away] = None
    fallback_id: str = ''
    fallback_accuracy: Mapping[str, float] = field(default_factory=dict)
    exits: Tuple[ExitCost, ...] = ()


@dataclass(frozen=True)
class RemoteOption:
    """
    A way to answer with the help of a peer, before a peer is named.

    :param variant_id: the variant that the two parts make
    :param variant: its description
    :param engine: how the part that stays here runs
    :param head_segment_id: what runs here first, '' when the frame itself is sent
    :param remote_segment_id: what the peer runs
    :param remote_role: 'tail', or 'whole' when the frame itself is sent
    :param codec: how the crossing is packed
    :param accuracy: as in `FrontEntry`, the loss by the codec taken off
    :param head_latency_s: the head alone on the idle device, 0 without one
    :param head_memory_bytes: of the head, 0 without one
    :param head_macs: multiply-accumulates here
    :param head_words: memory accesses here
    :param head_energy_j: one frame's head by formula (1), without idle power
    :param sent_bytes: expected payload towards the peer
    :param received_bytes: expected payload back
    :param codec_s: packing and unpacking, both ends
    :param remote_macs: multiply-accumulates at the peer
    :param coefficients: of formula (1)
    :param preprocess_s: as in `FrontEntry`
    :param remote_memory_bytes: what it takes at the peer, None while unknown
    """

    variant_id: str
    variant: Variant
    engine: EngineOptions
    head_segment_id: str
    remote_segment_id: str
    remote_role: str
    codec: str
    accuracy: Mapping[str, float]
    head_latency_s: Estimate
    head_memory_bytes: Estimate
    head_macs: int
    head_words: int
    head_energy_j: Estimate
    sent_bytes: float
    received_bytes: float
    codec_s: float
    remote_macs: int
    coefficients: Optional[EnergyCoefficients] = None
    preprocess_s: float = 0.0
    remote_memory_bytes: Optional[float] = None


@dataclass(frozen=True)
class CostEstimate:
    """
    What a candidate is expected to do now (formulas (1) and (2), corrected by feedback).

    :param fallback_id: candidate that answers when a peer does not, '' for one that stays here
    :param away: the part that a peer computes, for people; a Plan does not carry it, it is
        derived again
    """

    candidate: Candidate
    accuracy: Estimate
    latency_s: Estimate
    memory_bytes: Estimate
    energy_j: Estimate
    fallback_id: str = ''
    away: Optional[Away] = field(default=None, compare=False)
