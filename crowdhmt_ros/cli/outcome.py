# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""After a run: count frames in a process apart, write the report, say what came of it."""
from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.bundle.reader import Bundle, open_bundle
from crowdhmt_ros.campus.scenario import Scenario, load_scenario
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.report.page import ALL_EMITTED_RATIO
from crowdhmt_ros.report.recording import NS, Recording, read_recording
from crowdhmt_ros.report.summary import summarise
from crowdhmt_ros.report.violations import Limits, LimitsAt
from crowdhmt_ros.report.write import write_report

COUNT_TIMEOUT_S = 120.0
LATE_START_S = 5.0


def machine() -> Dict[str, Any]:
    """Return what a reader of a figure wants to know of this machine."""
    import onnxruntime
    model = ''
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith(('model name', 'Hardware')):
                model = line.split(':', 1)[1].strip()
                break
    except OSError:
        model = platform.processor()
    return {'cpu': model or platform.machine(), 'cores': os.cpu_count(),
            'system': '%s %s' % (platform.system(), platform.release()),
            'python': platform.python_version(), 'onnxruntime': onnxruntime.__version__}


def count_apart(frames: Path, events: Path) -> Dict[str, Any]:
    """
    Count the frames of a run in a process that took no part in it.

    :raises ProcessError: when the counter fails
    """
    done = subprocess.run(
        [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'loss', str(frames), str(events)],
        capture_output=True, text=True, timeout=COUNT_TIMEOUT_S, check=False)
    if done.returncode not in (0, 1):
        raise ProcessError('frames cannot be counted: %s' % done.stderr.strip())
    counted: Dict[str, Any] = json.loads(done.stdout)
    return counted


def accuracy_table(bundle: Optional[Bundle]) -> Dict[str, Dict[str, float]]:
    """
    Return variant_id -> condition -> ratio from a bundle's manifest.

    What a crossing to a peer costs is in further rows, named variant_id:codec.
    """
    if bundle is None:
        return {}
    table = {variant: dict(bundle.accuracy(variant)) for variant in bundle.manifest.front}
    for crossing in bundle.crossings:
        row = {name: ratio - crossing.accuracy_drop
               for name, ratio in table.get(crossing.variant_id, {}).items()}
        held = table.setdefault('%s:%s' % (crossing.variant_id, crossing.codec), row)
        if held.get('scenes/noon', 1.0) > row.get('scenes/noon', 1.0):  # the worst of its cuts
            table['%s:%s' % (crossing.variant_id, crossing.codec)] = row
    return table


def scenario_limits(recording: Recording, scenario_file: Path) -> Optional[LimitsAt]:
    """
    Return what a campus scenario really allowed at each moment, not what the robot knew of it.

    :param recording: with the source's log; its last frame is the scenario's last
    :param scenario_file: as it was played; None is returned where there is none
    """
    if not scenario_file.is_file() or not recording.frames:
        return None
    scenario = load_scenario(scenario_file)
    start_s = scenario_start_s(recording, scenario)

    def at(stamp_s: float) -> Limits:
        phase = scenario.phase_at(stamp_s - start_s)
        return Limits(float(scenario.memory_bytes_at(stamp_s - start_s)), phase.latency_budget_s,
                      phase.accuracy_floor)

    return at


def scenario_start_s(recording: Recording, scenario: Scenario) -> float:
    """
    Return the node clock at time 0 of a scenario.

    :param recording: with the source's log, not empty; its last frame is the scenario's last
    """
    first_s, last_s = recording.frames[0].stamp_ns / NS, recording.frames[-1].stamp_ns / NS
    # A camera that started late has missed the first frames; one that was stopped, the last.
    length_s = scenario.duration_s - 1.0 / scenario.frame_rate_hz
    return last_s - length_s if length_s - (last_s - first_s) < LATE_START_S else first_s


def emitted_ratio(emitted: int, scenario_file: Path) -> Optional[float]:
    """Return frames emitted over those that the scenario asks for, None without a scenario."""
    if not scenario_file.is_file():
        return None
    scenario = load_scenario(scenario_file)
    return emitted / (scenario.duration_s * scenario.frame_rate_hz)


def make_report(events: Path, frames: Optional[Path], *, bundle: Optional[Bundle],
                about: Mapping[str, Any]) -> Tuple[Recording, Dict[str, Any]]:
    """
    Read a run and sum it up; the frames are counted in a separate process.

    :raises CrowdHMTError: when the recording cannot be read
    """
    recording = read_recording(events, frames if frames and frames.is_file() else None)
    return recording, report_on(recording, events, frames, bundle=bundle, about=about)


def report_on(recording: Recording, events: Path, frames: Optional[Path], *,
              bundle: Optional[Bundle], about: Mapping[str, Any]) -> Dict[str, Any]:
    """
    Sum up a run that was read already; the frames are counted in a separate process.

    :raises CrowdHMTError: when they cannot be counted
    """
    report = summarise(recording, accuracy=accuracy_table(bundle), about=about,
                       limits=scenario_limits(recording, events.with_name('scenario.yaml')))
    if recording.frames and frames:
        report['frames'] = dict(count_apart(frames, events), emitted_ratio=emitted_ratio(
            len(recording.frames), events.with_name('scenario.yaml')))
    return report


def rich_to_lean(bundle: Optional[Bundle]) -> List[str]:
    """Return all candidate ids, the richest variant first."""
    if bundle is None:
        return []
    return [c.candidate_id for c in bundle.candidates((1, 2, 3, 4, 8))]


def bundle_named(name: str) -> Bundle:
    """
    Open the bundle of a run.

    :raises BundleError: when it is damaged or there is none
    """
    return open_bundle(name or 'campus7')


def summary_lines(report: Mapping[str, Any], ended: Sequence[Ended]) -> List[str]:
    """Return what to print after a run."""
    frames, latency = report['frames'], report['latency']
    lines = ['%d answers in %.1f s' % (report['answers'], report['duration_s'])]
    if frames:
        asked = frames.get('emitted_ratio')
        lines.append('frames: %d emitted%s, %d answered, %d superseded, %d lost, %d doubled, '
                     '%d unknown; late %.1f %%; longest gap at a switch %d' % (
                         frames['emitted'], '' if asked is None or asked >= ALL_EMITTED_RATIO
                         else ' (only %.1f %% of the scenario)' % (100 * asked),
                         frames['answered'], frames['superseded'],
                         frames['lost'], frames['duplicates'], frames['unknown'],
                         100 * frames['late_ratio'], frames['switch_gap_frames_max']))
    if latency['p50_s'] is not None:
        lines.append('latency: median %.1f ms, 95th percentile %.1f ms' % (
            1e3 * latency['p50_s'], 1e3 * latency['p95_s']))
    if report['accuracy'].get('all'):
        lines.append('right answers: ' + ', '.join('%s %.1f %%' % (
            name, 100 * entry['ratio']) for name, entry in report['accuracy'].items()))
    lines.append('outside a budget or the floor: %.1f %% of the answers' % (
        100 * report['violations']['ratio']))
    lines.append('variants in order: %s' % (' > '.join(report['variants_in_order']) or 'none'))
    if report['energy']['total_j'] is not None:
        lines.append('energy of inference: %.3g J (%s)' % (
            report['energy']['total_j'], report['energy']['source']))
    lines += ['process %s ended with exit code %d' % (e.name, e.code) for e in ended if e.crashed]
    return lines


def save(report: Mapping[str, Any], folder: Path, bundle: Optional[Bundle]) -> None:
    """
    Write report.json and report.html.

    :raises ReportError: when they cannot be written
    """
    write_report(report, folder, order=rich_to_lean(bundle))
