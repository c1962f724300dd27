# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The peer's half: prebuilt segments run for other robots, under a lease (P III-D3).

Behind every door stands the same server. A door authenticates and calls `lease`, `run`, `cancel`
and `release` with the robot's trusted name; nothing here knows sockets or ROS. Whatever a request
claims is compared with this robot's own bundle before a byte is allocated for it. One thread
computes, one grants leases; own frames come first.
"""
from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Callable, List, Mapping, Optional, Tuple, Union

import numpy as np

from crowdhmt_ros.errors import BackendError, CodecError, CrowdHMTError
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.admission import Job, JobQueue
from crowdhmt_ros.offload.checks import check_lease, check_name, check_run, covering
from crowdhmt_ros.offload.codec import JPEG, RAW, decode, decode_image, encode
from crowdhmt_ros.offload.held import Held
from crowdhmt_ros.offload.leases import Granted, Leases
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseReply,
    LeaseRequest,
    Ping,
    Release,
    RunReply,
    RunRequest,
)
from crowdhmt_ros.offload.replays import Replays
from crowdhmt_ros.offload.served import (
    GuestPool,
    GuestTurns,
    Prepare,
    Served,
    ServerHealth,
    ServerSettings,
)

WAKE_S = 0.25
JOIN_S = 5.0
LONGEST_BUDGET_S = 5.0
"""Of one request, whatever it claims: a stale one must not wait for ever."""
LEAST_RETRY_S = 0.02
AnyRequest = Union[LeaseRequest, RunRequest, Ping, Cancel, Release]
WISHES_KEPT = 8
_Wish = Tuple[str, LeaseRequest, Callable[[LeaseReply], None]]
_log = logging.getLogger(__name__)


class SegmentServer:
    """
    Runs segments of one bundle for peers.

    :param served: segment_id -> what may be asked for
    :param pool: compiles and keeps
    :param turns: own frames first
    :param settings: names and limits
    :param prepare: image to input tensor, for codec 'jpeg'; None refuses that codec
    :param monotonic: clock
    """

    def __init__(self, served: Mapping[str, Served], pool: GuestPool, turns: GuestTurns, *,
                 settings: ServerSettings, prepare: Optional[Prepare] = None,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.closed_reason = 'not active yet'
        self.no_lease_reason = ''
        self._served = dict(served)
        if prepare is None:
            self._served = {name: replace(one, codecs=tuple(c for c in one.codecs if c != JPEG))
                            for name, one in served.items()}
        self._held = Held(pool, settings.options, settings.leases.memory_bytes)
        self._turns = turns
        self._prepare = prepare
        self._monotonic = monotonic
        self._leases = Leases(settings.leases)
        self._replays = Replays()
        self._queue = JobQueue(settings.queue, monotonic)
        self._refused: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._run_s: Optional[float] = None
        self._lock = threading.RLock()
        self._granting = threading.Lock()
        self._wishes: queue.Queue[Optional[_Wish]] = queue.Queue(WISHES_KEPT)
        self._threads: List[threading.Thread] = []
        self._stopping = threading.Event()

    # Life

    def start(self) -> None:
        """Start to compute; requests are let in from now on."""
        self.closed_reason = ''
        for work, name in ((self._work, 'offload'), (self._grant_wishes, 'offload-leases')):
            thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Refuse all, end every lease, let go of what was held; safe to call twice."""
        self.closed_reason = self.closed_reason or 'the server has stopped'
        self._stopping.set()
        for job in self._queue.close():
            self._refuse_job(job, why.CLOSED, self.closed_reason)
        with contextlib.suppress(queue.Full):
            self._wishes.put_nowait(None)
        for thread in self._threads:
            thread.join(JOIN_S)
        with self._granting, self._lock:
            for granted in self._leases.all:
                self._end(granted.lease_id)

    # What a door asks

    @property
    def max_payload_bytes(self) -> int:
        """Longest payload that any segment here can ask for."""
        return max((s.max_payload_bytes for s in self._served.values()), default=0)

    @property
    def free_leases(self) -> int:
        """How many more would be granted now."""
        with self._lock:
            self._sweep()
            if self.closed_reason or self.no_lease_reason:
                return 0
            return max(0, self.settings.leases.leases - len(self._leases))

    @property
    def headroom_bytes(self) -> float:
        """What further leases may take."""
        return self._held.headroom_bytes

    def lease(self, peer: str, request: LeaseRequest) -> LeaseReply:
        """
        Grant, renew or refuse a lease; compiles what is missing, so it may take a second.

        :param peer: who asks, as authenticated
        """
        try:
            with self._granting:
                granted = self._grant(peer, request)
        except why.Refused as refused:
            self.count(refused.kind)
            return LeaseReply(request.nonce, request.request_seq, False, refused.reason,
                              retry_after_s=refused.retry_after_s)
        return LeaseReply(request.nonce, request.request_seq, True, '', granted.lease_id,
                          granted.until_s - self._monotonic())

    def lease_later(self, peer: str, request: LeaseRequest,
                    reply: Callable[[LeaseReply], None]) -> None:
        """
        Do as `lease` in a thread of this server's own; never waits.

        :param reply: told once, from this thread or another
        """
        try:
            self._wishes.put_nowait((peer, request, reply))
        except queue.Full:
            self.count(why.BUSY)
            reply(LeaseReply(request.nonce, request.request_seq, False, '%s has more requests '
                             'for leases than it can look at' % self.settings.robot_id,
                             retry_after_s=why.LATER_S))

    def run(self, peer: str, request: RunRequest, reply: Callable[[RunReply], None]) -> None:
        """
        Let a request in, or refuse it at once; never waits.

        :param peer: who asks, as authenticated
        :param reply: told once, from this thread or another
        """
        now_s = self._monotonic()
        job = Job(peer, request, reply, now_s,
                  now_s + min(request.budget_s, LONGEST_BUDGET_S))
        try:
            with self._lock:
                self._sweep()
                self._check_caller(peer, request)
                granted = covering(self._leases.get(request.lease_id), peer, request)
                check_run(granted, self._served, request)
                self._leases.touch(granted, now_s)
            fits, expired = self._queue.put(job)
            for old in expired:
                self._refuse_job(old, why.EXPIRED, 'its time was up before it could run')
            if not fits:
                raise why.Refused(why.BUSY, '%s has %d requests waiting: ask less often' % (
                    self.settings.robot_id, len(self._queue)),
                    max(LEAST_RETRY_S, self._run_s or 0.0))
        except why.Refused as refused:
            self._refuse_job(job, refused.kind, refused.reason)

    def cancel(self, peer: str, request: Cancel) -> None:
        """Forget a request that waits; one that runs is finished and its answer sent."""
        if not self._is_fresh(peer, request):
            return
        for _ in self._queue.cancel(peer, request.lease_id, request.cancelled_seq):
            self._total('cancelled')

    def release(self, peer: str, request: Release) -> None:
        """Take a lease back; unknown ones and those of others are left alone, and counted."""
        if not self._is_fresh(peer, request):
            return
        with self._lock:
            granted = self._leases.get(request.lease_id)
            if granted is not None and granted.peer == peer:
                self._end(granted.lease_id)
            else:
                self._refused[why.LEASE] += 1

    def refusal_of_ping(self, peer: str, request: Ping) -> str:
        """Return why a ping gets no pong, '' when it gets one; it needs no lease."""
        try:
            self._check_origin(peer, request)
        except why.Refused as refused:
            self.count(refused.kind)
            return refused.reason
        return ''

    def boot_id_of(self, lease_id: str) -> str:
        """Return which start of a robot a lease was granted to, '' for an unknown lease."""
        with self._lock:
            granted = self._leases.get(lease_id)
        return '' if granted is None else granted.boot_id

    def count(self, kind: str) -> None:
        """Count one refusal; doors call it for what never comes this far."""
        with self._lock:
            self._refused[kind] += 1

    def health(self) -> ServerHealth:
        """Return how the server does, now."""
        with self._lock:
            return ServerHealth(
                len(self._leases), self._held.bytes, len(self._queue),
                self._totals['served'], self._totals['cancelled'],
                self._refused[why.EXPIRED], dict(self._refused), self._run_s)

    # Leases

    def _grant(self, peer: str, request: LeaseRequest) -> Granted:
        self._check_caller(peer, request)
        check_lease(self.settings, self._served, request)
        if self.no_lease_reason:
            raise why.Refused(why.CLOSED, self.no_lease_reason, why.LATER_S)
        now_s = self._monotonic()
        with self._lock:
            self._sweep()
            known = self._leases.same(peer, request.boot_id, request.segment_ids)
            if known is not None:
                return self._leases.renew(known, duration_s=request.duration_s, now_s=now_s)
            fits, going = self._leases.room_for(peer, now_s)
            if not fits:
                raise why.Refused(why.NO_LEASE, '%s has granted all its leases' % (
                    self.settings.robot_id), self._leases.retry_after_s(now_s))
            for granted in going:
                self._end(granted.lease_id)
        self._held.hold(self._served[s].segment for s in sorted(set(request.segment_ids)))
        with self._lock:
            return self._leases.grant(peer, request.boot_id, request.segment_ids,
                                      duration_s=request.duration_s, now_s=self._monotonic())

    def _sweep(self) -> None:
        """End what has run out; the lock is held."""
        for granted in self._leases.expire(self._monotonic()):
            self._ended(granted)

    def _end(self, lease_id: str) -> None:
        granted = self._leases.end(lease_id)
        if granted is not None:
            self._ended(granted)

    def _ended(self, granted: Granted) -> None:
        for job in self._queue.drop(granted.lease_id):
            self._refuse_job(job, why.LEASE, 'its lease has ended')
        self._held.let_go(granted.segment_ids)

    # Requests

    def _check_caller(self, peer: str, request: AnyRequest) -> None:
        """Refuse everybody while closed, false names, and what was here before."""
        if self.closed_reason:
            raise why.Refused(why.CLOSED, self.closed_reason, why.LATER_S)
        self._check_origin(peer, request)

    def _check_origin(self, peer: str, request: AnyRequest) -> None:
        check_name(peer, request.robot_id)
        with self._lock:
            fresh = self._replays.is_new(peer, request.boot_id, request.request_seq,
                                         request.nonce)
        if not fresh:
            raise why.Refused(why.REPLAY, 'request %d of %s was here before' % (
                request.request_seq, peer))

    def _is_fresh(self, peer: str, request: Union[Cancel, Release]) -> bool:
        """Tell whether a request without answer may be looked at; counts it when not."""
        try:
            self._check_caller(peer, request)
        except why.Refused as refused:
            self.count(refused.kind)
            return False
        return True

    # The threads

    def _guarded(self, work: Callable[[], None]) -> None:
        """Let a defect be seen: a server that cannot go on refuses instead of keeping silent."""
        try:
            work()
        except Exception as error:
            self.closed_reason = 'the server has failed: %s' % type(error).__name__
            _log.error('%s: %s', self.closed_reason, error)
            raise

    def _grant_wishes(self) -> None:
        while not self._stopping.is_set():
            try:
                wish = self._wishes.get(timeout=WAKE_S)
            except queue.Empty:
                continue
            if wish is not None:
                peer, request, reply = wish
                reply(self.lease(peer, request))

    def _work(self) -> None:
        while not self._stopping.is_set():
            job = self._queue.get(WAKE_S)
            with self._lock:
                self._sweep()
            if job is not None:
                self._serve(job)

    def _serve(self, job: Job) -> None:
        if not self._turns.guest(max(0.0, job.deadline_s - self._monotonic())) or (
                self._monotonic() >= job.deadline_s):
            self._refuse_job(job, why.EXPIRED, 'its time was up before it could run')
            return
        start_s = self._monotonic()
        try:
            payload = self._compute(job.request)
        except CodecError as error:
            self._refuse_job(job, why.PAYLOAD, str(error))
            return
        except CrowdHMTError as error:
            _log.warning('a segment failed for %s: %s', job.peer, error)
            self._refuse_job(job, why.FAILED, str(error))
            return
        run_s = self._monotonic() - start_s
        self._run_s = run_s if self._run_s is None else 0.9 * self._run_s + 0.1 * run_s
        self._total('served')
        request = job.request
        job.reply(RunReply(request.lease_id, request.nonce, request.request_seq,
                           request.segment_id, True, '', RAW, payload,
                           start_s - job.arrived_s, run_s))

    def _compute(self, request: RunRequest) -> bytes:
        ready = self._held.get(request.segment_id)
        if ready is None:
            raise BackendError('segment %s is not held any more' % request.segment_id)
        specs = self._served[request.segment_id].segment.inputs
        if request.codec == JPEG:
            height, width = specs[0].shape[2:]
            assert self._prepare is not None
            self._prepare(decode_image(request.payload, height, width), ready.inputs[0])
        else:
            for buffer, array in zip(ready.inputs, decode(request.codec, request.payload, specs)):
                np.copyto(buffer, array)
        ready.executable.run(ready.inputs, ready.outputs)
        return encode(RAW, ready.outputs)

    def _refuse_job(self, job: Job, kind: str, reason: str) -> None:
        self.count(kind)
        request = job.request
        job.reply(RunReply(request.lease_id, request.nonce, request.request_seq,
                           request.segment_id, False, reason))

    def _total(self, name: str) -> None:
        with self._lock:
            self._totals[name] += 1
