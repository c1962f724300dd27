# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One thread that makes candidates ready while others answer: the latest wish first.

Equal wishes are served together. What was let go of before a wish is given back to the system
before the wish takes more. The thread stays a while for more: each new one would allocate in a
corner of memory of its own, and what an engine leaves there would add up.
"""
from __future__ import annotations

import contextlib
import logging
import threading
from typing import Callable, Dict, List, Optional, Tuple

from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.trim import share_arena, trim
from crowdhmt_ros.errors import BackendError, CrowdHMTError
from crowdhmt_ros.types import Candidate

Done = Callable[[Candidate, Optional[Executable], Optional[CrowdHMTError]], None]
"""Told of a finished preparation: an executable or an error, never both."""
STAY_S = 5.0
_log = logging.getLogger(__name__)


class Background:
    """
    The thread and what it still has to do. All methods may be called from any thread.

    :param prepare: makes a candidate ready; raises CrowdHMTError when it cannot be
    """

    def __init__(self, prepare: Callable[[Candidate], Executable]) -> None:
        self._prepare = prepare
        share_arena()
        self._changed = threading.Condition()
        self._wishes: Dict[str, Tuple[Candidate, List[Done]]] = {}
        self._freed = False
        self._busy = False
        self._thread: Optional[threading.Thread] = None
        self._closed = False

    def ask(self, candidate: Candidate, done: Done) -> None:
        """
        Have a candidate prepared.

        :param candidate: served before all earlier wishes that still wait
        :param done: called once in the thread; never when it is closed first
        :raises BackendError: it is closed
        """
        with self._changed:
            if self._closed:
                raise BackendError('the pool is closed')
            _, waiting = self._wishes.pop(candidate.candidate_id, (candidate, []))
            self._wishes[candidate.candidate_id] = (candidate, [*waiting, done])
            self._start()

    def freed(self) -> None:
        """Have freed memory given back, for executables were let go of."""
        with self._changed:
            self._freed = True
            self._start()

    def drop(self) -> None:
        """Forget all wishes that wait, and wait for what is being done."""
        with self._changed:
            self._wishes.clear()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: not (self._busy or self._freed))

    def close(self) -> None:
        """Take no more wishes; those that wait are served no more, nobody is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_work(self) -> bool:
        return self._freed or bool(self._wishes and not self._closed)

    def _start(self) -> None:
        """Start the thread unless it runs; the lock is held."""
        if self._thread is None and self._has_work():
            self._thread = threading.Thread(target=self._work, name='engine-pool', daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        try:
            while self._step():
                pass
        finally:
            # Reached by a defect in a callback too: the other wishes get a new thread.
            with self._changed:
                self._thread, self._busy = None, False
                self._start()

    def _step(self) -> bool:
        """Do one thing, waiting a while for it; False when there is none."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._has_work() or self._closed, STAY_S):
                return False
            if not self._has_work():
                return False
            self._busy = True
            freed, self._freed = self._freed, False
            wish = None if freed else self._wishes.popitem()[1]
        if wish is None:
            trim()
        else:
            self._serve(*wish)
        return True

    def _serve(self, candidate: Candidate, waiting: List[Done]) -> None:
        """Prepare a candidate and tell all that wait for it, whatever happens."""
        executable: Optional[Executable] = None
        failure: Optional[CrowdHMTError] = BackendError(
            'preparing %s ended unexpectedly, see the traceback' % candidate.candidate_id)
        try:
            executable = self._prepare(candidate)
            failure = None
        except CrowdHMTError as error:
            _log.warning('%s could not be prepared: %s', candidate.candidate_id, error)
            failure = error
        finally:
            # A stack, so that a defect in one callback does not keep the others waiting.
            with contextlib.ExitStack() as stack:
                for done in () if self._closed else reversed(waiting):
                    stack.callback(done, candidate, executable, failure)
