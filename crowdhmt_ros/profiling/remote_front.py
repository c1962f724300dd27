# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a robot may ask of a peer: the frame itself, or what a head leaves over, under each codec.

Figures of what stays here come from this device's tables, those of the crossing from the
bundle, where they were measured on scenes held back (P III-B). Which peer, and whether it is
worth it now, is decided later.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.energy import (
    awake_energy_j,
    modelled_cache_hit_ratio,
    work_energy_j,
    working_set_bytes,
)
from crowdhmt_ros.profiling.engine_tables import more_candidates
from crowdhmt_ros.profiling.front import LATENCY_NOISE
from crowdhmt_ros.profiling.seams import CandidateSource, offered_heads, only_segment
from crowdhmt_ros.profiling.tables import Tables, crossing_key, row_key
from crowdhmt_ros.types import (
    ESTIMATED,
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    RemoteOption,
    Segment,
    TensorSpec,
    Variant,
)

ACCURACY_NOISE = 0.002
"""Smaller differences between two codecs are chance on some thousand scenes."""
CODEC_NOISE_S = 0.001
"""Smaller differences between two codecs are lost on any link."""
COUNTED_CODEC_BYTES_PER_S = 200e6
"""Nominal rate of packing and unpacking, per byte of the tensors, where nothing was timed."""
NOTHING = Estimate(0.0, 0.0)


class CrossingLike(Protocol):
    """What was measured of one way to a peer, as in `bundle.entries.CrossingFigure`."""

    @property
    def variant_id(self) -> str:
        """The variant that answers."""

    @property
    def cut_id(self) -> str:
        """Where it is cut, '' when the frame itself is sent."""

    @property
    def codec(self) -> str:
        """How the crossing is packed."""

    @property
    def bytes_mean(self) -> float:
        """Mean payload."""

    @property
    def accuracy_drop(self) -> float:
        """Ratio of right answers that packing costs."""


class CrossingSource(CandidateSource, Protocol):
    """The part of a bundle that says how a model may be shared."""

    @property
    def crossings(self) -> Sequence[CrossingLike]:
        """What was measured of the ways to a peer."""

    def segment_for(self, variant_id: str, role: str = 'whole', *,
                    fusion_set: str = 'none', cut_id: str = '') -> str:
        """Return the name of a prebuilt graph."""


def build_remote(bundle: CrossingSource, tables: Tables, coefficients: EnergyCoefficients, *,
                 segments: Mapping[str, Segment], memory_modes: Sequence[str] = ('fast', 'lean'),
                 cache_bytes: Optional[float] = None, ways: Sequence[EngineOptions] = ()
                 ) -> Tuple[RemoteOption, ...]:
    """
    Return every way to answer with a peer that is worth offering, in the order of the bundle.

    :param bundle: crossings, accuracies and counts
    :param tables: measured on this device, heads included
    :param coefficients: unit energies of this device
    :param segments: segment_id -> graph on this device
    :param memory_modes: for the heads
    :param cache_bytes: share of the last-level cache, for the working-set model
    :param ways: further engine options for heads, offered where the tables have their rows
    :returns: empty for a bundle without crossings
    :raises CalibrationError: when a head has no row
    """
    build = _Build(bundle, tables, coefficients, segments, cache_bytes)
    heads = offered_heads(bundle, segments, memory_modes)
    heads += more_candidates(heads, ways, tables, segments)
    options: List[RemoteOption] = []
    for figure in _codecs_worth(bundle.crossings, build):
        if not figure.cut_id:
            options.append(build.frame(figure, memory_modes))
            continue
        name = bundle.segment_for(figure.variant_id, 'head', cut_id=figure.cut_id)
        options.extend(_engines_worth(
            [build.cut(figure, head) for head in heads if only_segment(head) == name]))
    return tuple(options)


@dataclass(frozen=True)
class _Build:
    bundle: CrossingSource
    tables: Tables
    coefficients: EnergyCoefficients
    segments: Mapping[str, Segment]
    cache_bytes: Optional[float]

    def frame(self, figure: CrossingLike, memory_modes: Sequence[str]) -> RemoteOption:
        """Return the way that sends the frame itself; nothing runs here."""
        engine = EngineOptions(memory_mode=memory_modes[-1])
        return self._option(figure, self._variant(figure.variant_id), engine, '', 'whole')

    def cut(self, figure: CrossingLike, head: Candidate) -> RemoteOption:
        """Return the way that runs a head here and sends what it gives."""
        return self._option(figure, head.variant, head.engine, only_segment(head), 'tail')

    def codec_s(self, figure: CrossingLike) -> float:
        """Return the seconds of packing and unpacking, as timed here, else as counted."""
        timed = self.tables.codec_s.get(crossing_key(figure.cut_id, figure.codec))
        if timed is not None:
            return timed.mean
        name = self.bundle.segment_for(figure.variant_id, 'tail' if figure.cut_id else 'whole',
                                       cut_id=figure.cut_id)
        return _bytes(self.segments[name].inputs) / COUNTED_CODEC_BYTES_PER_S

    def _option(self, figure: CrossingLike, variant: Variant, engine: EngineOptions, head: str,
                role: str) -> RemoteOption:
        bundle, remote = self.bundle, self.bundle.segment_for(
            figure.variant_id, role, cut_id=figure.cut_id)
        latency_s, memory_bytes = self._row(head, engine)
        layers = bundle.layer_costs(head) if head else ()
        macs, words = sum(c.macs for c in layers), sum(c.words for c in layers)
        hits = modelled_cache_hit_ratio(working_set_bytes(layers), self.cache_bytes)
        joules = work_energy_j(macs, words, self.coefficients, cache_hit_ratio=hits)
        drop = max(0.0, figure.accuracy_drop)
        return RemoteOption(
            figure.variant_id, variant, engine, head, remote, role, figure.codec,
            {c: max(0.0, a - drop) for c, a in bundle.accuracy(figure.variant_id).items()},
            latency_s, memory_bytes, macs, words, Estimate(joules, joules, ESTIMATED),
            figure.bytes_mean, float(_bytes(self.segments[remote].outputs)),
            self.codec_s(figure), sum(c.macs for c in bundle.layer_costs(remote)),
            self.coefficients, self.tables.preprocess_s.mean)

    def _row(self, head: str, engine: EngineOptions) -> Tuple[Estimate, Estimate]:
        if not head:
            return NOTHING, NOTHING
        key = row_key(self.segments[head].sha256, engine)
        if key not in self.tables.rows:
            raise CalibrationError(f'the tables have no row for {head} with {engine.threads} '
                                   f'threads, {engine.memory_mode}: delete them and they are '
                                   'measured anew')
        return self.tables.rows[key].infer_s, self.tables.rows[key].memory_bytes

    def _variant(self, variant_id: str) -> Variant:
        for candidate in self.bundle.candidates():
            if candidate.variant_id == variant_id:
                return candidate.variant
        raise CalibrationError(f'the bundle offers no variant {variant_id!r}')


def _bytes(specs: Sequence[TensorSpec]) -> int:
    return sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs)


def _codecs_worth(figures: Sequence[CrossingLike], build: _Build) -> List[CrossingLike]:
    """Drop a codec that another one at the same cut beats in bytes, noise aside in the rest."""
    def beaten(figure: CrossingLike) -> bool:
        return any(o.bytes_mean < figure.bytes_mean
                   and o.accuracy_drop <= figure.accuracy_drop + ACCURACY_NOISE
                   and build.codec_s(o) <= build.codec_s(figure) + CODEC_NOISE_S
                   for o in figures
                   if (o.variant_id, o.cut_id) == (figure.variant_id, figure.cut_id))
    return [figure for figure in figures if not beaten(figure)]


def _engines_worth(options: Sequence[RemoteOption]) -> List[RemoteOption]:
    """Of the ways to run one head, drop those that another beats or equals, the first stays."""
    kept: List[RemoteOption] = []
    for option in sorted(options, key=_thrift):
        if not any(k.head_latency_s.mean <= option.head_latency_s.mean * LATENCY_NOISE
                   and k.head_memory_bytes.mean <= option.head_memory_bytes.mean for k in kept):
            kept.append(option)
    return [option for option in options if option in kept]


def _thrift(option: RemoteOption) -> Tuple[float, float]:
    joules = option.head_energy_j.mean
    if option.coefficients is not None:
        joules += awake_energy_j(option.head_latency_s.mean, option.engine.threads,
                                 option.coefficients)
    return joules, option.head_memory_bytes.mean
