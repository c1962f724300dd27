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
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Deque, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.types import ESTIMATED, NO_READING, Feedback, Inference, Reading


@dataclass(frozen=True)
class WindowReport:
    """
    One closed window.

    :param feedback: for the planner
    :param answered_stamps_ns: header stamps of the answered frames, in order of completion
    """

    feedback: Feedback
    answered_stamps_ns: Tuple[int, ...]


@dataclass
class _Open:
    """The window that is being filled."""

    plan_seq: int
    candidate_id: str
    started_s: float
    answered: List[Tuple[int, float, float, Inference]] = field(default_factory=list)
    luminances: List[float] = field(default_factory=list)
    memory: Reading = NO_READING
    superseded: List[int] = field(default_factory=list)
    domain: str = ''
    late: int = 0

    @property
    def empty(self) -> bool:
        return not self.answered and not self.superseded

    @property
    def luminance(self) -> Optional[float]:
        """Mean over the answered frames, None without one."""
        return sum(self.luminances) / len(self.luminances) if self.luminances else None

    def note_memory(self, memory: Reading) -> None:
        """Keep the largest figure."""
        if memory.value is not None and (
                self.memory.value is None or memory.value >= self.memory.value):
            self.memory = memory


@dataclass(frozen=True)
class _Closed:
    """A window that ended: at which moment of the monotonic clock, and what it showed."""

    window: _Open
    ended_s: float
    condition: str
    luminance: Optional[float]


MEMORY_S = 10.0
"""The darkest window of so many seconds tells the light."""
BORDER_MARGIN = 0.04
"""So much above its border a lighter band begins: on the border the darker one is reported."""
HOLD_S = 1.5
"""Three windows of a second, from the end of the first to the end of the third."""


class ConditionRule:
    """
    Names the condition of images as the accuracy tables do.

    The light changes over minutes, the brightness of a view with everything that passes by. And
    brightness alone cannot tell noon from afternoon: on the campus film their middle halves
    overlap (0.55..0.61 and 0.48..0.58 of white). So the rule errs to the darker side, where
    accuracy is lower: the darkest window of the last `MEMORY_S` counts, on a border the darker
    band, and another condition is reported when it has held for three windows.

    Measured with the bands of campus7 on the film of a minute, seeds 1, 2, 3, 4, 7, 11: right
    or darker than the truth in 90 to 100 % of the seconds (bare brightness: 63 to 87 %), right
    in 45 to 82 %, one to four changes a minute (bare: 6 to 14). A noon is often called an
    afternoon, an afternoon rarely a noon.

    :param bands: name -> (lowest, highest) mean brightness of rendered scenes
    :param fixed: condition to report whatever comes, '' to decide by the images
    """

    def __init__(self, bands: Mapping[str, Tuple[float, float]], fixed: str = '') -> None:
        self._bands = sorted((band[0], name) for name, band in bands.items())
        self._fixed = fixed
        self._seen: Deque[Tuple[float, float]] = deque()
        self._band = self._next = ''
        self._next_since_s = 0.0

    def name(self, domain: str, luminance: Optional[float], *, at_s: float) -> str:
        """
        Return 'scenes/noon', 'photos', ... or '' where nothing can be said.

        To be called once for each window, in order.

        :param domain: of the frames: 'scenes' or 'photos'
        :param luminance: mean brightness 0..1 of the window's frames
        :param at_s: end of the window, monotonic clock
        """
        if self._fixed:
            return self._fixed
        if domain != 'scenes':
            self._seen.clear()
            self._band = ''
            return domain
        if luminance is None or not self._bands:
            return ''
        self._note(luminance, at_s)
        return f'scenes/{self._band}'

    def _note(self, luminance: float, at_s: float) -> None:
        self._seen.append((at_s, luminance))
        while self._seen[0][0] <= at_s - MEMORY_S:
            self._seen.popleft()
        told = self._darker_band(min(seen for _, seen in self._seen))
        if told != self._next:
            self._next, self._next_since_s = told, at_s
        if not self._band or at_s - self._next_since_s >= HOLD_S:
            self._band = told

    def _darker_band(self, luminance: float) -> str:
        lighter = [name for low, name in self._bands[1:] if luminance >= low + BORDER_MARGIN]
        return lighter[-1] if lighter else self._bands[0][1]


class FeedbackWindow:
    """
    Fills and closes windows. All methods may be called from any thread.

    :param condition: names the condition of a window's images
    :param energy_j_of: candidate_id -> predicted energy of one frame, None where unknown
    :param memory_bytes: what all resident executables take; asked at the first answered frame
        of a window and at its end, which reports the more; unknown where no frame was answered
    """

    def __init__(self, condition: ConditionRule, *,
                 energy_j_of: Callable[[str], Optional[float]] = lambda candidate_id: None,
                 memory_bytes: Callable[[], Reading] = lambda: NO_READING,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._condition = condition
        self._energy_j_of = energy_j_of
        self._memory_bytes = memory_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open = _Open(0, '', monotonic())
        self._closed: List[_Closed] = []
        self._failed: Dict[str, Tuple[int, float]] = {}  # candidate_id -> plan_seq, when

    def answered(self, inference: Inference, *, stamp_ns: int, capture_to_result_s: float,
                 queue_s: float, late: bool = False, domain: str = '',
                 luminance: Optional[float] = None) -> None:
        """Add one answered frame."""
        with self._lock:
            window = self._window(inference.plan_seq, inference.candidate_id)
            if not window.answered:
                window.note_memory(self._memory_bytes())
            window.answered.append((stamp_ns, capture_to_result_s, queue_s, inference))
            window.late += late
            window.domain = domain
            if luminance is not None:
                window.luminances.append(luminance)

    def superseded(self, stamp_ns: int) -> None:
        """Add one frame that is not going to be computed."""
        with self._lock:
            self._open.superseded.append(stamp_ns)

    def failed(self, candidate_id: str, plan_seq: int) -> None:
        """Note that a plan names a candidate that cannot be made ready; once a flush is told."""
        with self._lock:
            self._failed[candidate_id] = (plan_seq, self._monotonic())

    @property
    def age_s(self) -> float:
        """Seconds since the window began that holds what is not reported yet, 0 without."""
        with self._lock:
            if self._closed:
                return self._monotonic() - self._closed[0].window.started_s
            return 0.0 if self._open.empty else self._monotonic() - self._open.started_s

    def flush(self, now_s: float) -> Tuple[WindowReport, ...]:
        """
        Close the window and return all closed ones since the last call, empty ones left out.

        Each is stamped with the moment at which it ended, which may be before now. Behind them
        come empty ones for candidates that could not be made ready.

        :param now_s: node clock
        """
        with self._lock:
            self._close()
            closed, self._closed = self._closed, []
            failed, self._failed = self._failed, {}
            now = self._monotonic()
        windows = tuple(self._report(one, now_s - max(0.0, now - one.ended_s)) for one in closed)
        return windows + tuple(
            WindowReport(Feedback(seq, name, now_s - max(0.0, now - at_s), 0.0, failed=True), ())
            for name, (seq, at_s) in failed.items())

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
            luminance, condition = window.luminance, ''
            if window.answered:
                window.note_memory(self._memory_bytes())
                condition = self._condition.name(window.domain, luminance, at_s=now)
            self._closed.append(_Closed(window, now, condition, luminance))
        self._open = _Open(window.plan_seq, window.candidate_id, now)

    def _report(self, closed: _Closed, stamp_s: float) -> WindowReport:
        window, luminance = closed.window, closed.luminance
        rows = window.answered
        crossings = [row[3].crossing for row in rows if row[3].crossing is not None]
        feedback = Feedback(
            plan_seq=window.plan_seq, candidate_id=window.candidate_id, stamp_s=stamp_s,
            window_s=closed.ended_s - window.started_s,
            capture_to_result_s=tuple(row[1] for row in rows),
            queue_s=tuple(row[2] for row in rows),
            preprocess_s=tuple(row[3].preprocess_s for row in rows),
            infer_s=tuple(row[3].infer_s for row in rows),
            exit_index=tuple(row[3].exit_index for row in rows),
            confidence=tuple(max(row[3].scores) for row in rows),
            superseded_stamps_ns=tuple(window.superseded), late=window.late,
            energy_j=self._energy(window), memory_bytes=window.memory,
            condition=closed.condition,
            luminance_ratio=NO_READING if luminance is None else Reading(luminance),
            offload_s=tuple(row[3].offload_s for row in rows),
            encode_s=tuple(c.encode_s for c in crossings),
            link_s=tuple(c.link_s for c in crossings),
            remote_queue_s=tuple(c.remote_queue_s for c in crossings),
            remote_infer_s=tuple(c.remote_infer_s for c in crossings),
            degraded=sum(1 for row in rows if row[3].degraded),
            sent_bytes=sum(c.sent_bytes for c in crossings),
            received_bytes=sum(c.received_bytes for c in crossings))
        return WindowReport(feedback, tuple(row[0] for row in rows))

    def _energy(self, window: _Open) -> Reading:
        """Return what the answers took, fallbacks included; unknown where a part of it is."""
        parts = [self._energy_j_of(window.candidate_id)] * len(window.answered)
        parts += [self._energy_j_of(row[3].fallback_id)
                  for row in window.answered if row[3].fallback_id]
        known = [part for part in parts if part is not None]
        complete = bool(parts) and len(known) == len(parts)
        return Reading(sum(known), ESTIMATED) if complete else NO_READING
