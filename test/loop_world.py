# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A small front of one robot, what it may sense, and a loop that runs on both."""
from __future__ import annotations

from crowdhmt_ros.loop import step
from crowdhmt_ros.types import (
    MEASURED,
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    Feedback,
    FrontEntry,
    LoopState,
    Placement,
    Reading,
    Requirements,
    ResourceSnapshot,
    SegmentPlacement,
    Variant,
)

COEFFICIENTS = EnergyCoefficients(52.8e-12, idle_w=0.2)


def entry(name, accuracy, latency_ms, memory_mb, energy_mj, dusk=None):
    candidate = Candidate(name, Variant(((),), 1),
                          Placement((SegmentPlacement('whole', f'{name}.whole'),)),
                          EngineOptions())
    return FrontEntry(
        candidate, {'scenes/noon': accuracy, 'scenes/dusk': dusk or accuracy - 0.1,
                    'photos': accuracy - 0.05},
        Estimate(latency_ms / 1e3, latency_ms * 1.2 / 1e3, MEASURED),
        Estimate(memory_mb * 1e6, memory_mb * 1e6, MEASURED),
        Estimate(energy_mj / 1e3, energy_mj / 1e3), int(energy_mj * 1e7), 1000, COEFFICIENTS)


FRONT = (
    entry('w100', 0.92, 5.0, 19.0, 7.7),
    entry('w075', 0.90, 3.0, 12.0, 4.5),
    entry('w050', 0.87, 2.0, 7.3, 2.1),
    entry('w038', 0.83, 1.4, 4.1, 0.9),
    entry('w025', 0.75, 1.2, 3.0, 0.5, dusk=0.5),
)
IDS = {e.candidate.variant_id: e.candidate.candidate_id for e in FRONT}


def look(battery=0.9, allotted_mb=None, stamp_s=0.0, **readings):
    told = {'battery_ratio': battery,
            'memory_allotted_bytes': None if allotted_mb is None else allotted_mb * 1e6,
            **readings}
    return ResourceSnapshot(stamp_s, **{k: Reading(v) for k, v in told.items() if v is not None})


NO_WISH, AT_FIRST = Requirements(), LoopState()


def run(steps, state=AT_FIRST, front=FRONT, requirements=NO_WISH, feedbacks=None):
    """Return the state and all plans of one step a second through the given snapshots."""
    plans = []
    for number, snapshot in enumerate(steps):
        told = feedbacks(number, state) if feedbacks else []
        now_s = state.plan_seq + 1.0
        state, plan = step(state, snapshot, told, requirements, front, now_s)
        plans.append(plan)
    return state, plans


def variants(plans):
    return [p.chosen.candidate.variant_id for p in plans]


def window(candidate_id, factor=1.0, count=10, plan_seq=1, stamp_s=10.0, condition='',
           base_s=None):
    if base_s is None:
        base_s = next(e.latency_s.mean for e in FRONT if e.candidate.candidate_id == candidate_id)
    return Feedback(plan_seq, candidate_id, stamp_s, 1.0, preprocess_s=(0.0,) * count,
                    infer_s=(base_s * factor,) * count, condition=condition)
