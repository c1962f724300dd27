# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Frames from a video file or a camera.

`read` paces itself on the monotonic clock and never tries to catch up: after a pause the
schedule starts anew. `close` may be called from another thread and ends a waiting `read`.
"""
from __future__ import annotations

import glob
import logging
import math
import os
import threading
import time
from typing import Any, Callable, Optional, Protocol, Tuple, Union

import cv2
import numpy as np

from crowdhmt_ros.errors import SourceError
from crowdhmt_ros.vision.frame import PHOTOS, Frame

Clock = Callable[[], int]
"""Node clock in nanoseconds."""

DEFAULT_RATE_HZ = 30.0
MAX_RATE_HZ = 1000.0
CAMERA_RETRIES = 10
_RETRY_S = 0.05
_log = logging.getLogger(__name__)


class FrameSource(Protocol):
    """Where frames come from."""

    @property
    def rate_hz(self) -> float:
        """Frames a second that `read` paces itself to; infinite for as fast as it can."""

    @property
    def description(self) -> str:
        """One line for people."""

    def open(self) -> None:
        """
        Get ready to read.

        :raises SourceError: when there is nothing to read, saying why
        """

    def read(self) -> Optional[Frame]:
        """
        Return the next frame when its time has come; None once the source has ended.

        :raises SourceError: when a source that should not end stopped
        """

    def close(self) -> None:
        """Release the device or file; a `read` that waits returns None. May be repeated."""


class Pacer:
    """
    Waits for the next frame time.

    :param rate_hz: frames a second, infinite for no waiting
    """

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._due_s: Optional[float] = None
        self._stopped = threading.Event()

    def wait(self) -> bool:
        """Return True at the next frame time, False as soon as `stop` is called."""
        now_s = time.monotonic()
        due_s = now_s if self._due_s is None else self._due_s
        if due_s > now_s:
            if self._stopped.wait(due_s - now_s):
                return False
            now_s = time.monotonic()
        # Lateness within one period is made up for; more would be a burst of old frames.
        self._due_s = max(due_s, now_s - self._period_s) + self._period_s
        return not self._stopped.is_set()

    def stop(self) -> None:
        """End waiting for good."""
        self._stopped.set()


class _Capture:
    """A cv2.VideoCapture that one thread may close while another reads."""

    def __init__(self, target: Union[str, int]) -> None:
        _silence_decoders()
        self._lock = threading.Lock()
        self._capture: Optional[Any] = cv2.VideoCapture(target)

    def is_open(self) -> bool:
        with self._lock:
            return self._capture is not None and bool(self._capture.isOpened())

    def property(self, key: int) -> float:
        with self._lock:
            return 0.0 if self._capture is None else float(self._capture.get(key))

    def set_property(self, key: int, value: float) -> None:
        with self._lock:
            if self._capture is not None:
                self._capture.set(key, value)

    def read(self) -> Optional[np.ndarray]:
        with self._lock:
            if self._capture is None:
                return None
            try:
                found, image = self._capture.read()
            except cv2.error:
                return None
        return image if found and image is not None and image.size else None

    def close(self) -> None:
        with self._lock:
            if self._capture is not None:
                self._capture.release()
                self._capture = None


def _silence_decoders() -> None:
    """Keep the decoder libraries from writing to the terminal; our one line says it."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    logging_module = getattr(getattr(cv2, 'utils', None), 'logging', cv2)
    if hasattr(logging_module, 'setLogLevel'):  # its place differs between releases
        logging_module.setLogLevel(0)


def _checked_rate(rate_hz: Optional[float], what: str) -> Optional[float]:
    if rate_hz is not None and not (rate_hz == math.inf or 0.0 < rate_hz <= MAX_RATE_HZ):
        raise SourceError('%s: the rate is %r Hz, it must lie above 0 and up to %g, or be '
                          'infinite' % (what, rate_hz, MAX_RATE_HZ))
    return rate_hz


class VideoSource:
    """
    A video file, every frame once, in its own rate or another.

    :param path: the file
    :param loop: start again at its end
    :param rate_hz: frames a second, None for the file's own, infinite for as fast as read
    :param clock: node clock, stamps the frames as they are handed out
    :param frame_id: coordinate frame of the camera
    :raises SourceError: for a rate that cannot be
    """

    def __init__(self, path: str, *, loop: bool = False, rate_hz: Optional[float] = None,
                 clock: Clock = time.time_ns, frame_id: str = 'camera') -> None:
        self.path = os.fspath(path)
        self.loop = loop
        self._clock = clock
        self._frame_id = frame_id
        self._asked_hz = _checked_rate(rate_hz, self.path)
        self._rate_hz = self._asked_hz or DEFAULT_RATE_HZ
        self._capture: Optional[_Capture] = None
        self._pacer = Pacer(self._rate_hz)
        self._first: Optional[np.ndarray] = None
        self._announced = 0
        self._read_in_pass = 0

    @property
    def rate_hz(self) -> float:
        """Known once open where the file's own rate is used."""
        return self._rate_hz

    @property
    def description(self) -> str:
        """File name and rate."""
        return 'video %s at %.4g Hz%s' % (
            self.path, self._rate_hz, ', looped' if self.loop else '')

    def open(self) -> None:
        """See `FrameSource.open`; the first frame is decoded to be sure that there is one."""
        self.close()
        self._capture, self._first = self._start()
        own_hz = self._capture.property(cv2.CAP_PROP_FPS)
        usable = math.isfinite(own_hz) and 0.0 < own_hz <= MAX_RATE_HZ
        self._rate_hz = self._asked_hz or (own_hz if usable else DEFAULT_RATE_HZ)
        self._pacer = Pacer(self._rate_hz)

    def read(self) -> Optional[Frame]:
        """See `FrameSource.read`."""
        capture = self._capture
        if capture is None or not self._pacer.wait():
            return None
        image = self._next_image(capture)
        if image is None:
            return None
        self._read_in_pass += 1
        return Frame(image, self._clock(), self._frame_id, time.monotonic(), PHOTOS)

    def close(self) -> None:
        """See `FrameSource.close`."""
        self._pacer.stop()
        capture, self._capture = self._capture, None
        self._first = None
        if capture is not None:
            capture.close()

    def _start(self) -> Tuple[_Capture, np.ndarray]:
        if not os.path.isfile(self.path):
            raise SourceError('there is no video file %s' % self.path)
        capture = _Capture(self.path)
        if not capture.is_open():
            capture.close()
            raise SourceError('%s cannot be opened: it is no video, or its index was cut off; '
                              'copy the file again' % self.path)
        first = capture.read()
        if first is None:
            capture.close()
            raise SourceError('%s holds no readable frame: it is empty or cut short; copy the '
                              'file again' % self.path)
        count = capture.property(cv2.CAP_PROP_FRAME_COUNT)
        self._announced = int(count) if 0.0 < count < 1e9 else 0
        self._read_in_pass = 0
        return capture, first

    def _next_image(self, capture: _Capture) -> Optional[np.ndarray]:
        first, self._first = self._first, None
        image = first if first is not None else capture.read()
        if image is not None or self._capture is not capture:
            return image
        self._report_end()
        return self._rewind(capture) if self.loop else None

    def _rewind(self, capture: _Capture) -> Optional[np.ndarray]:
        capture.close()
        try:
            replacement, first = self._start()
        except SourceError as error:
            _log.warning('the loop ends: %s', error)
            return None
        if self._capture is not capture:  # closed meanwhile
            replacement.close()
            return None
        self._capture = replacement
        return first

    def _report_end(self) -> None:
        # Containers announce a few frames that never come: edit lists skip some at the start.
        tolerated = max(2, self._announced // 20)
        if self._read_in_pass + tolerated < self._announced:
            _log.warning('%s is cut short or damaged: %d of %d frames could be read', self.path,
                         self._read_in_pass, self._announced)
        elif not self.loop:
            _log.info('%s has ended after %d frames', self.path, self._read_in_pass)


class CameraSource:
    """
    A camera of this machine.

    :param index: number of the device, or its path
    :param rate_hz: frames a second, None as the camera gives them
    :param clock: node clock, stamps the frames as they arrive
    :param frame_id: coordinate frame of the camera
    :raises SourceError: for a rate that cannot be
    """

    def __init__(self, index: Union[int, str], *, rate_hz: Optional[float] = None,
                 clock: Clock = time.time_ns, frame_id: str = 'camera') -> None:
        self.index = index
        self._clock = clock
        self._frame_id = frame_id
        self._asked_hz = _checked_rate(rate_hz, 'camera %s' % index)
        self._rate_hz = self._asked_hz or DEFAULT_RATE_HZ
        self._capture: Optional[_Capture] = None
        self._pacer = Pacer(math.inf)

    @property
    def rate_hz(self) -> float:
        """The camera's own once open, or as asked."""
        return self._rate_hz

    @property
    def description(self) -> str:
        """Device and rate."""
        return 'camera %s at %.4g Hz' % (self.index, self._rate_hz)

    def open(self) -> None:
        """See `FrameSource.open`."""
        self.close()
        capture = _Capture(self.index)
        if not capture.is_open():
            capture.close()
            devices = camera_devices()
            raise SourceError('camera %s cannot be opened: this machine has %s' % (
                self.index, '%s; is it in use, or are you not in the group video?' % (
                    ', '.join(devices)) if devices else 'no camera; plug one in'))
        # One buffered image: older ones would only make answers late.
        capture.set_property(cv2.CAP_PROP_BUFFERSIZE, 1)
        own_hz = capture.property(cv2.CAP_PROP_FPS)
        usable = math.isfinite(own_hz) and 0.0 < own_hz <= MAX_RATE_HZ
        self._rate_hz = self._asked_hz or (own_hz if usable else DEFAULT_RATE_HZ)
        self._pacer = Pacer(self._asked_hz or math.inf)
        self._capture = capture

    def read(self) -> Optional[Frame]:
        """See `FrameSource.read`; a camera never ends by itself."""
        for _ in range(CAMERA_RETRIES):
            capture = self._capture
            if capture is None or not self._pacer.wait():
                return None
            image = capture.read()
            if image is not None:
                return Frame(image, self._clock(), self._frame_id, time.monotonic(), PHOTOS)
            time.sleep(_RETRY_S)
        raise SourceError('camera %s gives no more images: was it unplugged?' % self.index)

    def close(self) -> None:
        """See `FrameSource.close`."""
        self._pacer.stop()
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()


def camera_devices() -> Tuple[str, ...]:
    """Return the video devices of this machine."""
    return tuple(sorted(glob.glob('/dev/video*')))
