# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One request to a peer and who asks it, whatever kind of channel carries it."""
from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import Callable, Optional, Union

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.offload.channel import Reply
from crowdhmt_ros.offload.messages import (
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    Refusal,
    RunReply,
    RunRequest,
)

Answer = Union[LeaseReply, RunReply, Pong, Refusal]
Asking = Union[LeaseRequest, RunRequest, Ping]


class RequestSeq:
    """Numbers of the requests of one boot: they only rise, over all channels of this robot."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def next(self) -> int:
        """Return the next number."""
        return next(self._numbers)


@dataclass(frozen=True)
class Asker:
    """
    Who asks, as it stands in every request.

    :param numbers: one object for all channels of a boot
    """

    robot_id: str
    boot_id: str
    bundle_sha256: str
    key_fingerprint: str
    numbers: RequestSeq


class Entry:
    """
    One request under way.

    :param request: as sent
    :param started_s: when it was asked for
    :param until_s: after which an answer is of no use
    """

    def __init__(self, request: Asking, started_s: float, until_s: float) -> None:
        self.request = request
        self.started_s = started_s
        self.until_s = until_s
        self.done = threading.Event()
        self.answer: Optional[Answer] = None
        self.arrived_s = 0.0
        self.problem = ''

    def settle(self, answer: Optional[Answer], now_s: float, problem: str = '') -> None:
        """Let who waits go on."""
        self.answer, self.arrived_s, self.problem = answer, now_s, problem
        self.done.set()

    def matches(self, answer: Answer) -> bool:
        """Tell whether an answer with the right number is one to this request."""
        request = self.request
        if answer.nonce != request.nonce:
            return False
        if isinstance(answer, RunReply):
            return (isinstance(request, RunRequest) and answer.lease_id == request.lease_id
                    and answer.segment_id == request.segment_id)
        if isinstance(answer, LeaseReply):
            return isinstance(request, LeaseRequest)
        return isinstance(answer, Refusal) or isinstance(request, Ping)

    def reply(self) -> Reply:
        """
        Return what a call brought.

        :raises OffloadError: the peer refused, failed or is gone
        """
        answer = self.answer
        if not isinstance(answer, RunReply) or not answer.ok:
            raise OffloadError(self.problem)
        return Reply(answer.payload, answer.queue_s, answer.run_s,
                     self.arrived_s - self.started_s)


class EntryPending:
    """
    A call under way, whatever channel it went over.

    :param cancel: of that channel
    """

    def __init__(self, entry: Entry, cancel: Callable[[Entry], None]) -> None:
        self._entry = entry
        self._cancel = cancel

    def wait(self, timeout_s: float) -> Optional[Reply]:
        """
        Wait for the reply.

        :returns: None when it is not there in time; it may be waited for again
        :raises OffloadError: the peer refused, failed or is gone
        """
        return self._entry.reply() if self._entry.done.wait(timeout_s) else None

    def cancel(self) -> None:
        """Forget the call; a reply that comes later is dropped."""
        self._cancel(self._entry)
