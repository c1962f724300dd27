# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Budgets and floor against what a run really did, frame by frame."""
from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.report.recording import NS, Answer, Decision, Recording


@dataclass(frozen=True)
class TickCount:
    """
    Budgets and floor, counted frame by frame under what was in force at that moment.

    :param frames: answered frames with a plan in force
    :param violating: of them, those that broke at least one
    :param memory: resident executables took more than allotted
    :param latency: frame in memory to result took longer than the budget
    :param accuracy: the plan's accuracy under the present light was below the floor
    """

    frames: int
    violating: int
    memory: int
    latency: int
    accuracy: int

    @property
    def ratio(self) -> float:
        """Violating over counted frames, 0 without frames."""
        return self.violating / self.frames if self.frames else 0.0


@dataclass(frozen=True)
class Limits:
    """What is in force at one moment; None is no limit."""

    memory_bytes: Optional[float] = None
    latency_s: Optional[float] = None
    accuracy: Optional[float] = None


LimitsAt = Callable[[float], Limits]
"""Node clock in s -> what is in force then."""


def latest(times: Sequence[float], items: Sequence[Any], time_s: float) -> Optional[Any]:
    """Return the last item at or before a time; `times` ascending, None before the first."""
    index = bisect.bisect_right(times, time_s) - 1
    return items[index] if index >= 0 else None


def accuracy_now(decision: Decision, answer: Answer, light_band: str,
                 table: Mapping[str, Mapping[str, float]]) -> Optional[float]:
    """
    Return the manifest's accuracy for the light of this frame, else the plan's estimate.

    :param table: variant_id, or variant_id:codec where a crossing costs accuracy, -> condition
    """
    if not light_band:
        return decision.accuracy
    names = [answer.variant_id]
    if answer.offloaded and decision.codec:
        names.insert(0, '%s:%s' % (answer.variant_id, decision.codec))
    row = next((table[name] for name in names if name in table), {})
    return row.get('scenes/' + light_band, decision.accuracy)


def known_limits(recording: Recording) -> LimitsAt:
    """Return the limits as the robot itself knew them, from its plans and resources."""
    plans = sorted(recording.decisions, key=lambda p: p.stamp_s)
    plan_times = [p.stamp_s for p in plans]
    samples = sorted(recording.samples, key=lambda s: s.stamp_s)
    sample_times = [s.stamp_s for s in samples]

    def at(stamp_s: float) -> Limits:
        plan = latest(plan_times, plans, stamp_s)
        sample = latest(sample_times, samples, stamp_s)
        if plan is None:
            return Limits(memory_bytes=sample.memory_allotted_bytes if sample else None)
        return Limits(least(plan.memory_budget_bytes, sample and sample.memory_allotted_bytes),
                      plan.latency_budget_s, plan.accuracy_floor)

    return at


def count_violations(recording: Recording, *,
                     accuracy: Optional[Mapping[str, Mapping[str, float]]] = None,
                     limits: Optional[LimitsAt] = None) -> TickCount:
    """
    Count the answered frames that broke a budget or the floor in force at that moment.

    Memory is what all resident executables took at the end of the frame's feedback window.

    :param recording: a run with decisions
    :param accuracy: variant_id -> condition -> ratio, from the bundle's manifest
    :param limits: what was in force when, where the world is known better than by the robot
    """
    counts = {'frames': 0, 'violating': 0, 'memory': 0, 'latency': 0, 'accuracy': 0}
    for _, broken in judged_answers(recording, accuracy=accuracy, limits=limits):
        counts['frames'] += 1
        counts['violating'] += bool(broken)
        for name in broken:
            counts[name] += 1
    return TickCount(**counts)


def judged_answers(recording: Recording, *,
                   accuracy: Optional[Mapping[str, Mapping[str, float]]] = None,
                   limits: Optional[LimitsAt] = None
                   ) -> Iterator[Tuple[Answer, Tuple[str, ...]]]:
    """
    Yield each answer with a plan in force, and what it broke of memory, latency and accuracy.

    :param accuracy: as `accuracy_now` takes it
    :param limits: as in `count_violations`
    """
    table, in_force = accuracy or {}, limits or known_limits(recording)
    plans = sorted(recording.decisions, key=lambda p: p.stamp_s)
    plan_times = [p.stamp_s for p in plans]
    by_seq = {p.plan_seq: p for p in plans}
    light = {f.stamp_ns: f.light_band for f in recording.frames}
    resident = {s: w.memory_bytes for w in recording.windows for s in w.answered_ns}
    for answer in recording.answers:
        plan = latest(plan_times, plans, answer.stamp_ns / NS)
        if plan is None:
            continue
        now = in_force(answer.stamp_ns / NS)
        expected = accuracy_now(by_seq.get(answer.plan_seq, plan), answer,
                                light.get(answer.stamp_ns, ''), table)
        broken = {'memory': exceeds(resident.get(answer.stamp_ns), now.memory_bytes),
                  'latency': exceeds(answer.latency_s, now.latency_s),
                  'accuracy': exceeds(now.accuracy, expected)}
        yield answer, tuple(name for name, is_broken in broken.items() if is_broken)


def least(*values: Optional[float]) -> Optional[float]:
    """Return the smallest known value, None when all are unknown."""
    known = [v for v in values if v is not None]
    return min(known) if known else None


def exceeds(value: Optional[float], limit: Optional[float]) -> bool:
    """Tell whether both are known and the value is larger."""
    return value is not None and limit is not None and value > limit
