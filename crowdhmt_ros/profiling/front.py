# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The front that the planner chooses from: every way to run that nothing else beats in everything.

Criteria are accuracy in each condition, latency, memory and energy. Every variant stays
with at least its most thrifty way, so that a person finds all of them in an explanation.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.accuracy import accuracy_now
from crowdhmt_ros.profiling.energy import (
    awake_energy_j,
    modelled_cache_hit_ratio,
    work_energy_j,
    working_set_bytes,
)
from crowdhmt_ros.profiling.engine_tables import all_candidates
from crowdhmt_ros.profiling.exits import exit_costs, mean_latency, reached_ratios
from crowdhmt_ros.profiling.seams import CandidateSource, local_segments, offered_heads
from crowdhmt_ros.profiling.tables import Row, Tables, row_key
from crowdhmt_ros.types import (
    ESTIMATED,
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    ExitCost,
    FrontEntry,
    LayerCost,
    Segment,
)


def build_front(bundle: CandidateSource, tables: Tables, coefficients: EnergyCoefficients, *,
                segments: Mapping[str, Segment], threads: Sequence[int] = (1, 2),
                memory_modes: Sequence[str] = ('fast', 'lean'),
                cache_bytes: Optional[float] = None, ways: Sequence[EngineOptions] = ()
                ) -> Tuple[FrontEntry, ...]:
    """
    Return the candidates worth choosing from, in the order of the bundle.

    :param bundle: candidates, accuracies and counts
    :param tables: measured on this device
    :param coefficients: unit energies of this device
    :param segments: segment_id -> graph on this device
    :param threads: thread counts to offer
    :param memory_modes: memory modes to offer
    :param cache_bytes: share of the last-level cache, for the working-set model
    :param ways: further engine options, offered where the tables have their rows
    :raises CalibrationError: when a candidate has no row
    """
    entries = []
    for candidate in all_candidates(bundle, tables, segments, threads=threads,
                                    memory_modes=memory_modes, ways=ways):
        names = local_segments(candidate)
        keys = [row_key(segments[n].sha256, candidate.engine) for n in names]
        if not set(keys) <= set(tables.rows):
            raise CalibrationError(f'the tables have no row for {candidate.candidate_id}: '
                                   'delete them and they are measured anew')
        exits = exit_costs(candidate, [segments[n] for n in names],
                           [tables.rows[k].infer_s for k in keys])
        entries.append(_entry(bundle, candidate, [tables.rows[k] for k in keys], exits,
                              tables.preprocess_s, coefficients, cache_bytes))
    return worth_choosing(entries)


def _entry(bundle: CandidateSource, candidate: Candidate, rows: Sequence[Row],
           exits: Tuple[ExitCost, ...], preprocess_s: Estimate, coefficients: EnergyCoefficients,
           cache_bytes: Optional[float]) -> FrontEntry:
    steps = [bundle.layer_costs(name) for name in local_segments(candidate)]
    layers = [layer for step in steps for layer in step]
    macs = bundle.macs(candidate.variant_id)
    words = round(sum(reached * sum(layer.words for layer in step)
                      for reached, step in zip(reached_ratios(exits), steps)))
    timed = rows[0].infer_s
    latency_s = mean_latency(exits, timed.source) if exits else timed
    memory = sum(row.memory_bytes.mean for row in rows)
    sources = {row.memory_bytes.source for row in rows}
    memory_bytes = rows[0].memory_bytes if len(rows) == 1 else Estimate(
        memory, memory, ESTIMATED if ESTIMATED in sources else rows[0].memory_bytes.source)
    hits = modelled_cache_hit_ratio(working_set_bytes(layers), cache_bytes)
    joules = work_energy_j(macs, words, coefficients, cache_hit_ratio=hits)
    options = candidate.engine
    accuracy = bundle.accuracy(candidate.variant_id) if options.precision == 'fp32' else \
        bundle.accuracy(candidate.variant_id, options.precision, options.backend)
    return FrontEntry(candidate, dict(accuracy), latency_s,
                      memory_bytes, Estimate(joules, joules, ESTIMATED), macs, words,
                      coefficients, preprocess_s.mean, exits=exits)


LATENCY_NOISE = 1.03
_Costs = Tuple[float, ...]
_ENERGY, _LATENCY = 0, 1


def _costs(entry: FrontEntry, conditions: Sequence[str]) -> _Costs:
    """Return the criteria of the front, all to be small: energy, latency, memory, errors."""
    joules = entry.energy_j.mean
    if entry.coefficients is not None:
        joules += awake_energy_j(entry.latency_s.mean, entry.candidate.engine.threads,
                                 entry.coefficients)
    return (joules, entry.latency_s.mean, entry.memory_bytes.mean,
            *(-accuracy_now(entry.accuracy, condition).mean for condition in conditions))


def worth_choosing(entries: Sequence[FrontEntry]) -> Tuple[FrontEntry, ...]:
    """
    Return the entries that no other beats or equals in everything, in their order.

    What is better in one condition only may be the one to choose there, so it stays.

    A latency counts as better only by more than `LATENCY_NOISE`, else two measurements of the
    same thing would both stay. Of equals the one that takes less energy stays, then the first;
    of each variant at least the most thrifty.
    """
    conditions = sorted({c for e in entries for c in e.accuracy})
    costs = [_costs(e, conditions) for e in entries]
    kept: List[int] = []
    for i in sorted(range(len(entries)), key=lambda i: (costs[i][_ENERGY], i)):
        if not any(_covers(costs[k], costs[i]) for k in kept):
            kept = [k for k in kept if not _beats(costs[i], costs[k])] + [i]
    have = {entries[i].candidate.variant_id for i in kept}
    thrifty: Dict[str, int] = {}
    for i, entry in enumerate(entries):
        name = entry.candidate.variant_id
        if name not in have and (
                name not in thrifty or costs[i][_ENERGY] < costs[thrifty[name]][_ENERGY]):
            thrifty[name] = i
    return tuple(entries[i] for i in sorted([*kept, *thrifty.values()]))


def _beats(costs: _Costs, others: _Costs) -> bool:
    return costs != others and all(a <= b for a, b in zip(costs, others))


def _covers(costs: _Costs, others: _Costs) -> bool:
    """Return whether `costs` is as good as `others`, noise in the latency forgiven."""
    eased = (others[_ENERGY], others[_LATENCY] * LATENCY_NOISE, *others[2:])
    return all(a <= b for a, b in zip(costs, eased))


def front_sha256(front: Sequence[FrontEntry]) -> str:
    """Return the digest of all candidates with all their figures, in their order."""
    items: List[Mapping[str, object]] = []
    for entry in front:
        items.append({
            'candidate': entry.candidate.candidate_id,
            'segments': [asdict(s) for s in entry.candidate.placement.segments],
            'accuracy': dict(entry.accuracy),
            'latency_s': asdict(entry.latency_s),
            'memory_bytes': asdict(entry.memory_bytes),
            'energy_j': asdict(entry.energy_j),
            'macs': entry.macs,
            'words': entry.words,
            'preprocess_s': entry.preprocess_s,
            'coefficients': asdict(entry.coefficients) if entry.coefficients else None,
            **({'exits': [asdict(e) for e in entry.exits]} if entry.exits else {}),
        })
    text = json.dumps(items, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


COUNTED_MACS_PER_S = 10e9
"""A nominal core, for figures that must not depend on the machine."""
COUNTED_THREAD_GAIN = 0.8
"""What a further thread adds to the rate of the first."""
COUNTED_MEMORY = {'fast': (3.0, 3.0), 'lean': (1.0, 1.5)}
"""Memory mode -> (multiple of the weights, multiple of the widest layer)."""


def counted_tables(bundle: CandidateSource, segments: Mapping[str, Segment], *,
                   threads: Sequence[int] = (1, 2),
                   memory_modes: Sequence[str] = ('fast', 'lean')) -> Tables:
    """
    Return tables from operation counts alone: equal on every machine, true on none.

    For replays that must repeat exactly, and for looking at plans where nothing can be measured.
    Every figure is marked as estimated.
    """
    rows: Dict[str, Row] = {}
    for candidate in (*bundle.candidates(threads, memory_modes),
                      *offered_heads(bundle, segments, memory_modes)):
        options = candidate.engine
        for name in local_segments(candidate):
            rows[row_key(segments[name].sha256, options)] = _counted(
                bundle.layer_costs(name), options)
    return Tables('counted', bundle.sha256, Estimate(0.0, 0.0, ESTIMATED), rows)


def _counted(layers: Sequence[LayerCost], options: EngineOptions) -> Row:
    rate = COUNTED_MACS_PER_S * (1.0 + COUNTED_THREAD_GAIN * (options.threads - 1))
    infer_s = sum(layer.macs for layer in layers) / rate
    weights = 4 * sum(layer.weight_words for layer in layers)
    per_weight, per_layer = COUNTED_MEMORY.get(options.memory_mode, COUNTED_MEMORY['fast'])
    memory = per_weight * weights + per_layer * (working_set_bytes(layers) - weights)
    return Row(Estimate(infer_s, infer_s, ESTIMATED), Estimate(memory, memory, ESTIMATED), 0)
