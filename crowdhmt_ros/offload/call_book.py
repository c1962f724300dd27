# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What was asked of one peer and what came of it: the part that every kind of channel shares.

Numbers and nonces go out with each request; an answer counts only when both come back on the
right kind of message. Everything else is dropped and counted. No socket and no thread here;
every method may be called from any thread.
"""
from __future__ import annotations

import os
import threading
import time
from typing import Callable, Dict, Optional, Tuple

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.offload.breaker import PING_BROKEN_S, Breaker
from crowdhmt_ros.offload.calls import Answer, Asker, Asking, Entry
from crowdhmt_ros.offload.channel import Call, ChannelHealth, Lease, LeaseWish
from crowdhmt_ros.offload.link import PROBE_BYTES, LinkMeter
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    Refusal,
    Release,
    RunReply,
    RunRequest,
)
from crowdhmt_ros.offload.wire_fields import NONCE_BYTES

NOT_YET = 'not connected yet'
PING_IDLE_S = 1.0
PING_TIMEOUT_S = 0.5
PING_FIRST_S = 0.02
"""Between pings while round trip and bandwidth are not known yet."""
LEASE_AGAIN_S = 10.0
LEASE_AGAIN_MOST_S = 30.0
GRACE_S = 0.5
"""A call that nobody waits for is forgotten so long after its time."""


class CallBook:
    """
    The requests to one peer, with its breaker and its link.

    :param peer: robot_id of the peer
    :param asker: this robot
    :param changed: called, in any thread, when the peer may have become reachable or not
    :param probe_bytes: payload of every second ping
    :param monotonic: clock, s
    """

    def __init__(self, peer: str, asker: Asker, *,
                 changed: Callable[[], None] = lambda: None,
                 breaker: Optional[Breaker] = None, probe_bytes: int = PROBE_BYTES,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self.peer = peer
        self.lock = threading.RLock()
        self.breaker = breaker or Breaker(monotonic=monotonic)
        self.link = LinkMeter()
        self.refused = 0
        self.connected = False
        self.reconnects = 0
        self.problem = NOT_YET
        self._asker = asker
        self._probe = bytes(probe_bytes)
        self._changed = changed
        self._monotonic = monotonic
        self._entries: Dict[int, Entry] = {}
        self._renamed: Dict[str, str] = {}
        self._active_s = monotonic()
        self._next_ping_s = 0.0
        self._pings = 0
        self._was_connected = False

    # Asking

    def refuse_when_broken(self) -> None:
        """
        Say at once what speaks against asking the peer now.

        :raises OffloadError: no connection, or the breaker is open
        """
        if not self.connected:
            raise OffloadError(f'{self.peer} cannot be asked: {self.problem or "not connected"}')
        if self.breaker.is_open:
            raise OffloadError(f'{self.peer} left requests unanswered; it is asked again in '
                               f'{self.breaker.retry_in_s:.1f} s at the earliest')

    def enter_call(self, call: Call) -> Entry:
        """Note a call that is about to be sent."""
        asker = self._asker
        with self.lock:
            lease_id = self._renamed.get(call.lease_id, call.lease_id)
            return self._enter(RunRequest(
                asker.robot_id, asker.boot_id, lease_id, asker.numbers.next(), _nonce(),
                call.segment_id, call.segment_sha256, call.codec, call.budget_s, call.payload),
                call.budget_s)

    def enter_lease(self, wish: LeaseWish, timeout_s: float) -> Entry:
        """Note a request for a lease."""
        asker = self._asker
        with self.lock:
            return self._enter(LeaseRequest(
                asker.robot_id, asker.boot_id, asker.numbers.next(), _nonce(),
                asker.bundle_sha256, wish.segment_ids, wish.memory_bytes, wish.rate_hz,
                wish.duration_s, asker.key_fingerprint), timeout_s)

    def enter_ping(self) -> Entry:
        """Note a ping; every second one carries a payload."""
        asker = self._asker
        with self.lock:
            payload = self._probe if self._pings % 2 else b''
            self._pings += 1
            self._next_ping_s = float('inf')
            return self._enter(Ping(asker.robot_id, asker.boot_id, asker.numbers.next(), _nonce(),
                                    payload), PING_TIMEOUT_S)

    def cancel_of(self, entry: Entry) -> Cancel:
        """Return the message that tells the peer not to go on with a call."""
        request, asker = entry.request, self._asker
        return Cancel(asker.robot_id, asker.boot_id, getattr(request, 'lease_id', ''),
                      asker.numbers.next(), _nonce(), request.request_seq)

    def release_of(self, lease_id: str) -> Release:
        """Return the message that gives a lease back."""
        asker = self._asker
        return Release(asker.robot_id, asker.boot_id, self._renamed.pop(lease_id, lease_id),
                       asker.numbers.next(), _nonce())

    def rename(self, lease_id: str, now_called: str) -> None:
        """Let calls under a lease go on under the one that replaced it."""
        if lease_id != now_called:
            self._renamed[lease_id] = now_called

    def _enter(self, request: Asking, budget_s: float) -> Entry:
        now_s = self._monotonic()
        entry = Entry(request, now_s, now_s + budget_s)
        self._entries[request.request_seq] = entry
        if not isinstance(request, Ping):
            self._active_s = now_s
        return entry

    # Answers

    def arrived(self, answer: object) -> None:
        """Take a message of the peer; only what answers a request under way counts."""
        now_s = self._monotonic()
        with self.lock:
            if not isinstance(answer, (LeaseReply, RunReply, Pong, Refusal)):
                self.refused += 1
                return
            self.breaker.heard()
            entry = self._entries.get(answer.request_seq)
            if entry is None or not entry.matches(answer):
                self.refused += 1
                if isinstance(answer, Refusal) and not answer.nonce:
                    self.problem = f'{self.peer} refuses: {answer.reason}'
                return
            del self._entries[answer.request_seq]
            self._note(entry, answer, now_s)
        self._changed_when_broken(entry)

    def garbage(self) -> None:
        """Note a message that could not be read."""
        with self.lock:
            self.refused += 1

    def cancel(self, entry: Entry) -> bool:
        """
        Forget a call.

        One that had most of its time and was not answered speaks against the peer.

        :returns: whether it was still under way
        """
        with self.lock:
            if self._entries.pop(entry.request.request_seq, None) is None:
                return False
            now_s = self._monotonic()
            if now_s - entry.started_s >= 0.5 * (entry.until_s - entry.started_s):
                self.breaker.failed()
        self._changed_when_broken(entry)
        return True

    def expire(self) -> None:
        """Give up what was not answered in its time."""
        now_s, broke = self._monotonic(), False
        with self.lock:
            for number, entry in list(self._entries.items()):
                is_ping = isinstance(entry.request, Ping)
                if now_s < entry.until_s + (0.0 if is_ping else GRACE_S):
                    continue
                del self._entries[number]
                entry.settle(None, now_s, f'{self.peer} did not answer in time')
                if is_ping:
                    self.breaker.ping_failed()
                    self._next_ping_s = now_s + PING_BROKEN_S
                else:
                    self.breaker.failed()
                broke = broke or self.breaker.is_open
        if broke:
            self._changed()

    def _note(self, entry: Entry, answer: Answer, now_s: float) -> None:
        taken_s = now_s - entry.started_s
        if isinstance(answer, Pong):
            self.breaker.ping_answered()
            self.link.note(len(getattr(entry.request, 'payload', b'')), taken_s, now_s)
            self._next_ping_s = now_s + self._ping_gap_s(now_s)
            entry.settle(answer, now_s)
        elif isinstance(answer, RunReply) and answer.ok and answer.codec == 'raw':
            self.breaker.answered()
            self._active_s, self.problem = now_s, ''
            carried = len(getattr(entry.request, 'payload', b'')) + len(answer.payload)
            self.link.note(carried, taken_s - answer.queue_s - answer.run_s, now_s)
            entry.settle(answer, now_s)
        elif isinstance(answer, LeaseReply) and answer.granted:
            self.breaker.answered()
            self.problem = ''
            entry.settle(answer, now_s)
        else:
            self._note_refusal(entry, answer, now_s)

    def _note_refusal(self, entry: Entry, answer: Answer, now_s: float) -> None:
        reason = getattr(answer, 'reason', '') or 'it answers in a form that was not asked for'
        if isinstance(entry.request, LeaseRequest):
            wait_s = getattr(answer, 'retry_after_s', None)
            self.breaker.hold(min(LEASE_AGAIN_S if wait_s is None else wait_s,
                                  LEASE_AGAIN_MOST_S))
        elif isinstance(entry.request, Ping):  # it is there, and it can be measured
            self.breaker.ping_failed()
            self._next_ping_s = now_s + PING_BROKEN_S
        else:
            self.breaker.failed()
        self.problem = f'{self.peer} refuses: {reason}'
        entry.settle(None, now_s, self.problem)

    # The connection

    def up(self) -> None:
        """Note that the connection stands."""
        with self.lock:
            if self.connected:
                return
            self.connected, self.problem = True, ''
            self.reconnects += self._was_connected
            self._was_connected = True
            self._next_ping_s = 0.0
        self._changed()

    def down(self, problem: str) -> None:
        """Note that the connection is gone, or cannot be made; all that is under way fails."""
        with self.lock:
            was, self.connected, self.problem = self.connected, False, problem
            if was:
                self.breaker.lost()
            self.link.forget()
            entries, self._entries = list(self._entries.values()), {}
            now_s = self._monotonic()
            for entry in entries:
                entry.settle(None, now_s, f'{self.peer}: {problem}')
        if was:
            self._changed()

    # Pings

    def ping_due_s(self) -> float:
        """Return the moment of the next ping, infinity while one is under way."""
        if not self.connected:
            return float('inf')
        with self.lock:
            if self._next_ping_s == float('inf') or self.breaker.is_open:
                return self._next_ping_s
            if self._pings < 2:
                return self._next_ping_s
            return max(self._next_ping_s, self._active_s + PING_IDLE_S)

    def ping_due(self) -> bool:
        """Tell whether a ping is to be sent now."""
        return self.ping_due_s() <= self._monotonic()

    def next_moment_s(self) -> float:
        """Return when `expire` or a ping has something to do."""
        with self.lock:
            moments = [entry.until_s + (0.0 if isinstance(entry.request, Ping) else GRACE_S)
                       for entry in self._entries.values()]
        return min([self.ping_due_s(), *moments])

    def _ping_gap_s(self, now_s: float) -> float:
        if self.breaker.is_open:
            return PING_BROKEN_S
        known = self.link.bandwidth_bytes_per_s(now_s) is not None
        return PING_IDLE_S if known else PING_FIRST_S

    # Words

    @property
    def queued(self) -> int:
        """Calls under way."""
        with self.lock:
            return sum(isinstance(e.request, RunRequest) for e in self._entries.values())

    def health(self, sent_bytes: int, received_bytes: int) -> ChannelHealth:
        """Return how the connection does, now."""
        round_trip_s, bandwidth = self.link_figures()
        return ChannelHealth(
            self.connected, round_trip_s, bandwidth, self.breaker.failures,
            self.breaker.retry_in_s, self.queued, self.reconnects, sent_bytes, received_bytes,
            self.refused, self.problem)

    def link_figures(self) -> Tuple[Optional[float], Optional[float]]:
        """Return round trip, s, and bandwidth, bytes/s; None while unknown."""
        now_s = self._monotonic()
        with self.lock:
            if not self.connected:
                return None, None
            return self.link.round_trip_s(now_s), self.link.bandwidth_bytes_per_s(now_s)

    def lease_from(self, entry: Entry, wish: LeaseWish) -> Lease:
        """
        Return the lease that an answered request brought.

        :raises OffloadError: it was refused
        """
        answer = entry.answer
        if not isinstance(answer, LeaseReply):
            raise OffloadError(entry.problem)
        return Lease(answer.lease_id, wish.segment_ids, entry.started_s + answer.duration_s)

    def _changed_when_broken(self, entry: Entry) -> None:
        if self.breaker.is_open or isinstance(entry.request, Ping):
            self._changed()


def _nonce() -> bytes:
    return os.urandom(NONCE_BYTES)
