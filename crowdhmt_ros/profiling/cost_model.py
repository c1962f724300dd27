# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What each candidate is expected to do now (P III-D1).

    accuracy   by the condition of the images
    latency    preprocessing of this camera + inference: table x correction; formula (2)'s
               processor share while nothing was measured
    memory     table
    energy     formula (1) under the cache-hit ratio of the moment, plus awake cores x time

A candidate that may answer early takes head + (1 - share answered there) x tail, by the shares
of the bundle x what was learned of how deep frames go; its 95th percentile is that of deep frames.
Preprocessing is a time, not a ratio: it depends on the camera's frames, not on the candidate.
Where a peer takes part:

    accuracy   blended with the fallback's by the share of answers that it gave lately
    latency    of the head as above, + packing + link of the moment + time at the peer by its
               advertised rate x what was learned of that peer
    memory     head + fallback
    energy     of the head as above, + energy per byte x bytes; the peer drains its own battery
"""
from __future__ import annotations

from typing import Sequence, Tuple

from crowdhmt_ros.profiling.accuracy import accuracy_now
from crowdhmt_ros.profiling.corrections import (
    AWAY_SPREAD,
    absorb,
    absorb_degraded,
    absorb_preprocess,
    common_ratio,
    depth_id,
    peer_id,
    peer_ratios,
)
from crowdhmt_ros.profiling.energy import awake_energy_j, radio_energy_j, work_energy_j
from crowdhmt_ros.profiling.exits import depth_spread, machine_spread
from crowdhmt_ros.profiling.latency import slowdown
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    Away,
    CostEstimate,
    Estimate,
    FrontEntry,
    LoopState,
    ResourceSnapshot,
)

__all__ = ['CostModel', 'absorb', 'absorb_degraded', 'absorb_preprocess', 'estimate',
           'estimate_all', 'peer_ratios']


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
        self._degraded_ratio = state.degraded_ratio
        self._cache_hit_ratio = snapshot.cache_hit_ratio.value

    def estimate(self, entry: FrontEntry) -> CostEstimate:
        """Return what `entry` is expected to do now."""
        preprocess_s = entry.preprocess_s * self._shared_ratio if self._preprocess_s is None \
            else self._preprocess_s
        infer_s, spread_ratio, source = self._inference(entry)
        # One spread for both parts: what holds up the engine holds up what runs before it.
        deep_s = infer_s * max(1.0, depth_spread(entry) / self._depth(entry))
        mean_s, p95_s = preprocess_s + infer_s, (preprocess_s + deep_s) * spread_ratio
        if entry.away is not None:
            away_s, away_spread = self._away(entry.away)
            mean_s, p95_s = mean_s + away_s, p95_s + away_s * away_spread
        return CostEstimate(
            entry.candidate, self._accuracy(entry), Estimate(mean_s, p95_s, source),
            entry.memory_bytes, self._energy(entry, infer_s, preprocess_s), entry.fallback_id,
            entry.away)

    def _accuracy(self, entry: FrontEntry) -> Estimate:
        now = accuracy_now(entry.accuracy, self._condition)
        if entry.away is None or not entry.fallback_accuracy:
            return now
        fallback = accuracy_now(entry.fallback_accuracy, self._condition).mean
        value = now.mean + self._degraded_ratio * (fallback - now.mean)
        return Estimate(value, value, now.source)

    def _away(self, away: Away) -> Tuple[float, float]:
        """Return the seconds of everything beyond the head, and 95th percentile over centre."""
        correction = self._corrections.get(peer_id(away.robot_id))
        ratio = correction.latency_ratio if correction else 1.0
        return (away.codec_s + away.link_s + away.remote_s * ratio,
                correction.spread_ratio if correction else AWAY_SPREAD)

    def _inference(self, entry: FrontEntry) -> Tuple[float, float, str]:
        """Return the seconds of the engine, 95th percentile over centre, and their source."""
        table = entry.latency_s
        mean_s = table.mean * self._depth(entry)
        correction = self._corrections.get(entry.candidate.candidate_id)
        if correction is None:
            return mean_s * self._shared_ratio, machine_spread(entry), ESTIMATED
        return mean_s * correction.latency_ratio, correction.spread_ratio, MEASURED

    def _depth(self, entry: FrontEntry) -> float:
        """Return how deep frames go lately, over what the bundle promises; 1 without exits."""
        if not entry.exits:
            return 1.0
        correction = self._corrections.get(depth_id(entry.candidate.candidate_id))
        return correction.latency_ratio if correction else 1.0

    def _energy(self, entry: FrontEntry, infer_s: float, preprocess_s: float) -> Estimate:
        if entry.coefficients is None:
            return entry.energy_j
        joules = entry.energy_j.mean
        if self._cache_hit_ratio is not None:
            joules = work_energy_j(entry.macs, entry.words, entry.coefficients,
                                   cache_hit_ratio=self._cache_hit_ratio)
        packing_s = entry.away.codec_s if entry.away is not None else 0.0
        joules += awake_energy_j(infer_s, entry.candidate.engine.threads, entry.coefficients,
                                 preprocess_s=preprocess_s + packing_s)
        if entry.away is not None:
            joules += radio_energy_j(entry.away.sent_bytes + entry.away.received_bytes,
                                     entry.coefficients)
        return Estimate(joules, joules, ESTIMATED)


def estimate(entry: FrontEntry, state: LoopState, snapshot: ResourceSnapshot) -> CostEstimate:
    """Return what one candidate is expected to do now."""
    return CostModel(state, snapshot).estimate(entry)


def estimate_all(front: Sequence[FrontEntry], state: LoopState, snapshot: ResourceSnapshot
                 ) -> Tuple[CostEstimate, ...]:
    """Return what every candidate of the front is expected to do now, in its order."""
    model = CostModel(state, snapshot)
    return tuple(model.estimate(entry) for entry in front)
