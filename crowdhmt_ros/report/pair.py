# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What several robots amount to together: phase by phase, who answered and what was broken."""
from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Dict, List, Mapping, Optional

from crowdhmt_ros.report.recording import NS, Recording
from crowdhmt_ros.report.summary import percentile
from crowdhmt_ros.report.violations import LimitsAt, judged_answers

PhaseAt = Callable[[float], str]
"""Node clock in s -> name of the phase."""


def phase_rows(recording: Recording, phase_at: PhaseAt, *,
               accuracy: Optional[Mapping[str, Mapping[str, float]]] = None,
               limits: Optional[LimitsAt] = None) -> Dict[str, Dict[str, Any]]:
    """
    Return phase -> figures of its answers, in order of time.

    `broken_floor_or_memory_ratio` is the share that broke the floor or the allotted memory.

    :param recording: the run of one robot
    :param phase_at: the scenario's phases
    :param accuracy: as `judged_answers` takes it
    :param limits: as `judged_answers` takes it
    """
    rows: Dict[str, List[Any]] = {}
    for answer, broken in sorted(judged_answers(recording, accuracy=accuracy, limits=limits),
                                 key=lambda pair: pair[0].stamp_ns):
        rows.setdefault(phase_at(answer.stamp_ns / NS), []).append((answer, broken))
    found = {}
    for phase, judged in rows.items():
        answers = [answer for answer, _ in judged]
        latencies = [a.latency_s for a in answers if a.latency_s is not None]
        ways = Counter('%s@%s' % (a.variant_id, a.placement) for a in answers if not a.degraded)
        found[phase] = {
            'frames': len(answers),
            'frames_offloaded_ratio': sum(a.offloaded for a in answers) / len(answers),
            'degraded_ratio': sum(a.degraded for a in answers) / len(answers),
            'violations_ratio': sum(bool(b) for _, b in judged) / len(answers),
            'broken_floor_or_memory_ratio': sum(
                'memory' in b or 'accuracy' in b for _, b in judged) / len(answers),
            'latency_p95_s': percentile(latencies, 0.95) if latencies else None,
            'mostly': ways.most_common(1)[0][0] if ways else ''}
    return found


def pair_figures(robots: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """
    Return what the robots amount to together; the first one is the one that is helped.

    :param robots: robot -> its report with `phases`
    """
    name, report = next(iter(robots.items()))
    phases = report['phases']
    counted = [r['frames'] for r in robots.values() if r['frames']]
    return {
        'robot': name, 'peers': [other for other in robots if other != name],
        'frames_offloaded_ratio': {p: row['frames_offloaded_ratio'] for p, row in phases.items()},
        'broken_floor_or_memory_ratio': {
            p: row['broken_floor_or_memory_ratio'] for p, row in phases.items()},
        'mostly': {p: row['mostly'] for p, row in phases.items()},
        'degraded_ratio': report['offload']['degraded_ratio'],
        'placements_in_order': report['placements_in_order'],
        'plans_distinct': report['plans_distinct'],
        'frames_lost': sum(c['lost'] + c['duplicates'] + c['unknown'] for c in counted),
        'late_ratio': max((c['late_ratio'] for c in counted), default=None),
        'start_apart_s': start_apart_s(robots)}


def start_apart_s(robots: Mapping[str, Mapping[str, Any]]) -> Optional[float]:
    """Return how far apart the robots' first frames are, None when one has none."""
    firsts = [report.get('first_frame_s') for report in robots.values()]
    known = [first for first in firsts if first is not None]
    return max(known) - min(known) if known and len(known) == len(firsts) else None
