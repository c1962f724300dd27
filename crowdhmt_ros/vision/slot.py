# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A place for one frame: the latest wins, and what it replaces is handed back."""
from __future__ import annotations

import threading
from typing import Optional

from crowdhmt_ros.vision.frame import Frame


class LatestSlot:
    """
    Hands frames from one thread to another and keeps none but the latest.

    A plain lock says that there is something to take: held while the slot is open and empty,
    and by who is about to take, free otherwise. A condition would do the same in a dozen calls,
    with the caches that the engine has just emptied.
    """

    def __init__(self) -> None:
        self._frame: Optional[Frame] = None
        self._closed = False
        self._turn = threading.Lock()
        self._something = threading.Lock()
        self._something.acquire()

    def put(self, frame: Frame) -> Optional[Frame]:
        """
        Leave a frame for the worker.

        :returns: the frame that will not be computed: the one replaced, or this one when the
            slot is closed; None when nothing is lost
        """
        with self._turn:
            if self._closed:
                return frame
            superseded, self._frame = self._frame, frame
            if superseded is None:
                self._something.release()
        return superseded

    def get(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """
        Take the latest frame, waiting for one if need be.

        :param timeout_s: longest wait, None for no limit
        :returns: the frame, or None after the wait or once the slot is closed
        """
        if not self._something.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return None
        with self._turn:
            frame, self._frame = self._frame, None
            if self._closed:  # for the next one who asks
                self._something.release()
        return frame

    def close(self) -> Optional[Frame]:
        """
        Wake whoever waits and take no more frames.

        :returns: the frame that was still waiting, now not to be computed
        """
        with self._turn:
            before, self._closed = self._closed, True
            frame, self._frame = self._frame, None
            if frame is None and not before:
                self._something.release()
        return frame

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed
