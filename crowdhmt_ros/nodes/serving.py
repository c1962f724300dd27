# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The two threads of camera_inference, free of ROS: one reads a source, one answers frames.

Between them lies a slot for one frame: the latest wins, and what it replaces is reported. Every
frame that comes in is told exactly once, as answered or as superseded.
"""
from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import Callable, Optional, Protocol, TextIO

from crowdhmt_ros.errors import CrowdHMTError, SourceError
from crowdhmt_ros.types import Inference
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.slot import LatestSlot
from crowdhmt_ros.vision.sources import FrameSource

_log = logging.getLogger(__name__)
WORKER = 'inference'
"""Name of the thread that has frames answered."""
WAKE_S = 0.5
JOIN_S = 1.0
LONGEST_FRAME_S = 5.0
"""At the end the frame in work gets this long; then it is told as not computed."""
READY_POLL_S = 0.02
THROUGH_POLL_S = 0.001
ERROR_LOG_S = 5.0


class FrameAnswerer(Protocol):
    """What computes answers; `crowdhmt_ros.executor.Executor` is one."""

    def infer(self, frame: Frame) -> Inference:
        """Answer one frame."""


Answer = Callable[[Frame, Inference, float], None]
"""Publishes an answer: frame, inference, seconds that the frame waited."""


class Throttle:
    """Lets a repeated line through once per period."""

    def __init__(self, period_s: float = ERROR_LOG_S,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._monotonic = monotonic
        self._next_s = -float('inf')

    def ready(self) -> bool:
        """Whether the line may be said now."""
        now_s = self._monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True


class Server:
    """
    The worker: takes the latest frame, has it answered, hands the answer on.

    :param executor: computes answers
    :param answer: publishes one
    :param superseded: is told the stamp of each frame that will not be computed
    :param extras: publishes what goes with the answer that was just published
    """

    def __init__(self, executor: FrameAnswerer, answer: Answer,
                 superseded: Callable[[int], None], *,
                 extras: Callable[[Frame], None] = lambda frame: None) -> None:
        self._executor = executor
        self._answer = answer
        self._superseded = superseded
        self._extras = extras
        self._slot = LatestSlot()
        self._telling = threading.Lock()
        self._untold: Optional[Frame] = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=WORKER, daemon=True)
        self._throttle = Throttle()
        self.dead = False
        self.failed = 0
        self.failure = ''
        self.received = 0
        self.last_frame_s = time.monotonic()
        self._through: Optional[Frame] = None

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def offer(self, frame: Frame) -> None:
        """Take a frame in; the one that it replaces is reported as superseded."""
        self.received += 1
        self.last_frame_s = frame.received_s
        replaced = self._slot.put(frame)
        if replaced is not None:
            self._superseded(replaced.stamp_ns)

    def is_through(self, frame: Frame) -> bool:
        """Whether this frame, offered last, is answered or never will be."""
        return self._through is frame or self.dead or self._stopped

    def stop(self) -> None:
        """
        End after the frame in work; one that still waits is reported as superseded.

        So is the frame in work when it takes too long; nothing is published after this returns.
        """
        self._close_slot()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LONGEST_FRAME_S)
        with self._telling:
            self._stopped = True
            self._give_up()

    def _work(self) -> None:
        try:
            while not self._slot.closed:
                frame = self._slot.get(WAKE_S)
                if frame is not None:
                    self._serve(frame)
                    self._through = frame
        except Exception as error:
            self.dead = True
            self.failed += 1
            self.failure = f'no frame is answered any more: {type(error).__name__}: {error}'
            _log.error('%s', self.failure)
            raise
        finally:
            self._close_slot()
            with self._telling:
                self._give_up()

    def _serve(self, frame: Frame) -> None:
        self._untold = frame
        queue_s = time.monotonic() - frame.received_s
        try:
            inference = self._executor.infer(frame)
        except CrowdHMTError as error:
            self.failed += 1
            self.failure = str(error)
            with self._telling:
                self._give_up()
            if self._throttle.ready():
                _log.error('a frame could not be answered (%d so far): %s', self.failed, error)
            return
        with self._telling:
            if self._stopped:
                return
            self._answer(frame, inference, queue_s)
            self._untold = None
            self._extras(frame)

    def _close_slot(self) -> None:
        waiting = self._slot.close()
        if waiting is not None:
            self._superseded(waiting.stamp_ns)

    def _give_up(self) -> None:
        """Tell that the frame in work gets no answer, once; the lock is held."""
        frame, self._untold = self._untold, None
        if frame is not None:
            self._superseded(frame.stamp_ns)


class SourceThread:
    """
    Reads a source and hands each frame on, until it ends.

    :param source: opened already
    :param emit: takes each frame
    :param ready: asked until it is true before the first frame is read
    :param through: of a source as fast as it is read, asked until it is true of a frame before
        the next one is read
    """

    def __init__(self, source: FrameSource, emit: Callable[[Frame], None], *,
                 ready: Callable[[], bool] = lambda: True,
                 through: Callable[[Frame], bool] = lambda frame: True) -> None:
        self._source = source
        self._ready = ready
        self._through = through
        self._emit = emit
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name='source', daemon=True)
        self.ended = False
        self.read = 0
        self.failure = ''

    @property
    def skipped(self) -> int:
        """Frame times that passed while nobody read, of a source that counts them."""
        return int(getattr(self._source, 'skipped_frames', 0))

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; no frame is handed on after this returns."""
        if not self._stopping.is_set() and not self.ended:
            self._say('was stopped')
        self._stopping.set()
        self._source.close()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _read(self) -> None:
        in_step = math.isinf(self._source.rate_hz)
        try:
            while not self._ready() and not self._stopping.wait(READY_POLL_S):
                pass
            while not self._stopping.is_set():
                frame = self._source.read()
                if frame is None:
                    break
                if not self._stopping.is_set():
                    self.read += 1
                    self._emit(frame)
                while in_step and not self._through(frame) and not self._stopping.wait(
                        THROUGH_POLL_S):
                    pass
        except CrowdHMTError as error:
            self.failure = str(error)
            _log.error('%s', error)
        if not self._stopping.is_set():
            self.ended = True
            self._say('has ended')

    def _say(self, what: str) -> None:
        _log.info('the source %s: %s; %d frames read, %d frame times skipped', what,
                  self._source.description, self.read, self.skipped)


class SourceLog:
    """
    The source's own list of frames: one line each before anyone else sees the frame.

    :param path: CSV file, replaced
    :raises SourceError: it cannot be written
    """

    HEADER = 'stamp_ns,label,light_band,area_ratio\n'

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file: Optional[TextIO] = open(  # noqa: SIM115 (kept open, closed by `close`)
                path, 'w', encoding='ascii', buffering=1)
            self._file.write(self.HEADER)
        except OSError as error:
            raise SourceError(f'source_log {path} cannot be written: {error.strerror}') from error

    def write(self, frame: Frame) -> None:
        """Note one frame; a full disk ends the list with one line, not the frames."""
        truth = frame.truth
        if truth is None:
            self.note(frame.stamp_ns)
            return
        x0, y0, x1, y1 = truth.box or (0.0, 0.0, 0.0, 0.0)
        self.note(frame.stamp_ns, truth.label, truth.light_band, f'{(x1 - x0) * (y1 - y0):.4f}')

    def note(self, stamp_ns: int, label: str = '', light_band: str = '',
             area_ratio: str = '') -> None:
        """
        Note one frame of which little more than its stamp is known.

        :param area_ratio: share of the picture that the object's box fills, '' when unknown
        """
        if self._file is None:
            return
        try:
            self._file.write(f'{stamp_ns},{label},{light_band},{area_ratio}\n')
        except OSError as error:
            _log.error('source_log %s ends here: %s', self._path, error.strerror)
            self.close()

    def close(self) -> None:
        """Close the file."""
        held, self._file = self._file, None
        if held is not None:
            with contextlib.suppress(OSError):
                held.close()
