# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What asks this program to end: Ctrl-C, `kill` and a closed terminal are one and the same.

Each raises KeyboardInterrupt once; whoever stops processes then is not disturbed by a second.
"""
from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_REQUEST_S = 1.0
"""Signals that come so soon after one another are one request to end."""


class _Requests:
    """Handler of the signals."""

    def __init__(self) -> None:
        self._last_s = -ONE_REQUEST_S

    def __call__(self, number: int, frame: Any) -> None:
        """Raise KeyboardInterrupt, once in a while."""
        before_s, self._last_s = self._last_s, time.monotonic()
        if self._last_s - before_s >= ONE_REQUEST_S:
            raise KeyboardInterrupt


def _leave_alone(number: int, frame: Any) -> None:
    """Do nothing; unlike SIG_IGN a process that is started meanwhile does not inherit it."""


@contextlib.contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python's handlers belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # What was ignored stays so: nohup, and background jobs of a script.
    changed = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in changed.items():
            signal.signal(number, old)


def one_request() -> contextlib.AbstractContextManager[None]:
    """Return a context in which SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt."""
    return _handled_by(_Requests())


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """Return a context in which these signals do nothing: for the bounded time of stopping."""
    return _handled_by(_leave_alone)
