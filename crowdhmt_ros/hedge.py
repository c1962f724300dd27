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
from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.types import Crossing

_log = logging.getLogger(__name__)
MARGIN_S = 0.003
"""Kept beside the fallback's own time: waking up, softmax, publishing."""
FALLBACK_TRIALS = 3
FORGET = 0.98
"""How fast one slow run of the fallback is forgotten, per run of it."""

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

    def retire(self) -> None:
        """Release the peer, after the frame in work if there is one; from any thread."""
        self._retired = True
        if self._turn.acquire(blocking=False):
            self._turn.release()
            self.remote.release()

    def answer(self, tensor: np.ndarray, image: Optional[np.ndarray],
               received_s: float) -> Outcome:
        """
        Answer one frame.

        :param tensor: the model's input
        :param image: the resized frame, blue-green-red uint8; None where it is not at hand
        :param received_s: monotonic clock when the frame lay in memory
        :raises BackendError: an engine of this robot failed
        """
        with self._turn:
            outcome = self._answer(tensor, image, received_s)
        if self._retired:
            self.remote.release()
        return outcome

    def _answer(self, tensor: np.ndarray, image: Optional[np.ndarray],
                received_s: float) -> Outcome:
        start_s = time.perf_counter()
        crossing_of: Sequence[np.ndarray] = (tensor,) if image is None else (image,)
        if self._head is not None:
            self._head.run((tensor,), self._head_outputs)
            crossing_of = self._head_outputs
        head_s = time.perf_counter() - start_s
        deadline_s = received_s + self.budget_s
        asked = self._ask(crossing_of, deadline_s)
        found = self._wait(asked, deadline_s - self._fallback_s - MARGIN_S)
        if found is not None:
            return self._by_peer(found, head_s)
        waited_s = time.perf_counter() - start_s - head_s
        own_s = self._run_fallback(tensor)
        found = self._wait(asked, 0.0)
        if found is not None:  # it came while the fallback ran: the better answer counts
            return self._by_peer(found, head_s + own_s)
        if asked is not None:
            asked.cancel()
        return Outcome(self._fallback_outputs[0], True, None, head_s + own_s, waited_s)

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

    def _run_fallback(self, tensor: np.ndarray) -> float:
        start_s = time.perf_counter()
        self._fallback.run((tensor,), self._fallback_outputs)
        took_s = time.perf_counter() - start_s
        self._fallback_s = max(took_s, FORGET * self._fallback_s)
        return took_s

    def _try_fallback(self) -> float:
        inputs = make_buffers(self._fallback.inputs)
        longest_s = 0.0
        for _ in range(FALLBACK_TRIALS):
            start_s = time.perf_counter()
            self._fallback.run(inputs, self._fallback_outputs)
            longest_s = max(longest_s, time.perf_counter() - start_s)
        return longest_s

    def _note(self, error: OffloadError) -> None:
        text = str(error)
        if text != self.failure:
            self.failure = text
            _log.warning('%s does not help with a frame: %s', self.remote.robot_id, text)
