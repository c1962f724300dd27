# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded run: the recorder's JSON lines and the source's own log, as frozen values.

The recorder writes one JSON object a line: `topic` (relative name), `received_ns` (node clock)
and `message` (the ROS message as nested objects; null is unknown). The source log is a CSV file
with the header `stamp_ns,label,light_band,area_ratio`. A line that a crash cut short is skipped.
What an older recording does not hold reads as on a robot without peers.
"""
from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import SourceError

LOG = logging.getLogger(__name__)
NS = 1_000_000_000
LOCAL = 'local'


@dataclass(frozen=True)
class SourceFrame:
    """
    One emitted frame, from the source's own log; the texts are empty without ground truth.

    :param area_ratio: share of the picture that the object's box fills, None when unknown
    """

    stamp_ns: int
    label: str = ''
    light_band: str = ''
    area_ratio: Optional[float] = None


@dataclass(frozen=True)
class Answer:
    """
    One message on `result`.

    :param stamp_ns: header stamp of the image
    :param latency_s: frame in memory to result, None when unknown
    :param placement: 'local', or the devices in order joined by '>'
    :param offload_s: crossing and remote time, None when none was spent
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
    placement: str = LOCAL
    offload_s: Optional[float] = None

    @property
    def offloaded(self) -> bool:
        """Whether a peer has answered it, in whole or in part."""
        return self.placement != LOCAL and not self.degraded


@dataclass(frozen=True)
class Link:
    """What a robot knew of one peer and of the way to it; None is unknown."""

    robot_id: str
    age_s: Optional[float]
    round_trip_s: Optional[float]
    bandwidth_bytes_per_s: Optional[float]
    failures: int


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
    placement: str = LOCAL
    codec: str = ''
    links: Tuple[Link, ...] = ()


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
    sent_bytes: int = 0
    received_bytes: int = 0
    links: Tuple[Link, ...] = ()


@dataclass(frozen=True)
class ObstacleEvent:
    """
    One message on `obstacle_near`.

    :param stamp_ns: header stamp of the image
    :param near: false when the view is free again
    :param area_ratio: share of the view that it is thought to fill, None when unknown
    :param received_ns: when the recorder got it, on the node clock
    """

    stamp_ns: int
    near: bool
    label: str
    score: float
    area_ratio: Optional[float]
    capture_to_event_s: Optional[float]
    received_ns: int = 0


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
    """
    Everything that a run left behind, each list in the order of arrival.

    :param start_s: time 0 on the node clock where it is not that of the first frame
    """

    frames: Tuple[SourceFrame, ...] = ()
    answers: Tuple[Answer, ...] = ()
    decisions: Tuple[Decision, ...] = ()
    windows: Tuple[Window, ...] = ()
    samples: Tuple[Sample, ...] = ()
    obstacles: Tuple[ObstacleEvent, ...] = ()
    start_s: Optional[float] = None


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
        infer_s=known(message['infer_s']), placement=str(message.get('placement') or LOCAL),
        offload_s=known(message.get('offload_s')))


def links_of(peers: Sequence[Message]) -> Tuple[Link, ...]:
    """Read PeerStatus messages."""
    return tuple(Link(
        robot_id=str(peer['robot_id']), age_s=known(peer['age_s']),
        round_trip_s=known(peer['link_round_trip_s']),
        bandwidth_bytes_per_s=known(peer['link_bandwidth_bytes_per_s']),
        failures=int(peer['failures'])) for peer in peers)


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
        condition=str(message['state']['condition']),
        placement='>'.join(choice.get('segment_devices') or ()) or LOCAL,
        codec=next((c for c in choice.get('segment_codecs') or () if c != 'none'), ''),
        links=links_of(message.get('peers') or ()))


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
        memory_bytes=known(message['memory_bytes']), condition=str(message['condition']),
        sent_bytes=int(message.get('sent_bytes') or 0),
        received_bytes=int(message.get('received_bytes') or 0),
        links=links_of(message.get('peers') or ()))


def obstacle_of(message: Message) -> ObstacleEvent:
    """Read one ObstacleNear."""
    return ObstacleEvent(
        stamp_ns=stamp_ns(message['header']['stamp']), near=bool(message['near']),
        label=str(message['label']), score=float(message['score']),
        area_ratio=known(message['area_ratio']),
        capture_to_event_s=known(message['capture_to_event_s']))


def sample_of(message: Message) -> Sample:
    """Read one ResourceStatus."""
    return Sample(
        stamp_s=stamp_ns(message['header']['stamp']) / NS,
        battery_ratio=known(message['battery_ratio']),
        memory_allotted_bytes=known(message['memory_allotted_bytes']),
        memory_available_bytes=known(message['memory_available_bytes']),
        cpu_load_ratio=known(message['cpu_load_ratio']))


READERS = {'result': answer_of, 'plan': decision_of, 'feedback': window_of,
           'resources': sample_of, 'obstacle_near': obstacle_of}


def parse_line(line: str) -> Optional[Tuple[str, Any]]:
    """
    Read one line of the recorder.

    :returns: (topic's last name, its value), None for other topics and for a line cut short
    """
    try:
        entry = json.loads(line)
        name = str(entry['topic']).rsplit('/', 1)[-1]
        reader = READERS.get(name)
        if reader is None:
            return None
        value = reader(entry['message'])
        if isinstance(value, ObstacleEvent):
            value = replace(value, received_ns=int(entry.get('received_ns') or 0))
        return name, value
    except (ValueError, KeyError, TypeError) as error:
        LOG.debug('skipped a line of the recording: %s', error)
        return None


def area_of(text: Optional[str]) -> Optional[float]:
    """Read a share of the picture, None where there is none."""
    try:
        return known(float(text)) if text else None
    except ValueError:
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
                            row.get('light_band') or '', area_of(row.get('area_ratio')))
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
        windows=tuple(found['feedback']), samples=tuple(found['resources']),
        obstacles=tuple(found['obstacle_near']))
