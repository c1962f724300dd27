# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded run: the recorder's JSON lines and the source's own log, as frozen values.

The recorder writes one JSON object a line: `topic` (relative name), `received_ns` (node clock)
and `message` (the ROS message as nested objects; null is unknown). The source log is a CSV file
with the header `stamp_ns,label,light_band`. A line that a crash cut short is skipped.
"""
from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from crowdhmt_ros.errors import SourceError

LOG = logging.getLogger(__name__)
NS = 1_000_000_000


@dataclass(frozen=True)
class SourceFrame:
    """One emitted frame, from the source's own log; the texts are empty without ground truth."""

    stamp_ns: int
    label: str = ''
    light_band: str = ''


@dataclass(frozen=True)
class Answer:
    """
    One message on `result`.

    :param stamp_ns: header stamp of the image
    :param latency_s: frame in memory to result, None when unknown
    """

    stamp_ns: int
    label: str
    score: float
    plan_seq: int
    variant_id: str
    exit_index: int
    degraded: bool
    latency_s: Optional[float]
    infer_s: Optional[float]


@dataclass(frozen=True)
class Decision:
    """One message on `plan`: what was chosen, what was asked for, what was known."""

    stamp_s: float
    plan_seq: int
    candidate_id: str
    variant_id: str
    threads: int
    memory_mode: str
    accuracy: Optional[float]
    latency_s: Optional[float]
    latency_p95_s: Optional[float]
    memory_bytes: Optional[float]
    energy_j: Optional[float]
    energy_source: str
    reason: str
    violated: Tuple[str, ...]
    weights: Mapping[str, float]
    latency_budget_s: Optional[float]
    memory_budget_bytes: Optional[float]
    accuracy_floor: Optional[float]
    battery_ratio: Optional[float]
    memory_allotted_bytes: Optional[float]
    condition: str


@dataclass(frozen=True)
class Window:
    """One message on `feedback`: about a second of measured answers."""

    stamp_s: float
    window_s: float
    plan_seq: int
    candidate_id: str
    answered_ns: Tuple[int, ...]
    capture_to_result_s: Tuple[float, ...]
    superseded_ns: Tuple[int, ...]
    late: int
    degraded: int
    energy_j: Optional[float]
    energy_source: str
    memory_bytes: Optional[float]
    condition: str


@dataclass(frozen=True)
class Sample:
    """One message on `resources`."""

    stamp_s: float
    battery_ratio: Optional[float]
    memory_allotted_bytes: Optional[float]
    memory_available_bytes: Optional[float]
    cpu_load_ratio: Optional[float]


@dataclass(frozen=True)
class Recording:
    """Everything that a run left behind, each list in the order of arrival."""

    frames: Tuple[SourceFrame, ...] = ()
    answers: Tuple[Answer, ...] = ()
    decisions: Tuple[Decision, ...] = ()
    windows: Tuple[Window, ...] = ()
    samples: Tuple[Sample, ...] = ()


Message = Mapping[str, Any]


def stamp_ns(time: Message) -> int:
    """Return nanoseconds of a builtin_interfaces/Time."""
    return int(time['sec']) * NS + int(time['nanosec'])


def known(value: Any) -> Optional[float]:
    """Return a finite number, or None: NaN and null are unknown."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def answer_of(message: Message) -> Answer:
    """Read one InferenceResult."""
    return Answer(
        stamp_ns=stamp_ns(message['header']['stamp']), label=str(message['label']),
        score=float(message['score']), plan_seq=int(message['plan_seq']),
        variant_id=str(message['variant_id']), exit_index=int(message['exit_index']),
        degraded=bool(message['degraded']), latency_s=known(message['capture_to_result_s']),
        infer_s=known(message['infer_s']))


def decision_of(message: Message) -> Decision:
    """Read one Plan."""
    choice, wish, seen = message['choice'], message['requirements'], message['snapshot']
    return Decision(
        stamp_s=stamp_ns(message['header']['stamp']) / NS, plan_seq=int(message['plan_seq']),
        candidate_id=str(choice['candidate_id']), variant_id=str(choice['variant_id']),
        threads=int(choice['threads']), memory_mode=str(choice['memory_mode']),
        accuracy=known(choice['accuracy']), latency_s=known(choice['latency_s']),
        latency_p95_s=known(choice['latency_p95_s']), memory_bytes=known(choice['memory_bytes']),
        energy_j=known(choice['energy_j']), energy_source=str(choice['energy_source']),
        reason=str(message['reason']), violated=tuple(message['violated']),
        weights=dict(zip(message['criteria'], message['weights'])),
        latency_budget_s=known(wish['latency_budget_s']),
        memory_budget_bytes=known(wish['memory_budget_bytes']),
        accuracy_floor=known(wish['accuracy_floor']),
        battery_ratio=known(seen['battery_ratio']),
        memory_allotted_bytes=known(seen['memory_allotted_bytes']),
        condition=str(message['state']['condition']))


def window_of(message: Message) -> Window:
    """Read one Feedback."""
    return Window(
        stamp_s=stamp_ns(message['header']['stamp']) / NS, window_s=float(message['window_s']),
        plan_seq=int(message['plan_seq']), candidate_id=str(message['candidate_id']),
        answered_ns=tuple(stamp_ns(t) for t in message['answered_stamps']),
        capture_to_result_s=tuple(float(v) for v in message['capture_to_result_s']),
        superseded_ns=tuple(stamp_ns(t) for t in message['superseded_stamps']),
        late=int(message['late']), degraded=int(message['degraded']),
        energy_j=known(message['energy_j']), energy_source=str(message['energy_source']),
        memory_bytes=known(message['memory_bytes']), condition=str(message['condition']))


def sample_of(message: Message) -> Sample:
    """Read one ResourceStatus."""
    return Sample(
        stamp_s=stamp_ns(message['header']['stamp']) / NS,
        battery_ratio=known(message['battery_ratio']),
        memory_allotted_bytes=known(message['memory_allotted_bytes']),
        memory_available_bytes=known(message['memory_available_bytes']),
        cpu_load_ratio=known(message['cpu_load_ratio']))


READERS = {'result': answer_of, 'plan': decision_of, 'feedback': window_of,
           'resources': sample_of}


def parse_line(line: str) -> Optional[Tuple[str, Any]]:
    """
    Read one line of the recorder.

    :returns: (topic's last name, its value), None for other topics and for a line cut short
    """
    try:
        entry = json.loads(line)
        name = str(entry['topic']).rsplit('/', 1)[-1]
        reader = READERS.get(name)
        return (name, reader(entry['message'])) if reader else None
    except (ValueError, KeyError, TypeError) as error:
        LOG.debug('skipped a line of the recording: %s', error)
        return None


def read_frames(path: Path) -> Tuple[SourceFrame, ...]:
    """
    Read the source's own log.

    :raises SourceError: when it is missing or has no `stamp_ns` column
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            rows = csv.DictReader(file)
            if 'stamp_ns' not in (rows.fieldnames or ()):
                raise SourceError('%s has no column stamp_ns: it is no source log' % path)
            return tuple(
                SourceFrame(int(row['stamp_ns']), row.get('label') or '',
                            row.get('light_band') or '')
                for row in rows if (row['stamp_ns'] or '').isdigit())
    except OSError as error:
        raise SourceError('the source log %s cannot be read: %s' % (path, error)) from error


def read_events(path: Path) -> Iterator[Tuple[str, Any]]:
    """
    Yield (topic's last name, value) of each line of a recording.

    :raises SourceError: when the file cannot be read
    """
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            for line in file:
                event = parse_line(line)
                if event:
                    yield event
    except OSError as error:
        raise SourceError('the recording %s cannot be read: %s' % (path, error)) from error


def read_recording(events: Path, frames: Optional[Path] = None) -> Recording:
    """
    Read a whole run.

    :param events: the recorder's JSON lines
    :param frames: the source's own log, None where the source keeps none
    :raises SourceError: when a file cannot be read
    """
    found: Dict[str, List[Any]] = {name: [] for name in READERS}
    for name, value in read_events(events):
        found[name].append(value)
    return Recording(
        frames=read_frames(frames) if frames else (),
        answers=tuple(found['result']), decisions=tuple(found['plan']),
        windows=tuple(found['feedback']), samples=tuple(found['resources']))
