# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The default demo of two robots: every frame counted, every budget kept, help where it pays."""
from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from benchmarks._robot_demo import Run, best_static
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.report.page import ALL_EMITTED_RATIO
from crowdhmt_ros.report.recording import NS, Recording, SourceFrame, read_recording

HELPED = 'vehicle'
SECONDS, QUICK_SECONDS = 60, 20
FURTHER_SEEDS = (8, 9)
"""Of the runs that add to the obstacles of the default one, which are few."""
RUN_TIMEOUT_S = 300.0
NEAR_RATIO = 0.05
"""An obstacle counts from the first frame in which its box fills so much of the view."""
OBSTACLES = ('pedestrian', 'bicycle', 'car')
PHASES = ('noon', 'memory_falls', 'memory_tight', 'evening_low_battery')
TIGHT = 'memory_tight'
CLAIMS = {'frames_lost': (0, LOWER), 'late_ratio': (0.01, LOWER), 'degraded_ratio': (0.20, LOWER),
          'plans_distinct': (4, HIGHER), 'frames_offloaded_ratio': (0.2, HIGHER),
          'alone_broken_ratio': (0.2, HIGHER), 'best_static_violations_ratio': (3.0, HIGHER),
          'budget_violation_ratio': (0.05, LOWER), 'obstacle_p95_s': (0.3, LOWER)}
ROS_CLAIMS = {'ros_' + key: CLAIMS[key] for key in (
    'frames_lost', 'late_ratio', 'degraded_ratio', 'plans_distinct', 'frames_offloaded_ratio',
    'budget_violation_ratio', 'obstacle_p95_s')}


@dataclass(frozen=True)
class PairRunDone:
    """
    One finished demo of several robots.

    :param report: report.json
    :param helped: the vehicle's recording with its own report
    """

    report: Mapping[str, Any]
    helped: Run


def run_pair(folder: Path, seconds: int, *options: str) -> PairRunDone:
    """
    Run the demo as a user does.

    :raises ProcessError: when it fails
    """
    command = [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live',
               '--seconds', str(seconds), '--out', str(folder), *options]
    done = subprocess.run(command, text=True, capture_output=True, timeout=RUN_TIMEOUT_S,
                          check=False)
    if done.returncode:
        raise ProcessError('the demo failed: %s' % ' / '.join(
            (done.stdout + done.stderr).strip().splitlines()[-4:]))
    report = json.loads((folder / 'report.json').read_text(encoding='utf-8'))
    own = folder / HELPED
    recording = read_recording(own / 'events.jsonl', own / 'frames.csv')
    return PairRunDone(report, Run(own, report['robots'][HELPED], recording))


def in_expected_order(report: Mapping[str, Any], recording: Recording,
                      macs: Mapping[str, int]) -> bool:
    """
    Tell whether the vehicle ran as in the case study.

    At noon a rich model at home; when memory falls something lighter, or a peer; at the end,
    with an empty battery, energy before accuracy, and something lighter than at noon.

    :param report: the vehicle's
    :param macs: variant_id -> multiply-accumulates
    """
    mostly = {phase: report['phases'].get(phase, {}).get('mostly', '') for phase in PHASES}
    if not all('@' in way for way in mostly.values()) or not recording.decisions:
        return False
    ways = {phase: tuple(way.split('@')) for phase, way in mostly.items()}
    rich, place = ways['noon']
    fell = any(ways[phase][1] != 'local' or macs[ways[phase][0]] < macs[rich]
               for phase in ('memory_falls', TIGHT))
    weights = recording.decisions[-1].weights
    return (place == 'local' and macs[rich] == max(macs.values()) and fell
            and macs[ways[PHASES[-1]][0]] < macs[rich]
            and weights.get('energy', 0.0) > weights.get('accuracy', 1.0))


@dataclass(frozen=True)
class Approach:
    """
    An obstacle that comes into a free view.

    :param stamp_s: node clock of the first frame in which it is near, or of an earlier one that
        it was told by
    :param told_s: from there to the arrival of `obstacle_near` at the recorder; None when the
        view was free again before anything was told
    """

    stamp_s: float
    told_s: Optional[float]


def approaches(recording: Recording) -> Tuple[Approach, ...]:
    """Return the obstacles that came near while no warning was in force, in order."""
    events = sorted(recording.obstacles, key=lambda e: e.stamp_ns)
    found = []
    for frames in obstacle_runs(recording.frames):
        before = [e for e in events if e.stamp_ns < frames[0].stamp_ns]
        near = next((f.stamp_ns for f in frames if (f.area_ratio or 0.0) >= NEAR_RATIO), None)
        if near is None or (before and before[-1].near):
            continue
        told = next((e for e in events if e.near
                     and frames[0].stamp_ns <= e.stamp_ns <= frames[-1].stamp_ns), None)
        start_ns = near if told is None else min(near, told.stamp_ns)
        found.append(Approach(start_ns / NS, None if told is None
                              else (told.received_ns - start_ns) / NS))
    return tuple(found)


def obstacle_runs(frames: Sequence[SourceFrame]) -> List[List[SourceFrame]]:
    """Return the frames with obstacles, from each free view to the next."""
    runs: List[List[SourceFrame]] = []
    free = True
    for frame in frames:
        if frame.label in OBSTACLES:
            if free:
                runs.append([])
            runs[-1].append(frame)
        free = frame.label not in OBSTACLES
    return runs


def obstacle_figures(runs: Sequence[PairRunDone]) -> List[Figure]:
    """Return how fast obstacles are told of, over some runs."""
    came = [a for run in runs for a in approaches(run.helped.recording)]
    waits = [math.inf if a.told_s is None else a.told_s for a in came]
    missed = sum(math.isinf(wait) for wait in waits)
    told = [(e.received_ns - e.stamp_ns) / NS for run in runs
            for e in run.helped.recording.obstacles if e.near]
    worst = rank(waits, 0.95)
    return [
        claim('obstacle_p95_s', worst, 0.3, better=LOWER, how='%d obstacles that came into a free '
              'view in %d runs, from the first frame in which one fills %g %% of it, or '
              'from an earlier one that told of it, to obstacle_near at the recorder; never told '
              '%d' % (
                  len(waits), len(runs), 100 * NEAR_RATIO, missed)),
        inform('obstacle_told_p95_s', rank(told, 0.95),
               how='all %d obstacle_near events, from their own frame' % len(told))]


def rank(values: Sequence[float], ratio: float) -> Optional[float]:
    """Return the smallest value that so large a share does not exceed, None when infinite."""
    ordered = sorted(values)
    found = ordered[max(0, math.ceil(ratio * len(ordered)) - 1)] if ordered else math.inf
    return found if math.isfinite(found) else None


def count_figures(run: PairRunDone) -> List[Figure]:
    """Return what the separate counter found, of all robots."""
    counts = {name: own['frames'] for name, own in run.report['robots'].items()}
    lost = sum(c['lost'] for c in counts.values())
    others = sum(c['duplicates'] + c['unknown'] for c in counts.values())
    emitted = min(c['emitted_ratio'] or 0.0 for c in counts.values())
    each = '; '.join('%s %d frames, %d superseded' % (name, c['emitted'], c['superseded'])
                     for name, c in counts.items())
    late = {name: c['late_ratio'] for name, c in counts.items()}
    return [
        claim('frames_lost', lost, 0, better=LOWER,
              also=others == 0 and emitted >= ALL_EMITTED_RATIO,
              how='%s; counted by a separate process; doubled or unknown %d; least share emitted '
              '%.3f' % (each, others, emitted)),
        claim('late_ratio', max(late.values()), 0.01, better=LOWER,
              how='answers older than two frame periods: ' + ', '.join(
                  '%s %.4f' % pair for pair in late.items())),
        claim('degraded_ratio', run.report['pair']['degraded_ratio'], 0.20, better=LOWER,
              how='vehicle: answers of a fallback over all answers')]


def adaptation_figures(run: PairRunDone, macs: Mapping[str, int]) -> List[Figure]:
    """Return where the vehicle's frames were answered, and what was broken by that."""
    own, pair = run.helped.report, run.report['pair']
    phases = own['phases']
    wrong = own['violations']
    return [
        claim('plans_distinct', own['plans_distinct'], 4, better=HIGHER,
              also=in_expected_order(own, run.helped.recording, macs),
              how='over (variant, placement), in the order of the case study; mostly %s' % (
                  ', '.join('%s: %s' % (p, row['mostly']) for p, row in phases.items()))),
        claim('frames_offloaded_ratio', pair['frames_offloaded_ratio'].get(TIGHT), 0.2,
              better=HIGHER, how='%s; of all frames %.3f' % (TIGHT, own['offload'][
                  'frames_offloaded_ratio'])),
        claim('budget_violation_ratio', wrong['ratio'], 0.05, better=LOWER,
              how='%d of %d answers of the vehicle: memory %d, latency %d, accuracy %d' % tuple(
                  wrong[k] for k in ('violating', 'frames', 'memory', 'latency', 'accuracy'))),
        *(inform('violations_ratio/' + phase, row['violations_ratio'],
                 how='offloaded %.2f, degraded %.2f' % (
                     row['frames_offloaded_ratio'], row['degraded_ratio']))
          for phase, row in phases.items())]


def alone_figures(run: PairRunDone) -> List[Figure]:
    """Return what the same day is without help."""
    broken = run.report['pair']['broken_floor_or_memory_ratio'].get(TIGHT)
    return [claim('alone_broken_ratio', broken, 0.2, better=HIGHER,
                  how='%s with --channel off on the same seed: share of the answers below the '
                  'floor or above the memory; in all phases %.3f of the answers outside a budget'
                  % (TIGHT, run.helped.report['violations']['ratio'])),
            inform('alone_frames_lost', float(run.report['pair']['frames_lost']),
                   how='lost, doubled or unknown, without help')]


def static_figures(own_ratio: float, frames: int, statics: Sequence[Tuple[str, float]]
                   ) -> List[Figure]:
    """
    Return what the best fixed plan is worth.

    :param own_ratio: share outside a budget or the floor of the adaptive run
    :param statics: (candidate_id, the same) of real runs
    """
    floor = 1.0 / max(1, frames)
    name, best = min(statics, key=lambda s: s[1])
    return [claim('best_static_violations_ratio', best / max(own_ratio, floor), 3.0,
                  better=HIGHER, how='best fixed plan at home %s, really run on the same seed: '
                  '%.4f; adaptive %.4f' % (name, best, own_ratio)),
            *(inform('static_violation_ratio/' + key, share, how='a fixed plan, really run')
              for key, share in statics)]


def macs_of(bundle: Any) -> Dict[str, int]:
    """Return variant_id -> multiply-accumulates of a bundle."""
    return {variant: bundle.macs(variant) for variant in bundle.manifest.front}


def demo_figures(bundle_name: str, folder: Path, *, quick: bool) -> List[Figure]:
    """Run the pair, the pair without help, and the best fixed plan; return all their figures."""
    bundle = open_bundle(bundle_name)
    front = prepare(bundle, live=False).front
    seconds = QUICK_SECONDS if quick else SECONDS
    run = run_pair(folder / 'pair', seconds)
    alone = run_pair(folder / 'alone', seconds, '--channel', 'off')
    _, name = best_static(front, run.helped, bundle)[0]
    fixed = run_pair(folder / 'static', seconds, '--static', name)
    further = [run_pair(folder / ('seed-%d' % seed), seconds, '--seed', str(seed))
               for seed in (() if quick else FURTHER_SEEDS)]
    own = run.helped.report['violations']
    return [*count_figures(run), *adaptation_figures(run, macs_of(bundle)), *alone_figures(alone),
            *static_figures(own['ratio'], own['frames'], [
                (name, fixed.helped.report['violations']['ratio'])]),
            *obstacle_figures([run, *further])]


def ros_figures(bundle_name: str, folder: Path, *, quick: bool) -> List[Figure]:
    """Run the same pair with the ROS channel; return its figures with ros_ before their names."""
    bundle = open_bundle(bundle_name)
    prepare(bundle, live=False)
    run = run_pair(folder / 'ros', QUICK_SECONDS if quick else SECONDS, '--channel', 'ros')
    figures = [*count_figures(run), *adaptation_figures(run, macs_of(bundle)),
               *obstacle_figures([run])]
    return [Figure('ros_' + f.key, f.value, f.target, f.better, f.holds, f.how) for f in figures]
