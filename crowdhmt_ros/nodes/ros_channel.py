# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The way to one peer over the services `request_lease` and `run_segment`, signed both ways.

Calls go out from any thread; answers, time-outs and pings come through the executor that spins
the node. Nothing here waits in that thread. A payload may have 32768 bytes.
"""
from __future__ import annotations

import array
import math
import threading
from dataclasses import replace
from typing import Any, Callable, Dict, Optional, Tuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from crowdhmt_ros.errors import CodecError, OffloadError
from crowdhmt_ros.offload.breaker import Breaker
from crowdhmt_ros.offload.call_book import PING_TIMEOUT_S, CallBook
from crowdhmt_ros.offload.calls import Asker, Entry, EntryPending
from crowdhmt_ros.offload.channel import (
    ROS,
    ROS_PAYLOAD_MAX_BYTES,
    Call,
    ChannelHealth,
    Lease,
    LeaseWish,
)
from crowdhmt_ros.offload.messages import (
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    RunReply,
    RunRequest,
    canonical,
)
from crowdhmt_ros.offload.signing import sign, verify
from crowdhmt_ros.srv import RequestLease, RunSegment

TICK_S = 0.05
PING_SEGMENT = 'ping'
NO_DIGEST = '0' * 64
"""A run of no segment under no lease: the door answers it at once, signed, with a refusal."""


class RosChannel:
    """
    A channel to one peer over services.

    :param node: spun by one thread, which is never the one that waits
    :param peer: robot_id of the peer, which is its namespace
    :param secret: shared with the peer
    :param asker: this robot, as it stands in requests
    :param changed: called when the peer may have become reachable or not
    """

    kind = ROS

    def __init__(self, node: Node, peer: str, *, secret: bytes, asker: Asker,
                 changed: Callable[[], None] = lambda: None,
                 breaker: Optional[Breaker] = None) -> None:
        self.book = CallBook(peer, asker, changed=changed, breaker=breaker)
        self.robot_id = peer
        self._node = node
        self._secret = secret
        self._asker = asker
        self._futures: Dict[int, Tuple[Any, Any, Entry]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._sent_bytes = 0
        self._received_bytes = 0
        self._leases = node.create_client(RequestLease, f'/{peer}/request_lease')
        self._runs = node.create_client(RunSegment, f'/{peer}/run_segment')
        self._timer = node.create_timer(
            TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # What callers use

    def lease(self, wish: LeaseWish, timeout_s: float) -> Lease:
        """
        Ask for a lease and wait for the answer; not from the thread that spins the node.

        :raises OffloadError: refused (with the peer's reason), or no answer in time
        """
        self.book.refuse_when_broken()
        entry = self.book.enter_lease(wish, timeout_s)
        self._send_lease(entry)
        if not entry.done.wait(timeout_s):
            self.cancel(entry)
            if not entry.done.is_set():
                raise OffloadError(f'{self.robot_id} did not answer the request for a lease '
                                   f'within {timeout_s:g} s')
        return self.book.lease_from(entry, wish)

    def submit(self, call: Call) -> EntryPending:
        """
        Send a call.

        :raises OffloadError: at once, when the peer is known not to be reachable, the breaker
            is open, the payload is too large, or no time is left
        """
        self.book.refuse_when_broken()
        if len(call.payload) > ROS_PAYLOAD_MAX_BYTES:
            raise OffloadError(f'{call.segment_id}: a payload of {len(call.payload)} bytes, the '
                               f'service takes {ROS_PAYLOAD_MAX_BYTES}; use channel zeromq')
        if call.budget_s <= 0.0:
            raise OffloadError(f'no time is left to ask {self.robot_id}')
        entry = self.book.enter_call(call)
        self._send_run(entry, entry.request)
        return EntryPending(entry, self.cancel)

    def cancel(self, entry: Entry) -> None:
        """Forget a call."""
        self.book.cancel(entry)
        self._forget(entry.request.request_seq)

    def release(self, lease: Lease) -> None:
        """Let a lease run out: the services have no word for giving it back."""
        self.book.release_of(lease.lease_id)

    def rename(self, lease_id: str, now_called: str) -> None:
        """Let calls under a lease go on under the one that replaced it."""
        self.book.rename(lease_id, now_called)

    def health(self) -> ChannelHealth:
        """Return how the connection does, now."""
        return self.book.health(self._sent_bytes, self._received_bytes)

    def close(self) -> None:
        """Take it down; calls under way fail. In the thread that spins the node."""
        if self._closed:
            return
        self._closed = True
        self._node.destroy_timer(self._timer)
        self.book.down('closed')
        self._sweep()
        self._node.destroy_client(self._leases)
        self._node.destroy_client(self._runs)

    # Sending

    def _send_lease(self, entry: Entry) -> None:
        asked = entry.request
        assert isinstance(asked, LeaseRequest)
        signed = replace(asked, request_seq=0)  # the service carries no number
        request = RequestLease.Request(
            robot_id=asked.robot_id, boot_id=asked.boot_id,
            protocol_version=asked.protocol_version, bundle_sha256=asked.bundle_sha256,
            segment_ids=list(asked.segment_ids), memory_bytes=float(asked.memory_bytes),
            rate_hz=float(asked.rate_hz), duration_s=float(asked.duration_s),
            nonce=_octets(asked.nonce), key_fingerprint=asked.key_fingerprint,
            authentication=_octets(sign(self._secret, canonical(signed))))
        self._send(self._leases, request, entry, self._lease_answered)

    def _send_run(self, entry: Entry, asked: Any) -> None:
        request = RunSegment.Request(
            robot_id=asked.robot_id, lease_id=asked.lease_id, nonce=_octets(asked.nonce),
            request_seq=asked.request_seq, segment_id=asked.segment_id,
            segment_sha256=asked.segment_sha256, codec=asked.codec,
            budget_s=float(asked.budget_s), payload=_octets(asked.payload),
            authentication=_octets(sign(self._secret, canonical(asked))))
        self._sent_bytes += len(asked.payload)
        self._send(self._runs, request, entry, self._run_answered)

    def _send_ping(self) -> None:
        entry = self.book.enter_ping()
        ping = entry.request
        assert isinstance(ping, Ping)
        self._send_run(entry, RunRequest(
            ping.robot_id, ping.boot_id, '', ping.request_seq, ping.nonce, PING_SEGMENT,
            NO_DIGEST, 'raw', PING_TIMEOUT_S, ping.payload))

    def _send(self, client: Any, request: Any, entry: Entry,
              answered: Callable[[Entry, Any], None]) -> None:
        with self._lock:
            if self._closed:
                raise OffloadError(f'the channel to {self.robot_id} is closed')
            future = client.call_async(request)
            self._futures[entry.request.request_seq] = (client, future, entry)
        future.add_done_callback(lambda done: self._arrived(entry, done, answered))

    # In the thread that spins the node

    def _arrived(self, entry: Entry, future: Any, answered: Callable[[Entry, Any], None]) -> None:
        with self._lock:
            self._futures.pop(entry.request.request_seq, None)
        if future.cancelled() or future.exception() is not None:
            return
        try:
            answered(entry, future.result())
        except CodecError:
            self.book.garbage()

    def _lease_answered(self, entry: Entry, response: Any) -> None:
        retry_s = response.retry_after_s
        reply = LeaseReply(
            bytes(response.nonce), 0, response.granted, response.reason, response.lease_id,
            response.duration_s, retry_s if math.isfinite(retry_s) else None)
        self._take(reply, response, entry)

    def _run_answered(self, entry: Entry, response: Any) -> None:
        payload = bytes(response.payload)
        self._received_bytes += len(payload)
        reply = RunReply(
            response.lease_id, bytes(response.nonce), response.request_seq, response.segment_id,
            response.ok, response.reason, response.codec, payload, response.queue_s,
            response.run_s)
        self._take(reply, response, entry)

    def _take(self, reply: Any, response: Any, entry: Entry) -> None:
        if not verify(self._secret, canonical(reply), bytes(response.authentication)):
            self.book.garbage()
            return
        if isinstance(entry.request, Ping) and isinstance(reply, RunReply):
            self.book.arrived(Pong(self.robot_id, '', reply.nonce, reply.request_seq))
        elif isinstance(reply, LeaseReply):
            self.book.arrived(replace(reply, request_seq=entry.request.request_seq))
        else:
            self.book.arrived(reply)

    def _tick(self) -> None:
        if self._closed:
            return
        if self._leases.service_is_ready() and self._runs.service_is_ready():
            self.book.up()
        else:
            self.book.down('its services request_lease and run_segment are not there: '
                           'set ros_door on it to true')
        self.book.expire()
        self._sweep()
        if self.book.ping_due():
            self._send_ping()

    def _sweep(self) -> None:
        """Take back what nobody waits for."""
        with self._lock:
            over = [number for number, (_, _, entry) in self._futures.items()
                    if entry.done.is_set()]
        for number in over:
            self._forget(number)

    def _forget(self, number: int) -> None:
        with self._lock:
            client, future, _ = self._futures.pop(number, (None, None, None))
        if future is not None and not future.done():
            client.remove_pending_request(future)


def _octets(content: bytes) -> Any:
    return array.array('B', content)
