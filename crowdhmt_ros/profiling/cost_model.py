# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What each candidate is expected to do now (P III-D1).

    accuracy   by the condition of the images
    latency    preprocessing of this camera + inference: table x correction; formula (2)'s
               processor share while nothing was measured
    memory     table
    energy     formula (1) under the cache-hit ratio of the moment, plus awake cores x time

Preprocessing is a time, not a ratio: it depends on the camera's frames, not on the candidate.
"""
from __future__ import annotations

from typing import Sequence, Tuple

from crowdhmt_ros.profiling.accuracy import accuracy_now
from crowdhmt_ros.profiling.corrections import absorb, absorb_preprocess, common_ratio
from crowdhmt_ros.profiling.energy import awake_energy_j, work_energy_j
from crowdhmt_ros.profiling.latency import slowdown, spread
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    CostEstimate,
    Estimate,
    FrontEntry,
    LoopState,
    ResourceSnapshot,
)

__all__ = ['CostModel', 'absorb', 'absorb_preprocess', 'estimate', 'estimate_all']


class CostModel:
    """
    The cost of any candidate under one state of the loop and one look at the machine.

    :param state: corrections and condition
    :param snapshot: resources of the moment
    """

    def __init__(self, state: LoopState, snapshot: ResourceSnapshot) -> None:
        self._condition = state.condition
        self._corrections = {c.candidate_id: c for c in state.corrections}
        common = common_ratio(state.corrections)
        self._shared_ratio = slowdown(snapshot) if common is None else common
        self._preprocess_s = state.preprocess_s
        self._cache_hit_ratio = snapshot.cache_hit_ratio.value

    def estimate(self, entry: FrontEntry) -> CostEstimate:
        """Return what `entry` is expected to do now."""
        preprocess_s = entry.preprocess_s * self._shared_ratio if self._preprocess_s is None \
            else self._preprocess_s
        infer_s, spread_ratio, source = self._inference(entry)
        # One spread for both parts: what holds up the engine holds up what runs before it.
        latency = Estimate(preprocess_s + infer_s, (preprocess_s + infer_s) * spread_ratio, source)
        return CostEstimate(
            entry.candidate, accuracy_now(entry.accuracy, self._condition), latency,
            entry.memory_bytes, self._energy(entry, infer_s, preprocess_s))

    def _inference(self, entry: FrontEntry) -> Tuple[float, float, str]:
        """Return the seconds of the engine, 95th percentile over centre, and their source."""
        table = entry.latency_s
        correction = self._corrections.get(entry.candidate.candidate_id)
        if correction is None:
            return (table.mean * self._shared_ratio, spread(table.mean, table.p95), ESTIMATED)
        return table.mean * correction.latency_ratio, correction.spread_ratio, MEASURED

    def _energy(self, entry: FrontEntry, infer_s: float, preprocess_s: float) -> Estimate:
        if entry.coefficients is None:
            return entry.energy_j
        joules = entry.energy_j.mean
        if self._cache_hit_ratio is not None:
            joules = work_energy_j(entry.macs, entry.words, entry.coefficients,
                                   cache_hit_ratio=self._cache_hit_ratio)
        joules += awake_energy_j(infer_s, entry.candidate.engine.threads, entry.coefficients,
                                 preprocess_s=preprocess_s)
        return Estimate(joules, joules, ESTIMATED)


def estimate(entry: FrontEntry, state: LoopState, snapshot: ResourceSnapshot) -> CostEstimate:
    """Return what one candidate is expected to do now."""
    return CostModel(state, snapshot).estimate(entry)


def estimate_all(front: Sequence[FrontEntry], state: LoopState, snapshot: ResourceSnapshot
                 ) -> Tuple[CostEstimate, ...]:
    """Return what every candidate of the front is expected to do now, in its order."""
    model = CostModel(state, snapshot)
    return tuple(model.estimate(entry) for entry in front)
