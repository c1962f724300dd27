# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The world as a camera: a FrameSource that paces itself on the clock it is given.

The next frame is painted before its time comes, so that it lies in memory when it is due. A camera
does not queue: frame times that passed while nobody read are left out and counted.
"""
from __future__ import annotations

import math
import threading
import time
from typing import Callable, Optional, Tuple

from crowdhmt_ros.campus.paint import Image
from crowdhmt_ros.campus.scene import FRAME_HEIGHT, FRAME_WIDTH
from crowdhmt_ros.campus.world import Truth, World
from crowdhmt_ros.errors import SourceError
from crowdhmt_ros.types import FrameTruth
from crowdhmt_ros.vision.frame import SCENES, Frame

FRAME_ID = 'camera'
_POLL_S = 0.02
_NS = 1_000_000_000


class CampusSource:
    """Frames of a World, one each 1 / rate_hz, until the scenario ends."""

    def __init__(self, world: World, *, clock: Callable[[], int], rate_hz: Optional[float] = None,
                 start_ns: Optional[int] = None, loop: bool = False, frame_id: str = FRAME_ID,
                 size: Tuple[int, int] = (FRAME_WIDTH, FRAME_HEIGHT)) -> None:
        """
        Describe the camera; nothing runs before `open`.

        :param world: what it sees.
        :param clock: the node's clock in nanoseconds.
        :param rate_hz: frames per second; the scenario's when None, infinite for each frame time
            of the scenario as fast as frames are asked for.
        :param start_ns: the scenario's time 0 on that clock; the moment of `open` when None.
        :param loop: begin anew when the scenario ends.
        :param frame_id: coordinate frame of the camera.
        :param size: (width, height) in pixels.
        :raises SourceError: rate or size is not above 0.
        """
        scenario = world.scenario
        self._rate_hz = scenario.frame_rate_hz if rate_hz is None else rate_hz
        if not self._rate_hz > 0.0 or min(size) < 8:
            raise SourceError(f'a campus camera needs a rate above 0 Hz and at least 8x8 pixels, '
                              f'not {self._rate_hz} Hz and {size[0]}x{size[1]}')
        self._world, self._clock, self._loop = world, clock, loop
        self._start_ns, self._frame_id, self._size = start_ns, frame_id, size
        paced_hz = scenario.frame_rate_hz if math.isinf(self._rate_hz) else self._rate_hz
        self._step_ns = max(1, round(_NS / paced_hz))
        self._length = max(1, round(scenario.duration_s * paced_hz))
        self._tick = 0
        self._stopped = threading.Event()
        self._skipped = 0

    @property
    def rate_hz(self) -> float:
        """Frames per second that `read` paces itself to; infinite for unpaced."""
        return self._rate_hz

    @property
    def description(self) -> str:
        """One line for people."""
        return (f'campus {self._world.scenario.name}, {self._world.view}, '
                f'seed {self._world.seed}, {self._rate_hz:g} Hz')

    @property
    def skipped_frames(self) -> int:
        """Frame times that passed while nobody read."""
        return self._skipped

    def open(self) -> None:
        """Start the film, unless its start was given."""
        if self._start_ns is None:
            self._start_ns = self._clock()
        self._stopped.clear()

    def read(self) -> Optional[Frame]:
        """
        Next frame, at its time on the clock; None once the scenario has ended or after `close`.

        :raises SourceError: `open` was not called.
        """
        if self._start_ns is None:
            raise SourceError('the campus camera is not open: call open() first')
        paced = not math.isinf(self._rate_hz)
        if paced:
            self._skip_missed(self._start_ns)
        if self._stopped.is_set() or (not self._loop and self._tick >= self._length):
            return None
        tick = self._tick
        self._tick += 1
        t_s = (tick % self._length) * self._step_ns / _NS
        image, truth = self._world.frame_at(t_s, *self._size)
        if paced and not self._wait_for(tick):
            return None
        return self._frame(image, truth, self._start_ns + tick * self._step_ns)

    def close(self) -> None:
        """Stop; a `read` that waits returns None."""
        self._stopped.set()

    def _frame(self, image: Image, truth: Truth, stamp_ns: int) -> Frame:
        # A stamp ahead of the clock would be of unknown age; a late one says how late.
        if math.isinf(self._rate_hz):
            stamp_ns = self._clock()
        return Frame(image=image, stamp_ns=stamp_ns, frame_id=self._frame_id,
                     received_s=time.monotonic(), domain=SCENES,
                     truth=FrameTruth(truth.label, truth.light_band, truth.box))

    def _skip_missed(self, start_ns: int) -> None:
        due = (self._clock() - start_ns) // self._step_ns
        if not self._loop:  # the scenario has no frames after its last
            due = min(due, self._length)
        if due > self._tick:
            self._skipped += due - self._tick
            self._tick = due

    def _wait_for(self, tick: int) -> bool:
        """Wait until a tick is due; False when closed. A clock set back restarts the schedule."""
        while not self._stopped.is_set():
            assert self._start_ns is not None
            ahead_ns = self._start_ns + tick * self._step_ns - self._clock()
            if ahead_ns <= 0:
                return True
            if ahead_ns > 2 * self._step_ns and tick > 0:
                self._start_ns -= ahead_ns
                return True
            self._stopped.wait(min(_POLL_S, ahead_ns / _NS))
        return False
