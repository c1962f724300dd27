# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What calibration needs of engines and bundles, which are not imported here."""
from __future__ import annotations

from typing import Mapping, Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.types import Candidate, EngineOptions, LayerCost, Segment, TensorSpec


class Executable(Protocol):
    """One compiled segment, as in `engine.backend`."""

    @property
    def memory_bytes(self) -> int:
        """What it takes while it is resident, as far as known."""

    @property
    def inputs(self) -> Tuple[TensorSpec, ...]:
        """What `run` reads."""

    @property
    def outputs(self) -> Tuple[TensorSpec, ...]:
        """What `run` writes."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute outputs from inputs, in buffers of the caller."""


class Backend(Protocol):
    """One inference engine."""

    def compile(self, segment: Segment, options: EngineOptions) -> Executable:
        """Make a segment ready to run."""


class CandidateSource(Protocol):
    """The part of a bundle that says what can run and what it counts."""

    @property
    def sha256(self) -> str:
        """Digest of the manifest."""

    def candidates(self, threads: Sequence[int] = (1, 2),
                   memory_modes: Sequence[str] = ('fast', 'lean'), *,
                   all_fusions: bool = False, all_precisions: bool = False
                   ) -> Tuple[Candidate, ...]:
        """Return every way to run a variant on this machine, in all forms where asked for."""

    def heads(self, threads: Sequence[int] = (1,),
              memory_modes: Sequence[str] = ('fast', 'lean')) -> Tuple[Candidate, ...]:
        """Return every way to run the head of a variant, empty for a bundle without cuts."""

    def accuracy(self, variant_id: str, precision: str = 'fp32', engine: str = ''
                 ) -> Mapping[str, float]:
        """Return condition -> ratio of right answers, empty where a precision states none."""

    def macs(self, variant_id: str) -> int:
        """Return the multiply-accumulates of one frame."""

    def layer_costs(self, segment_id: str) -> Tuple[LayerCost, ...]:
        """Return the work of one segment layer by layer."""


def local_segments(candidate: Candidate) -> Tuple[str, ...]:
    """Return the segments of a candidate that runs on this robot alone: one, or its steps."""
    if candidate.placement.is_early:
        return tuple(s.segment_id for s in candidate.placement.segments)
    return (only_segment(candidate),)


def only_segment(candidate: Candidate) -> str:
    """Return the one segment of a candidate that runs on this robot alone, whole or head."""
    segments = candidate.placement.segments
    assert len(segments) == 1, 'only what runs here alone is calibrated'
    return segments[0].segment_id


LEAN_WORTH_BYTES = 1 << 20
"""A head with fewer bytes of weights saves nothing to speak of in the lean memory mode."""


def offered_heads(bundle: CandidateSource, segments: Mapping[str, Segment],
                  memory_modes: Sequence[str]) -> Tuple[Candidate, ...]:
    """
    Return the ways to run a head that are worth measuring: one thread, lean only where it saves.

    :param bundle: its heads
    :param segments: segment_id -> graph on this device
    :param memory_modes: that may be offered
    """
    return tuple(
        head for head in bundle.heads(memory_modes=memory_modes)
        if head.engine.memory_mode == memory_modes[0]
        or segments[only_segment(head)].weight_bytes >= LEAN_WORTH_BYTES)
