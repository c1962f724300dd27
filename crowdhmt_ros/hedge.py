# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One frame with the help of a peer, and never without an answer (P III-D3, *reconstructed*).

The head runs here, the rest is asked for, and the fallback starts here when the time that is
left says so: deadline minus what the fallback itself takes. Whoever is ready first answers; an
answer of the fallback is marked as degraded.
"""
from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Optional, Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Executable, make_buffers
from crowdhmt_ros.errors import BackendError, CrowdHMTError, OffloadError
from crowdhmt_ros.types import Crossing

_log = logging.getLogger(__name__)
MARGIN_S = 0.003
"""Kept beside the fallback's own time: waking up, softmax, publishing."""
FALLBACK_TRIALS = 3
FORGET = 0.9
"""
How fast one slow run of the fallback is forgotten, per run of it. A hiccup beyond the budget of
time lets the fallback start at once, for about ten frames, until the peer gets its time again.
"""
SAY_AGAIN_S = 5.0
"""A peer that does not help fails at every frame; the log tells it so often."""

Outputs = Tuple[np.ndarray, ...]


class Asked(Protocol):
    """A call under way, as in `offload.assist`."""

    def wait(self, timeout_s: float) -> Optional[Tuple[Outputs, Crossing]]:
        """Wait for the outputs; None when they are not there in time."""

    def cancel(self) -> None:
        """Forget the call."""


class Remote(Protocol):
    """The peer's part, as in `offload.assist`."""

    @property
    def robot_id(self) -> str:
        """The peer."""

    @property
    def takes_image(self) -> bool:
        """Whether `ask` takes the resized image instead of tensors."""

    @property
    def lost(self) -> bool:
        """Whether it can never be asked again: it has to be had anew."""

    def ask(self, arrays: Sequence[np.ndarray], budget_s: float) -> Asked:
        """Send one frame's crossing."""

    def release(self) -> None:
        """Give back what was reserved at the peer; a second time does nothing."""


@dataclass(frozen=True)
class Outcome:
    """
    What answered a frame.

    :param logits: (1, classes) float32, valid until the next frame
    :param degraded: the fallback answered
    :param crossing: of an answer by the peer
    :param infer_s: engines of this robot
    :param offload_s: crossing and remote time, or what was waited for in vain
    """

    logits: np.ndarray
    degraded: bool
    crossing: Optional[Crossing]
    infer_s: float
    offload_s: float


class Hedge:
    """
    Head, peer and fallback of one candidate in force. `answer` belongs to one thread.

    :param remote: the peer's part
    :param head: what runs here first, None where the frame itself is sent
    :param fallback: runs on the same input as a whole model
    :param budget_s: from the frame in memory to the answer
    """

    def __init__(self, remote: Remote, head: Optional[Executable], fallback: Executable,
                 budget_s: float) -> None:
        self.remote = remote
        self.budget_s = budget_s
        self.failure = ''
        self._say_from_s = -float('inf')
        self._turn = threading.Lock()
        self._retired = False
        self._head = head
        self._head_outputs = make_buffers(head.outputs) if head is not None else ()
        self._fallback = fallback
        self._fallback_outputs = make_buffers(fallback.outputs)
        self._fallback_s = self._try_fallback()

    @property
    def fallback_s(self) -> float:
        """What the fallback takes at worst, as far as seen lately."""
        return self._fallback_s

    @property
    def retired(self) -> bool:
        """Whether it asks nobody any more: something else is in force."""
        return self._retired

    def retire(self) -> None:
        """Release the peer, after the frame in work if there is one; from any thread."""
        self._retired = True  # before the turn: who takes it later does not ask
        if self._turn.acquire(blocking=False):
            self._turn.release()
            self.remote.release()

    def answer(self, tensor: np.ndarray, image: Optional[np.ndarray],
               received_s: float) -> Outcome:
        """
        Answer one frame; without asking once it is retired.

        :param tensor: the model's input
        :param image: the resized frame, blue-green-red uint8; None where it is not at hand
        :param received_s: monotonic clock when the frame lay in memory
        :raises BackendError: the fallback failed and nothing came from the peer in time
        """
        try:
            with self._turn:
                return self._answer(tensor, image, received_s)
        finally:
            if self._retired:
                self.remote.release()

    def _answer(self, tensor: np.ndarray, image: Optional[np.ndarray],
                received_s: float) -> Outcome:
        start_s = time.perf_counter()
        deadline_s = received_s + self.budget_s
        crosses = self._crossing_of(tensor, image)
        head_s = time.perf_counter() - start_s
        asked = None if crosses is None else self._ask(crosses, deadline_s)
        found = self._wait(asked, deadline_s - self._fallback_s - MARGIN_S)
        if found is not None:
            return self._by_peer(found, head_s)
        waited_s = time.perf_counter() - start_s - head_s
        own_s, failure = self._run_fallback(tensor)
        # One that came while the fallback ran is the better answer; one that may still come is
        # waited for when there is no other.
        found = self._wait(asked, 0.0 if failure is None else deadline_s)
        if found is not None:
            return self._by_peer(found, head_s + own_s)
        if asked is not None:
            asked.cancel()
        if failure is not None:
            raise failure
        return Outcome(self._fallback_outputs[0], True, None, head_s + own_s, waited_s)

    def _crossing_of(self, tensor: np.ndarray, image: Optional[np.ndarray]
                     ) -> Optional[Sequence[np.ndarray]]:
        """Return what crosses, None where nothing may or can: the fallback answers then."""
        if self._retired:
            return None
        if self._head is None:
            return (tensor,) if image is None else (image,)
        try:
            self._head.run((tensor,), self._head_outputs)
        except BackendError as error:
            self._note(error)
            return None
        return self._head_outputs

    def _ask(self, arrays: Sequence[np.ndarray], deadline_s: float) -> Optional[Asked]:
        try:
            return self.remote.ask(arrays, deadline_s - time.monotonic())
        except OffloadError as error:
            self._note(error)
            return None

    def _wait(self, asked: Optional[Asked], until_s: float
              ) -> Optional[Tuple[Outputs, Crossing]]:
        """Wait until a moment of the monotonic clock; a moment that has passed only looks."""
        if asked is None:
            return None
        try:
            return asked.wait(until_s - time.monotonic())
        except OffloadError as error:
            self._note(error)
            return None

    def _by_peer(self, found: Tuple[Outputs, Crossing], infer_s: float) -> Outcome:
        outputs, crossing = found
        return Outcome(outputs[0], False, crossing, infer_s, crossing.offload_s)

    def _run_fallback(self, tensor: np.ndarray) -> Tuple[float, Optional[BackendError]]:
        """Return what it took, and why there are no outputs if there are none."""
        start_s = time.perf_counter()
        try:
            self._fallback.run((tensor,), self._fallback_outputs)
        except BackendError as error:
            return time.perf_counter() - start_s, error
        took_s = time.perf_counter() - start_s
        self._fallback_s = max(took_s, FORGET * self._fallback_s)
        return took_s, None

    def _try_fallback(self) -> float:
        inputs = make_buffers(self._fallback.inputs)
        took_s = []
        for _ in range(FALLBACK_TRIALS):
            start_s = time.perf_counter()
            self._fallback.run(inputs, self._fallback_outputs)
            took_s.append(time.perf_counter() - start_s)
        # Not the longest: frames are answered beside this, on the same engine at times.
        return sorted(took_s)[FALLBACK_TRIALS // 2]

    def _note(self, error: CrowdHMTError) -> None:
        self.failure = str(error)
        now_s = time.monotonic()
        if now_s >= self._say_from_s:
            self._say_from_s = now_s + SAY_AGAIN_S
            _log.warning('%s does not help with a frame: %s', self.remote.robot_id, error)
