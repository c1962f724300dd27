# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A small front, what a peer could do of it, and a loop that runs on both."""
from __future__ import annotations

from crowdhmt_ros.loop import step
from crowdhmt_ros.types import (
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    Feedback,
    FrontEntry,
    LoopState,
    PeerStatus,
    Placement,
    Reading,
    RemoteOption,
    Requirements,
    ResourceSnapshot,
    SegmentPlacement,
    Variant,
)

COEFFICIENTS = EnergyCoefficients(52.8e-12, idle_w=0.2, joules_per_byte=1e-7)
ENGINE = EngineOptions()
VARIANT = Variant(((),), 1)


def flat(value):
    return Estimate(value, value)


def entry(name, accuracy, latency_ms, memory_mb, energy_mj):
    placement = Placement((SegmentPlacement('whole', f'{name}.whole'),))
    return FrontEntry(
        Candidate(name, VARIANT, placement, ENGINE),
        {'scenes/noon': accuracy, 'scenes/dusk': accuracy - 0.1}, flat(latency_ms / 1e3),
        flat(memory_mb * 1e6), flat(energy_mj / 1e3), int(energy_mj * 1e7), 1000, COEFFICIENTS)


FRONT = (entry('w100', 0.92, 5.0, 19.0, 7.7), entry('w075', 0.90, 3.0, 12.0, 4.5),
         entry('w050', 0.87, 2.0, 7.3, 2.1), entry('w025', 0.75, 1.2, 3.0, 0.5))
IDS = {e.candidate.variant_id: e.candidate.candidate_id for e in FRONT}


def option(variant, cut, accuracy, head_ms, head_mb, sent_kb, remote_mmacs, codec='int8'):
    return RemoteOption(
        variant, VARIANT, ENGINE, f'{variant}.{cut}.head' if cut else '',
        f'{variant}.{cut}.tail' if cut else f'{variant}.whole', 'tail' if cut else 'whole', codec,
        {'scenes/noon': accuracy, 'scenes/dusk': accuracy - 0.1}, flat(head_ms / 1e3),
        flat(head_mb * 1e6), int(head_ms * 1e7), 1000, flat(head_ms / 1e3), sent_kb * 1e3, 28.0,
        0.001, int(remote_mmacs * 1e6), COEFFICIENTS)


REMOTE = (option('w100', '', 0.91, 0.0, 0.0, 6.0, 77.0, 'jpeg'),
          option('w075', '', 0.89, 0.0, 0.0, 6.0, 45.0, 'jpeg'),
          option('w100', 'c1', 0.92, 1.5, 1.0, 24.0, 60.0),
          option('w100', 'c2', 0.915, 3.0, 2.0, 8.0, 30.0),
          option('w075', 'c2', 0.895, 1.8, 1.2, 5.0, 18.0))
DRONE = PeerStatus('drone', 'd1', 0.4, 2, 10e9, 0.8, 1e9, 20e6, 0.002)
WISH = Requirements(latency_budget_s=0.1, accuracy_floor=0.85)
NOON = LoopState(condition='scenes/noon')


def look(battery=0.9, allotted_mb=25.0):
    return ResourceSnapshot(0.0, battery_ratio=Reading(battery),
                            memory_allotted_bytes=Reading(allotted_mb * 1e6))


def run(world, state=NOON, requirements=WISH):
    """Return the state and the plans of one step a second; world: (allotted MB, peers) each."""
    plans = []
    for allotted_mb, peers in world:
        now_s = state.plan_seq + 1.0
        state, plan = step(state, look(0.9, allotted_mb), [], requirements, FRONT, now_s, peers,
                           REMOTE)
        plans.append(plan)
    return state, plans


def helpers(plans):
    return [p.chosen.candidate.placement.peers for p in plans]


TIGHT, AMPLE = 5.0, 25.0


def window(candidate_id, stamp_s, count=10, degraded=0, link_s=0.004, remote_s=0.008,
           infer_s=0.003, **more):
    good = count - degraded
    return Feedback(
        1, candidate_id, stamp_s, 1.0, preprocess_s=(0.001,) * count, infer_s=(infer_s,) * count,
        offload_s=(0.02,) * count, encode_s=(0.001,) * good, link_s=(link_s,) * good,
        remote_queue_s=(0.0,) * good, remote_infer_s=(remote_s,) * good, degraded=degraded,
        condition='scenes/noon', **more)
