# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a running robot shows at a glance, kept up to date from the recorder's file."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional, Tuple

from crowdhmt_ros.report.page import short_plan
from crowdhmt_ros.report.recording import (
    LOCAL,
    NS,
    Answer,
    Decision,
    Link,
    Sample,
    SourceFrame,
    Window,
    parse_line,
)
from crowdhmt_ros.report.summary import percentile

RECENT = 50
SETTLED_S = 2.0
MB = 1e6


class Tail:
    """
    Reads the lines that a growing file has gained; a half-written last line is kept for later.

    :param path: may not exist yet
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b''

    def lines(self) -> List[str]:
        """Return the complete lines since the last call."""
        try:
            with open(self._path, 'rb') as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b'\n')
        return [line.decode('utf-8', 'replace') for line in whole]


def parse_frame(line: str) -> Optional[SourceFrame]:
    """Read one line of the source log; None for its header."""
    stamp, label, light_band = (line.strip().split(',') + ['', ''])[:3]
    return SourceFrame(int(stamp), label, light_band) if stamp.isdigit() else None


@dataclass(frozen=True)
class View:
    """One glance; None is unknown."""

    time_s: float
    battery_ratio: Optional[float]
    memory_bytes: Optional[float]
    allotted_bytes: Optional[float]
    plan: str
    reason: str
    violated: Tuple[str, ...]
    latency_p95_s: Optional[float]
    latency_budget_s: Optional[float]
    rate_hz: Optional[float]
    answered: int
    lost: int
    superseded: int
    late: int
    degraded: int
    light_band: str
    accuracy_ratio: Optional[float]
    accuracy_floor: Optional[float]
    placement: str = LOCAL
    offloaded_ratio: float = 0.0
    degraded_ratio: float = 0.0
    links: Tuple[Link, ...] = ()
    near: str = ''


class Board:
    """
    Takes what was recorded and keeps the present.

    :param events: the recorder's file
    :param frames: the source log, None where the source keeps none
    :ivar unanswered: frames that came since the newest answer
    """

    def __init__(self, events: Path, frames: Optional[Path] = None) -> None:
        self._events = Tail(events)
        self._frames = Tail(frames) if frames else None
        self._waiting: Dict[int, SourceFrame] = {}
        self._unclaimed: Dict[int, Answer] = {}
        self._hits: Deque[bool] = deque(maxlen=RECENT)
        self._recent: Deque[Answer] = deque(maxlen=RECENT)
        self._first_ns: Optional[int] = None
        self._last_ns = 0
        self._light_band = ''
        self.decision: Optional[Decision] = None
        self.sample: Optional[Sample] = None
        self.window: Optional[Window] = None
        self._near = ''
        self.answered = self.superseded = self.late = self.degraded = self.offloaded = 0
        self.unanswered = 0

    def update(self) -> bool:
        """Read what is new; True when there was anything."""
        frames = [parse_frame(line) for line in self._frames.lines()] if self._frames else []
        for frame in frames:
            if frame:
                self._take_frame(frame)
        events = [parse_line(line) for line in self._events.lines()]
        for event in events:
            if event:
                self._take(*event)
        return bool(frames or events)

    def _take_frame(self, frame: SourceFrame) -> None:
        self._first_ns = self._first_ns or frame.stamp_ns
        self._last_ns = max(self._last_ns, frame.stamp_ns)
        self._light_band = frame.light_band or self._light_band
        answer = self._unclaimed.pop(frame.stamp_ns, None)
        if answer:
            self._judge(frame, answer)
        else:
            self._waiting[frame.stamp_ns] = frame
            self.unanswered += 1

    def _judge(self, frame: SourceFrame, answer: Answer) -> None:
        if frame.label:
            self._hits.append(frame.label == answer.label)

    def _take(self, name: str, value: Any) -> None:
        if name == 'plan':
            self.decision = value
        elif name == 'resources':
            self.sample = value
        elif name == 'feedback':
            self.window = value
            self.superseded += len(value.superseded_ns)
            self.late += value.late
            for stamp in value.superseded_ns:
                self._waiting.pop(stamp, None)
        elif name == 'obstacle_near':
            self._near = value.label if value.near else ''
        else:
            self._take_answer(value)

    def _take_answer(self, answer: Answer) -> None:
        self.answered += 1
        self.unanswered = 0
        self.degraded += answer.degraded
        self.offloaded += answer.offloaded
        self._recent.append(answer)
        self._first_ns = self._first_ns or answer.stamp_ns
        self._last_ns = max(self._last_ns, answer.stamp_ns)
        frame = self._waiting.pop(answer.stamp_ns, None)
        if frame:
            self._judge(frame, answer)
        elif self._frames:
            self._unclaimed[answer.stamp_ns] = answer

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the newest frame seen, 0 before the first."""
        return self._last_ns

    @property
    def elapsed_s(self) -> float:
        """Seconds between the first and the last frame seen."""
        return (self._last_ns - self._first_ns) / NS if self._first_ns else 0.0

    def view(self) -> View:
        """Return the present at a glance."""
        plan, window, sample = self.decision, self.window, self.sample
        latencies = [a.latency_s for a in self._recent if a.latency_s is not None][-20:]
        span_s = (self._recent[-1].stamp_ns - self._recent[0].stamp_ns) / NS if self._recent else 0
        settled = self._last_ns - SETTLED_S * NS
        return View(
            time_s=self.elapsed_s, battery_ratio=sample.battery_ratio if sample else None,
            memory_bytes=window.memory_bytes if window else None,
            allotted_bytes=sample.memory_allotted_bytes if sample else None,
            plan=short_plan(plan.candidate_id) if plan else 'none yet',
            reason=plan.reason if plan else '', violated=plan.violated if plan else (),
            latency_p95_s=percentile(latencies, 0.95) if latencies else None,
            latency_budget_s=plan.latency_budget_s if plan else None,
            rate_hz=(len(self._recent) - 1) / span_s if span_s > 0 else None,
            answered=self.answered, lost=sum(1 for s in self._waiting if s < settled),
            superseded=self.superseded, late=self.late, degraded=self.degraded,
            light_band=self._light_band,
            accuracy_ratio=sum(self._hits) / len(self._hits) if self._hits else None,
            accuracy_floor=plan.accuracy_floor if plan else None,
            placement=plan.placement if plan else LOCAL,
            offloaded_ratio=self.offloaded / max(1, self.answered),
            degraded_ratio=self.degraded / max(1, self.answered),
            links=window.links if window else (), near=self._near)
