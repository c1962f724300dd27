# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a run amounts to: the figures of report.json and the series that the page draws.

All times are seconds since the first emitted frame, on the node's clock; robots that ran together
have one time 0.
"""
from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.report.loss import count_losses
from crowdhmt_ros.report.recording import NS, Answer, Decision, Recording, Window
from crowdhmt_ros.report.violations import LimitsAt, count_violations

Series = Tuple[Tuple[float, Optional[float]], ...]
"""(time in s, value) pairs; None breaks the line."""

ACCURACY_WINDOW_FRAMES = 100
POWER_WINDOWS = 4


@dataclass(frozen=True)
class Band:
    """A stretch of time with a name: a light band, or the plan in force."""

    start_s: float
    stop_s: float
    name: str


@dataclass(frozen=True)
class Timeline:
    """All series of one run."""

    duration_s: float
    light: Tuple[Band, ...]
    battery_ratio: Series
    allotted_bytes: Series
    resident_bytes: Series
    chosen: Tuple[Band, ...]
    latency_p95_s: Series
    latency_budget_s: Series
    accuracy_ratio: Series
    expected_accuracy: Series
    accuracy_floor: Series
    energy_w: Series
    offloaded_ratio: Series = ()
    degraded_ratio: Series = ()
    near: Tuple[Band, ...] = ()


def percentile(values: Sequence[float], ratio: float) -> float:
    """Return the value at a ratio 0..1 of the sorted values, linear between neighbours."""
    ordered = sorted(values)
    place = ratio * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def origin_s(recording: Recording) -> float:
    """Return the node clock at time 0: of the first frame, else of the first decision, else 0."""
    if recording.start_s is not None:
        return recording.start_s
    if recording.frames:
        return recording.frames[0].stamp_ns / NS
    if recording.answers:
        return min(a.stamp_ns for a in recording.answers) / NS
    return recording.decisions[0].stamp_s if recording.decisions else 0.0


def end_s(recording: Recording) -> float:
    """Return the node clock of the last frame or answer."""
    stamps = [f.stamp_ns for f in recording.frames] or [a.stamp_ns for a in recording.answers]
    return max(stamps) / NS if stamps else origin_s(recording)


def light_bands(recording: Recording) -> Tuple[Band, ...]:
    """Return stretches of equal light; empty without ground truth."""
    start = origin_s(recording)
    named = [(f.stamp_ns / NS - start, f.light_band) for f in recording.frames if f.light_band]
    return merge_bands(named, end_s(recording) - start)


def merge_bands(named: Sequence[Tuple[float, str]], stop_s: float) -> Tuple[Band, ...]:
    """Join (time, name) pairs, ascending, into stretches; the last one ends at `stop_s`."""
    bands: List[Band] = []
    for time_s, name in named:
        if bands and bands[-1].name == name:
            continue
        if bands:
            bands[-1] = dataclasses.replace(bands[-1], stop_s=time_s)
        bands.append(Band(time_s, max(stop_s, time_s), name))
    return tuple(b for b in bands if b.stop_s > 0)


def per_second(pairs: Sequence[Tuple[float, float]],
               reduce: Callable[[Sequence[float]], float]) -> Series:
    """Reduce (time, value) pairs second by second; a second without values breaks the line."""
    bins: Dict[int, List[float]] = {}
    for time_s, value in pairs:
        bins.setdefault(math.floor(time_s), []).append(value)
    if not bins:
        return ()
    return tuple((second + 0.5, reduce(bins[second]) if second in bins else None)
                 for second in range(min(bins), max(bins) + 1))


def rolling_accuracy(recording: Recording, window: int = ACCURACY_WINDOW_FRAMES) -> Series:
    """Return the ratio of right answers over the last `window` answered frames with a truth."""
    start = origin_s(recording)
    truth = {f.stamp_ns: f.label for f in recording.frames if f.label}
    right: List[float] = []
    series: List[Tuple[float, Optional[float]]] = []
    for answer in sorted(recording.answers, key=lambda a: a.stamp_ns):
        if answer.stamp_ns in truth:
            right.append(float(truth[answer.stamp_ns] == answer.label))
            recent = right[-window:]
            if len(recent) >= min(window, 10):
                series.append((answer.stamp_ns / NS - start, sum(recent) / len(recent)))
    return tuple(series)


def power(windows: Sequence[Window], width: int = POWER_WINDOWS
          ) -> Tuple[Tuple[float, float], ...]:
    """Return (node clock, mean power of the last few windows in W); frames come in lumps."""
    known = [w for w in windows if w.energy_j is not None and w.window_s > 0]
    found = []
    for i, window in enumerate(known):
        recent = known[max(0, i + 1 - width):i + 1]
        found.append((window.stamp_s, sum(w.energy_j or 0.0 for w in recent)
                      / sum(w.window_s for w in recent)))
    return tuple(found)


def make_timeline(recording: Recording) -> Timeline:
    """Derive all series of a run."""
    start, plans = origin_s(recording), recording.decisions
    duration = max(0.0, end_s(recording) - start)
    timed = [(a.stamp_ns / NS - start, a.latency_s) for a in recording.answers
             if a.latency_s is not None]

    def of_plans(value: Callable[[Decision], Optional[float]]) -> Series:
        series = [(p.stamp_s - start, value(p)) for p in plans]
        return tuple(series + ([(duration, series[-1][1])] if series else []))

    return Timeline(
        duration_s=duration, light=light_bands(recording),
        battery_ratio=tuple((s.stamp_s - start, s.battery_ratio) for s in recording.samples),
        allotted_bytes=tuple(
            (s.stamp_s - start, s.memory_allotted_bytes) for s in recording.samples),
        resident_bytes=tuple((max(0.0, w.stamp_s - w.window_s - start), w.memory_bytes)
                             for w in recording.windows),
        chosen=merge_bands([(p.stamp_s - start, p.candidate_id) for p in plans], duration),
        latency_p95_s=per_second(timed, lambda values: percentile(values, 0.95)),
        latency_budget_s=of_plans(lambda p: p.latency_budget_s),
        accuracy_ratio=rolling_accuracy(recording),
        expected_accuracy=of_plans(lambda p: p.accuracy),
        accuracy_floor=of_plans(lambda p: p.accuracy_floor),
        energy_w=tuple((time_s - start, value) for time_s, value in power(recording.windows)),
        offloaded_ratio=share_per_second(recording, lambda a: a.offloaded),
        degraded_ratio=share_per_second(recording, lambda a: a.degraded),
        near=near_bands(recording))


def share_per_second(recording: Recording, is_so: Callable[[Answer], bool]) -> Series:
    """Return the share of answers of each second of which something is so."""
    start = origin_s(recording)
    return per_second([(a.stamp_ns / NS - start, float(is_so(a))) for a in recording.answers],
                      lambda values: sum(values) / len(values))


def near_bands(recording: Recording) -> Tuple[Band, ...]:
    """Return from when to when an obstacle was near, named by its class."""
    start = origin_s(recording)
    named = [(e.stamp_ns / NS - start, e.label if e.near else '') for e in recording.obstacles]
    return tuple(band for band in merge_bands(named, end_s(recording) - start) if band.name)


def accuracy_of(recording: Recording) -> Dict[str, Dict[str, float]]:
    """Return per light band the ratio of right answers and their count, 'all' included."""
    truth = {f.stamp_ns: f for f in recording.frames if f.label}
    found: Dict[str, List[bool]] = {}
    for answer in recording.answers:
        frame = truth.get(answer.stamp_ns)
        if frame:
            for name in ('all', frame.light_band):
                found.setdefault(name, []).append(frame.label == answer.label)
    return {name: {'ratio': sum(hits) / len(hits), 'count': len(hits)}
            for name, hits in found.items() if name}


def plan_rows(recording: Recording) -> List[Dict[str, Any]]:
    """Return one row a stretch of equal plans: since when, what, why, and its answers."""
    start = origin_s(recording)
    rows: List[Dict[str, Any]] = []
    answered: Dict[int, int] = {}
    for answer in recording.answers:
        answered[answer.plan_seq] = answered.get(answer.plan_seq, 0) + 1
    for plan in recording.decisions:
        if rows and rows[-1]['candidate_id'] == plan.candidate_id:
            rows[-1]['frames'] += answered.get(plan.plan_seq, 0)
            continue
        row = dataclasses.asdict(plan)
        row.update(since_s=plan.stamp_s - start, frames=answered.get(plan.plan_seq, 0))
        rows.append(row)
    return rows


def latency_of(answers: Sequence[Answer]) -> Dict[str, Optional[float]]:
    """Return mean, median, 95th percentile and maximum of the known latencies."""
    values = [a.latency_s for a in answers if a.latency_s is not None]
    if not values:
        return {'mean_s': None, 'p50_s': None, 'p95_s': None, 'max_s': None}
    return {'mean_s': sum(values) / len(values), 'p50_s': percentile(values, 0.5),
            'p95_s': percentile(values, 0.95), 'max_s': max(values)}


def energy_of(windows: Sequence[Window]) -> Dict[str, Any]:
    """Return the energy of all inferences and where the figure comes from."""
    known = [w for w in windows if w.energy_j is not None]
    return {'total_j': sum(w.energy_j or 0.0 for w in known) if known else None,
            'source': known[-1].energy_source if known else 'absent'}


def offload_of(recording: Recording) -> Dict[str, Any]:
    """Return what peers did for this robot."""
    answers = recording.answers
    total = max(1, len(answers))
    spent = [a.offload_s for a in answers if a.offload_s is not None and a.offloaded]
    return {
        'frames': sum(a.offloaded for a in answers),
        'frames_offloaded_ratio': sum(a.offloaded for a in answers) / total,
        'degraded_ratio': sum(a.degraded for a in answers) / total,
        'crossing_p50_s': percentile(spent, 0.5) if spent else None,
        'crossing_p95_s': percentile(spent, 0.95) if spent else None,
        'sent_bytes': sum(w.sent_bytes for w in recording.windows),
        'received_bytes': sum(w.received_bytes for w in recording.windows)}


def summarise(recording: Recording, *,
              accuracy: Optional[Mapping[str, Mapping[str, float]]] = None,
              about: Optional[Mapping[str, Any]] = None,
              limits: Optional[LimitsAt] = None) -> Dict[str, Any]:
    """
    Return everything that report.json holds.

    :param recording: the run
    :param accuracy: variant_id -> condition -> ratio, from the bundle's manifest
    :param about: command, seed, machine, source and the like, copied
    :param limits: what was in force when, where the world is known
    """
    duration = end_s(recording) - origin_s(recording)
    violations = count_violations(recording, accuracy=accuracy, limits=limits)
    variants: List[str] = []
    ways: List[str] = []
    for answer in sorted(recording.answers, key=lambda a: a.stamp_ns):
        if answer.degraded:  # nobody has chosen that
            continue
        if not variants or variants[-1] != answer.variant_id:
            variants.append(answer.variant_id)
        way = '%s@%s' % (answer.variant_id, answer.placement)
        if not ways or ways[-1] != way:
            ways.append(way)
    return {
        'format': 'crowdhmt-report', 'format_version': 1, 'about': dict(about or {}),
        'duration_s': duration,
        'frames': dataclasses.asdict(count_losses(recording)) if recording.frames else None,
        'answers': len(recording.answers),
        'rate_hz': len(recording.answers) / duration if duration > 0 else None,
        'latency': latency_of(recording.answers),
        'energy': energy_of(recording.windows),
        'accuracy': accuracy_of(recording),
        'violations': dict(dataclasses.asdict(violations), ratio=violations.ratio),
        'plans_distinct': len(set(ways)), 'variants_in_order': variants,
        'placements_in_order': ways, 'offload': offload_of(recording),
        'plans': plan_rows(recording),
        'timeline': dataclasses.asdict(make_timeline(recording)),
    }
