# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A place for one frame: the latest wins, and what it replaces is handed back."""
from __future__ import annotations

import threading
from typing import Optional

from crowdhmt_ros.vision.frame import Frame


class LatestSlot:
    """Hands frames from one thread to another and keeps none but the latest."""

    def __init__(self) -> None:
        self._frame: Optional[Frame] = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> Optional[Frame]:
        """
        Leave a frame for the worker.

        :returns: the frame that will not be computed: the one replaced, or this one when the
            slot is closed; None when nothing is lost
        """
        with self._changed:
            if self._closed:
                return frame
            superseded, self._frame = self._frame, frame
            self._changed.notify()
        return superseded

    def get(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """
        Take the latest frame, waiting for one if need be.

        :param timeout_s: longest wait, None for no limit
        :returns: the frame, or None after the wait or once the slot is closed
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
        return frame

    def close(self) -> Optional[Frame]:
        """
        Wake whoever waits and take no more frames.

        :returns: the frame that was still waiting, now not to be computed
        """
        with self._changed:
            self._closed = True
            frame, self._frame = self._frame, None
            self._changed.notify_all()
        return frame

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
