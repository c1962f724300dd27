# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Collects what was measured while one plan ran. Free of ROS.

A window ends about once a second and whenever another plan starts to answer, so that each
belongs to one plan and one candidate. Every frame is in exactly one window, once.
"""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Callable, List, Mapping, Optional, Tuple

from crowdhmt_ros.types import ESTIMATED, MEASURED, NO_READING, Feedback, Inference, Reading


@dataclass(frozen=True)
class WindowReport:
    """
    One closed window.

    :param feedback: for the planner
    :param answered_stamps_ns: header stamps of the answered frames, in order of completion
    :param degraded: frames answered by a fallback
    """

    feedback: Feedback
    answered_stamps_ns: Tuple[int, ...]
    degraded: int


@dataclass
class _Open:
    """The window that is being filled."""

    plan_seq: int
    candidate_id: str
    started_s: float
    answered: List[Tuple[int, float, float, Inference]] = field(default_factory=list)
    luminances: List[float] = field(default_factory=list)
    superseded: List[int] = field(default_factory=list)
    domain: str = ''
    late: int = 0

    @property
    def empty(self) -> bool:
        return not self.answered and not self.superseded


class ConditionRule:
    """
    Names the condition of images as the accuracy tables do.

    :param bands: name -> (lowest, highest) mean brightness of rendered scenes
    :param fixed: condition to report whatever comes, '' to decide by the images
    """

    def __init__(self, bands: Mapping[str, Tuple[float, float]], fixed: str = '') -> None:
        self._bands = dict(bands)
        self._fixed = fixed

    def name(self, domain: str, luminance: Optional[float]) -> str:
        """
        Return 'scenes/noon', 'photos', ... or '' where nothing can be said.

        :param domain: of the frames: 'scenes' or 'photos'
        :param luminance: mean brightness 0..1
        """
        if self._fixed or domain != 'scenes':
            return self._fixed or domain
        if luminance is None or not self._bands:
            return ''

        def distance(band: Tuple[float, float]) -> float:
            return max(band[0] - luminance, luminance - band[1], 0.0)

        nearest = min(self._bands, key=lambda name: distance(self._bands[name]))
        return f'scenes/{nearest}'


class FeedbackWindow:
    """
    Fills and closes windows. All methods may be called from any thread.

    :param condition: names the condition of a window's images
    :param energy_j_of: candidate_id -> predicted energy of one frame, None where unknown
    :param memory_bytes: what all resident executables take
    """

    def __init__(self, condition: ConditionRule, *,
                 energy_j_of: Callable[[str], Optional[float]] = lambda candidate_id: None,
                 memory_bytes: Callable[[], Optional[float]] = lambda: None,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._condition = condition
        self._energy_j_of = energy_j_of
        self._memory_bytes = memory_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open = _Open(0, '', monotonic())
        self._closed: List[Tuple[_Open, float]] = []

    def answered(self, inference: Inference, *, stamp_ns: int, capture_to_result_s: float,
                 queue_s: float, late: bool = False, domain: str = '',
                 luminance: Optional[float] = None) -> None:
        """Add one answered frame."""
        with self._lock:
            window = self._window(inference.plan_seq, inference.candidate_id)
            window.answered.append((stamp_ns, capture_to_result_s, queue_s, inference))
            window.late += late
            window.domain = domain
            if luminance is not None:
                window.luminances.append(luminance)

    def superseded(self, stamp_ns: int) -> None:
        """Add one frame that is not going to be computed."""
        with self._lock:
            self._open.superseded.append(stamp_ns)

    def flush(self, now_s: float) -> Tuple[WindowReport, ...]:
        """
        Close the window and return all closed ones since the last call, empty ones left out.

        :param now_s: node clock
        """
        with self._lock:
            self._close()
            closed, self._closed = self._closed, []
        return tuple(self._report(window, length_s, now_s) for window, length_s in closed)

    def _window(self, plan_seq: int, candidate_id: str) -> _Open:
        window = self._open
        if (window.plan_seq, window.candidate_id) != (plan_seq, candidate_id):
            if window.answered:
                self._close()
            self._open.plan_seq, self._open.candidate_id = plan_seq, candidate_id
        return self._open

    def _close(self) -> None:
        window, now = self._open, self._monotonic()
        if not window.empty:
            self._closed.append((window, now - window.started_s))
        self._open = _Open(window.plan_seq, window.candidate_id, now)

    def _report(self, window: _Open, length_s: float, now_s: float) -> WindowReport:
        rows = window.answered
        luminance = (sum(window.luminances) / len(window.luminances)
                     if window.luminances else None)
        each_j = self._energy_j_of(window.candidate_id)
        memory = self._memory_bytes()
        feedback = Feedback(
            plan_seq=window.plan_seq, candidate_id=window.candidate_id, stamp_s=now_s,
            window_s=length_s,
            capture_to_result_s=tuple(row[1] for row in rows),
            queue_s=tuple(row[2] for row in rows),
            preprocess_s=tuple(row[3].preprocess_s for row in rows),
            infer_s=tuple(row[3].infer_s for row in rows),
            exit_index=tuple(row[3].exit_index for row in rows),
            confidence=tuple(max(row[3].scores) for row in rows),
            superseded_stamps_ns=tuple(window.superseded), late=window.late,
            energy_j=NO_READING if each_j is None else Reading(each_j * len(rows), ESTIMATED),
            memory_bytes=NO_READING if memory is None else Reading(float(memory), MEASURED),
            condition=self._condition.name(window.domain, luminance) if rows else '',
            luminance_ratio=NO_READING if luminance is None else Reading(luminance))
        degraded = sum(1 for row in rows if row[3].degraded)
        return WindowReport(feedback, tuple(row[0] for row in rows), degraded)
