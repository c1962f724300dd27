# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The queue of one server: short, fair between leases, and without work that nobody awaits."""
from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, List, Optional, Tuple

from crowdhmt_ros.offload.messages import RunReply, RunRequest


@dataclass(frozen=True)
class QueueLimits:
    """
    How much work may wait.

    :param per_lease: requests under one lease
    :param in_all: requests of all leases together
    """

    per_lease: int = 2
    in_all: int = 4


@dataclass(frozen=True, eq=False)
class Job:
    """
    One request that was let in.

    :param peer: who asked, as authenticated
    :param reply: told once, from any thread
    :param arrived_s: monotonic clock, as deadline_s
    """

    peer: str
    request: RunRequest
    reply: Callable[[RunReply], None]
    arrived_s: float
    deadline_s: float


class JobQueue:
    """
    First come, first served, within limits. All methods may be called from any thread.

    :param limits: how much may wait
    :param monotonic: clock
    """

    def __init__(self, limits: QueueLimits,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._jobs: Deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> Tuple[bool, Tuple[Job, ...]]:
        """
        Let a request in; what has expired leaves first.

        :returns: whether there was room, and what has expired
        """
        with self._changed:
            expired = self._take(lambda waiting: waiting.deadline_s <= self._monotonic())
            of_lease = sum(waiting.request.lease_id == job.request.lease_id
                           for waiting in self._jobs)
            fits = (not self._closed and len(self._jobs) < self._limits.in_all
                    and of_lease < self._limits.per_lease)
            if fits:
                self._jobs.append(job)
                self._changed.notify()
            return fits, expired

    def get(self, timeout_s: float) -> Optional[Job]:
        """Return the oldest request, expired or not; None when none came in time."""
        with self._changed:
            if not self._jobs and not self._closed:
                self._changed.wait(timeout_s)
            return self._jobs.popleft() if self._jobs else None

    def cancel(self, peer: str, lease_id: str, request_seq: int) -> Tuple[Job, ...]:
        """Take a request out that its robot does not await any more."""
        with self._changed:
            return self._take(lambda job: (
                job.peer == peer and job.request.lease_id == lease_id
                and job.request.request_seq == request_seq))

    def drop(self, lease_id: str) -> Tuple[Job, ...]:
        """Take out all requests under a lease."""
        with self._changed:
            return self._take(lambda job: job.request.lease_id == lease_id)

    def close(self) -> Tuple[Job, ...]:
        """Let nothing in any more and wake who waits; returns what was left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._take(lambda job: True)

    def _take(self, which: Callable[[Job], bool]) -> Tuple[Job, ...]:
        taken: List[Job] = []
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            (taken if which(job) else self._jobs).append(job)
        return tuple(taken)
