# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The default demo: every frame counted, every budget kept, beside the best fixed plan."""
from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.cli.outcome import accuracy_table, scenario_limits
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.report.page import ALL_EMITTED_RATIO
from crowdhmt_ros.report.recording import NS, Recording, read_recording
from crowdhmt_ros.report.summary import origin_s
from crowdhmt_ros.report.violations import LimitsAt, exceeds
from crowdhmt_ros.types import FrontEntry

SECONDS, QUICK_SECONDS = 60, 15
STATIC_RUNS = 2
"""How many of the best fixed plans by the recorded trace are really run."""
RUN_TIMEOUT_S = 300.0
SETTLED_S = 1.5


@dataclass(frozen=True)
class Run:
    """
    One finished demo.

    :param folder: its --out
    :param report: report.json
    :param recording: its events and frames
    """

    folder: Path
    report: Mapping[str, Any]
    recording: Recording


def run_demo(folder: Path, seconds: int, *, pinned: str = '') -> Run:
    """
    Run the demo as a user does.

    :raises ProcessError: when it fails
    """
    command = [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live',
               '--robot', 'vehicle', '--scenario', 'campus_minute',
               '--seconds', str(seconds), '--out', str(folder)]
    done = subprocess.run(command + (['--static', pinned] if pinned else []), text=True,
                          capture_output=True, timeout=RUN_TIMEOUT_S, check=False)
    if done.returncode:
        raise ProcessError('the demo failed: %s' % ' / '.join(
            (done.stdout + done.stderr).strip().splitlines()[-4:]))
    report = json.loads((folder / 'report.json').read_text(encoding='utf-8'))
    return Run(folder, report, read_recording(folder / 'events.jsonl', folder / 'frames.csv'))


def static_ratio(entry: FrontEntry, recording: Recording,
                 table: Mapping[str, Mapping[str, float]], limits: LimitsAt) -> float:
    """
    Return the share of a run's frames that a fixed plan would have answered outside a budget.

    :param entry: the fixed plan with its measured figures
    :param recording: gives the light of each moment
    :param table: variant_id -> condition -> accuracy
    :param limits: what is in force at each moment
    """
    bad = 0
    for frame in recording.frames:
        now = limits(frame.stamp_ns / NS)
        expected = table[entry.candidate.variant_id].get('scenes/' + frame.light_band)
        bad += (exceeds(entry.memory_bytes.mean, now.memory_bytes)
                or exceeds(entry.latency_s.p95, now.latency_s)
                or exceeds(now.accuracy, expected))
    return bad / max(1, len(recording.frames))


def best_static(front: Sequence[FrontEntry], run: Run, bundle: Bundle) -> List[Tuple[float, str]]:
    """Return (share outside a budget by the trace, candidate_id), the best first."""
    table = accuracy_table(bundle)
    limits = scenario_limits(run.recording, run.folder / 'scenario.yaml')
    assert limits is not None
    return sorted((static_ratio(e, run.recording, table, limits), e.candidate.candidate_id)
                  for e in front)


def phase_variants(run: Run) -> Dict[str, str]:
    """Return phase -> variant that answered most of its frames, switching time left out."""
    scenario = load_scenario(run.folder / 'scenario.yaml')
    start = origin_s(run.recording)
    votes: Dict[str, Counter[str]] = {}
    for answer in run.recording.answers:
        at_s = answer.stamp_ns / NS - start
        if scenario.phase_at(max(0.0, at_s - SETTLED_S)) == scenario.phase_at(at_s):
            votes.setdefault(scenario.phase_at(at_s).name, Counter())[answer.variant_id] += 1
    return {phase: count.most_common(1)[0][0] for phase, count in votes.items()}


def in_expected_order(run: Run, bundle: Bundle) -> bool:
    """Tell whether each phase ran a lighter variant, and the last put energy first."""
    macs = [bundle.macs(v) for v in phase_variants(run).values()]
    last = run.recording.decisions[-1]
    return (len(macs) >= 3 and all(a > b for a, b in zip(macs, macs[1:]))
            and last.weights.get('energy', 0.0) > last.weights.get('accuracy', 1.0))


def count_figures(run: Run) -> List[Figure]:
    """Return what the separate counter found."""
    frames = run.report['frames']
    spoiled = frames['lost'] + frames['duplicates'] + frames['unknown']
    how = '%d frames at 10 Hz, %d switches, counted by a separate process' % (
        frames['emitted'], frames['switches'])
    emitted = frames['emitted_ratio']
    all_there = emitted is not None and emitted >= ALL_EMITTED_RATIO
    return [
        claim('frames_lost', frames['lost'], 0, better=LOWER, also=spoiled == 0 and all_there,
              how=how + '; doubled %d, unknown %d; holds with frames_emitted_ratio >= %g only' % (
                  frames['duplicates'], frames['unknown'], ALL_EMITTED_RATIO)),
        inform('frames_emitted_ratio', emitted, better=HIGHER, how='frames that the camera '
               'emitted over length times rate: frames that it skipped show here'),
        claim('late_ratio', frames['late_ratio'], 0.01, better=LOWER, how='answers older than two '
              'frame periods; superseded %d' % frames['superseded']),
        claim('switch_gap_frames_max', frames['switch_gap_frames_max'], 1, better=LOWER,
              how='frames in a row without an answer of their own within 1 s of a switch')]


def adaptation_figures(run: Run, statics: Sequence[Tuple[str, float]], bundle: Bundle
                       ) -> List[Figure]:
    """
    Return what adapting is worth.

    :param statics: (candidate_id, share outside a budget or the floor) of real fixed runs
    """
    wrong = run.report['violations']
    own = wrong['ratio']
    name, best = min(statics, key=lambda s: s[1])
    floor = 1.0 / max(1, wrong['frames'])
    phases = phase_variants(run)
    return [
        claim('plans_distinct', run.report['plans_distinct'], 3, better=HIGHER,
              also=in_expected_order(run, bundle), how='expected: lighter from phase to phase, '
              'energy first at the end; ran %s' % ', '.join('%s: %s' % p for p in phases.items())),
        claim('budget_violation_ratio', own, 0.05, better=LOWER, how='%d of %d answers: memory '
              '%d, latency %d, accuracy %d' % tuple(wrong[k] for k in (
                  'violating', 'frames', 'memory', 'latency', 'accuracy'))),
        claim('best_static_violations_ratio', best / max(own, floor), 3.0, better=HIGHER,
              how='best fixed plan %s, really run on the same seed: %.4f; adaptive %.4f%s' % (
                  name, best, own, ' (counted as one frame)' if own < floor else '')),
        *(inform('static_violation_ratio/' + name, share, how='a fixed plan, really run')
          for name, share in statics)]


def demo_figures(bundle_name: str, folder: Path, *, quick: bool) -> List[Figure]:
    """Run the adaptive demo and the best fixed plans and return all their figures."""
    bundle = open_bundle(bundle_name)
    front = prepare(bundle, live=False).front
    seconds = QUICK_SECONDS if quick else SECONDS
    adaptive = run_demo(folder / 'adaptive', seconds)
    by_trace = best_static(front, adaptive, bundle)
    statics = []
    for number, (_, name) in enumerate(by_trace[:1 if quick else STATIC_RUNS]):
        fixed = run_demo(folder / ('static-%d' % (number + 1)), seconds, pinned=name)
        statics.append((name, float(fixed.report['violations']['ratio'])))
    figures = [*count_figures(adaptive), *adaptation_figures(adaptive, statics, bundle)]
    return [*figures, *(inform('static_by_trace/' + name, share, how='share of frames outside a '
                               'budget or the floor, by the recorded trace')
                        for share, name in by_trace)]
