# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""After a run of several robots: one report, with a section a robot and what they are together."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli.outcome import (
    accuracy_table,
    report_on,
    rich_to_lean,
    scenario_limits,
    scenario_start_s,
    summary_lines,
)
from crowdhmt_ros.cli.pair_run import PairRun
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.cli.robot_run import RunSettings
from crowdhmt_ros.report.pair import PhaseAt, pair_figures, phase_rows
from crowdhmt_ros.report.recording import NS, Recording, read_recording
from crowdhmt_ros.report.summary import origin_s
from crowdhmt_ros.report.write import write_pair_report


def scenario_phases(recording: Recording, scenario_file: Path) -> Optional[PhaseAt]:
    """
    Return which phase of a campus scenario holds when.

    :param recording: with the source's log
    :param scenario_file: as it was played; None is returned where there is none
    """
    if not scenario_file.is_file() or not recording.frames:
        return None
    scenario = load_scenario(scenario_file)
    start_s = scenario_start_s(recording, scenario)
    return lambda stamp_s: scenario.phase_at(stamp_s - start_s).name


def read_robot(settings: RunSettings) -> Recording:
    """
    Read what one robot has left behind.

    :raises CrowdHMTError: when there is nothing
    """
    if not settings.events.is_file():
        raise ProcessError('nothing was recorded of %s: see %s' % (
            settings.robot, settings.out / 'logs'))
    return read_recording(settings.events,
                          settings.frames if settings.frames.is_file() else None)


def pair_report(pair: PairRun, *, bundle: Optional[Bundle],
                about: Mapping[str, Any]) -> Dict[str, Any]:
    """
    Read a run and sum it up; all robots have one time 0.

    :raises CrowdHMTError: when a recording cannot be read
    """
    recordings = {name: read_robot(robot.settings) for name, robot in pair.robots.items()}
    start_s = min(origin_s(recording) for recording in recordings.values())
    robots: Dict[str, Dict[str, Any]] = {}
    for name, recording in recordings.items():
        settings = pair.robots[name].settings
        common = replace(recording, start_s=start_s)
        robots[name] = robot_report(common, settings, bundle)
    return {'format': 'crowdhmt-report', 'format_version': 1, 'about': dict(about),
            'robots': robots, 'pair': pair_figures(robots)}


def robot_report(recording: Recording, settings: RunSettings,
                 bundle: Optional[Bundle]) -> Dict[str, Any]:
    """Return the section of one robot."""
    scenario_file = settings.out / 'scenario.yaml'
    report = report_on(recording, settings.events, settings.frames, bundle=bundle,
                       about={'robot': settings.robot})
    phase_at = scenario_phases(recording, scenario_file)
    report['phases'] = phase_rows(
        recording, phase_at, accuracy=accuracy_table(bundle),
        limits=scenario_limits(recording, scenario_file)) if phase_at else {}
    report['first_frame_s'] = recording.frames[0].stamp_ns / NS if recording.frames else None
    return report


def percent(value: Optional[float]) -> str:
    """Return a ratio as text."""
    return 'unknown' if value is None else '%.1f %%' % (100 * value)


def pair_lines(report: Mapping[str, Any], ended: Sequence[Ended]) -> List[str]:
    """Return what to print after a run of several robots."""
    lines: List[str] = []
    for name, own in report['robots'].items():
        lines += ['%s: %s' % (name, line) for line in summary_lines(own, ())]
    pair = report['pair']
    lines.append('%s, frames that %s answered: %s; answers of a fallback: %s' % (
        pair['robot'], ' and '.join(pair['peers']) or 'no peer', ', '.join(
            '%s %s' % (phase, percent(ratio))
            for phase, ratio in pair['frames_offloaded_ratio'].items()) or 'no phases',
        percent(pair['degraded_ratio'])))
    lines.append('%s, placements in order: %s' % (
        pair['robot'], ' > '.join(pair['placements_in_order']) or 'none'))
    lines += ['process %s ended with exit code %d' % (e.name, e.code) for e in ended if e.crashed]
    return lines


def save_pair(report: Mapping[str, Any], folder: Path, bundle: Optional[Bundle]) -> None:
    """
    Write report.json and report.html.

    :raises ReportError: when they cannot be written
    """
    write_pair_report(report, folder, order=rich_to_lean(bundle))
