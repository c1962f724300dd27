# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The way to one peer over ZeroMQ: one DEALER with CURVE, owned by one thread (P III-D3).

Who calls packs its message, puts it into a queue, and wakes the thread through an inproc pair;
the thread sends what is not stale and lets waiters go on as answers come in. A monitor tells of
the connection, so that calls fail in the moment in which it is lost.
"""
from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional

import zmq
from zmq.utils.monitor import recv_monitor_message

from crowdhmt_ros.errors import CodecError, OffloadError
from crowdhmt_ros.offload.breaker import Breaker
from crowdhmt_ros.offload.call_book import NOT_YET, CallBook
from crowdhmt_ros.offload.calls import Asker, Entry, EntryPending
from crowdhmt_ros.offload.channel import (
    ZEROMQ,
    Call,
    ChannelHealth,
    Lease,
    LeaseWish,
)
from crowdhmt_ros.offload.link import PROBE_BYTES
from crowdhmt_ros.offload.messages import HEADER_MAX_BYTES, pack, unpack

_log = logging.getLogger(__name__)
HIGH_WATER_MARK = 2
SILENT_S = 1.5
"""
A peer that was asked and has sent nothing for so long gets a new connection: after a cut link the
old one would wait for TCP's own next try. Heartbeats of ZeroMQ are off: in libzmq 4.3.4 and 4.3.5
they abort the process when a connection ends while its receiving queue is full (libzmq 4364,
4767), as it is after a robot was stopped and goes on.
"""
RECONNECT_MS = 100
CONNECT_TIMEOUT_MS = 500
HANDSHAKE_MS = 2000
PAYLOAD_MAX_BYTES = 4 * 1024 * 1024
WITHOUT_COPY_BYTES = 65536
CURVE_EXTRA_BYTES = 64
"""What encryption adds to a part."""
CLOSE_TIMEOUT_S = 2.0
REFUSED_KEY = ('the handshake failed: it does not trust the key of this robot, or its own key is '
               'another one than the trusted; compare `crowdhmt keys show` and `keys list`')
REFUSING = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
WATCHED = (zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
           | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
           | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_CONNECT_RETRIED)


class _Outgoing:
    """A message that waits to be sent; dropped when nobody wants it after `until_s`."""

    __slots__ = ('entry', 'frames', 'until_s')

    def __init__(self, frames: List[bytes], entry: Optional[Entry], until_s: float) -> None:
        self.frames = frames
        self.entry = entry
        self.until_s = until_s


class ZeroMQChannel:
    """
    A channel to one peer; pings it by itself, when nothing else goes over it.

    :param peer: robot_id of the peer
    :param address: of its door, 'tcp://host:port'
    :param server_key: its public key, Z85
    :param public_key: of this robot, Z85
    :param secret_key: of this robot, Z85
    :param asker: this robot, as it stands in requests
    :param max_payload_bytes: longest payload in either direction
    :param probe_bytes: payload of every second ping; the peer ends a connection that brings
        more than its own bundle can ask for
    :param changed: called in any thread when the peer may have become reachable or not
    :raises OffloadError: the address is none
    """

    kind = ZEROMQ

    def __init__(self, peer: str, address: str, *, server_key: bytes, public_key: bytes,
                 secret_key: bytes, asker: Asker, max_payload_bytes: int = PAYLOAD_MAX_BYTES,
                 probe_bytes: int = PROBE_BYTES,
                 changed: Callable[[], None] = lambda: None,
                 breaker: Optional[Breaker] = None) -> None:
        self.book = CallBook(peer, asker, changed=changed, breaker=breaker,
                             probe_bytes=min(probe_bytes, max_payload_bytes))
        self.robot_id = peer
        self.address = address
        self._max_payload_bytes = max_payload_bytes
        self._outbox: Deque[_Outgoing] = deque()
        self._closing = False
        self._sent_bytes = 0
        self._received_bytes = 0
        self._keys = (server_key, public_key, secret_key)
        self._silent_since_s = float('inf')
        self._context = zmq.Context()
        try:
            self._socket = self._open()
        except (zmq.ZMQError, ValueError) as error:
            self._context.destroy(linger=0)
            raise OffloadError(f'{peer}: no connection to {address!r} can be made ({error}); its '
                               'advert must name tcp://host:port') from error
        self._awake = threading.Lock()
        self._bell = self._pair(zmq.Socket.bind)
        self._wake = self._pair(zmq.Socket.connect)
        self._thread = threading.Thread(target=self._run, name=f'channel-{peer}', daemon=True)
        self._thread.start()

    # What callers use

    def lease(self, wish: LeaseWish, timeout_s: float) -> Lease:
        """
        Ask for a lease and wait for the answer.

        :raises OffloadError: refused (with the peer's reason), or no answer in time
        """
        self.book.refuse_when_broken()
        with self.book.lock:
            entry = self.book.enter_lease(wish, timeout_s)
            self._put(_Outgoing(pack(entry.request), entry, entry.until_s))
        self._ring()
        if not entry.done.wait(timeout_s):
            self.book.cancel(entry)
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
        if len(call.payload) > self._max_payload_bytes:
            raise OffloadError(f'{call.segment_id}: a payload of {len(call.payload)} bytes, this '
                               f'channel takes {self._max_payload_bytes}')
        if call.budget_s <= 0.0:
            raise OffloadError(f'no time is left to ask {self.robot_id}')
        with self.book.lock:
            entry = self.book.enter_call(call)
            self._put(_Outgoing(pack(entry.request), entry, entry.until_s))
        self._ring()
        return EntryPending(entry, self.cancel)

    def cancel(self, entry: Entry) -> None:
        """Forget a call; one that was not sent yet never is."""
        if not self.book.cancel(entry):
            return
        with self.book.lock:
            waiting = [out for out in self._outbox if out.entry is entry]
            if waiting:
                self._outbox.remove(waiting[0])
                return
            self._put(_Outgoing(pack(self.book.cancel_of(entry)), None,
                                time.monotonic() + 1.0))
        self._ring()

    def release(self, lease: Lease) -> None:
        """Give a lease back; never waits."""
        with self.book.lock:
            self._put(_Outgoing(pack(self.book.release_of(lease.lease_id)), None,
                                time.monotonic() + 1.0))
        self._ring()

    def rename(self, lease_id: str, now_called: str) -> None:
        """Let calls under a lease go on under the one that replaced it."""
        self.book.rename(lease_id, now_called)

    def health(self) -> ChannelHealth:
        """Return how the connection does, now."""
        return self.book.health(self._sent_bytes, self._received_bytes)

    def close(self) -> None:
        """Take it down; calls under way fail. Releases that were just given still go out."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._wake.close(0)
            self._context.term()

    # The socket

    def _open(self) -> Any:
        server_key, public_key, secret_key = self._keys
        socket = self._context.socket(zmq.DEALER)
        for option, value in (
                (zmq.SNDHWM, HIGH_WATER_MARK), (zmq.RCVHWM, HIGH_WATER_MARK), (zmq.LINGER, 0),
                (zmq.IMMEDIATE, 1),
                (zmq.MAXMSGSIZE, max(self._max_payload_bytes, HEADER_MAX_BYTES)
                 + CURVE_EXTRA_BYTES),
                (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS),
                (zmq.HANDSHAKE_IVL, HANDSHAKE_MS), (zmq.CURVE_SERVERKEY, server_key),
                (zmq.CURVE_PUBLICKEY, public_key), (zmq.CURVE_SECRETKEY, secret_key)):
            socket.setsockopt(option, value)
        self._monitor = socket.get_monitor_socket(WATCHED)
        socket.connect(self.address)
        return socket

    def _pair(self, attach: Callable[[Any, str], Any]) -> Any:
        socket = self._context.socket(zmq.PAIR)
        socket.setsockopt(zmq.LINGER, 0)
        attach(socket, 'inproc://wake')
        return socket

    def _put(self, outgoing: _Outgoing) -> None:
        self._outbox.append(outgoing)

    def _ring(self) -> None:
        with self._awake:
            if not self._wake.closed:
                with contextlib.suppress(zmq.Again):  # enough rings wait to be heard
                    self._wake.send(b'', zmq.NOBLOCK)

    # The thread

    def _run(self) -> None:
        blocked = False
        poller = self._poller()
        while not self._closing:
            poller.modify(self._socket, zmq.POLLIN | (zmq.POLLOUT if blocked else 0))
            ready = dict(poller.poll(self._pause_ms()))
            if self._bell in ready:  # first what somebody waits for, then the book-keeping
                self._hear()
                blocked = not self._send()
            if ready.get(self._socket, 0) & zmq.POLLIN:
                self._receive()
                time.sleep(0)  # who waits for the answer goes on before this thread does
            if self._monitor in ready:
                self._watch()
            self.book.expire()
            if self.book.ping_due():
                self._ping()
            if time.monotonic() - self._silent_since_s >= SILENT_S:
                self._connect_anew()
                poller = self._poller()
            blocked = not self._send()
        self._send()
        self.book.down('closed')
        self._close_socket()
        self._bell.close(0)

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        for socket in (self._socket, self._bell, self._monitor):
            poller.register(socket, zmq.POLLIN)
        return poller

    def _pause_ms(self) -> Optional[int]:
        moment_s = min(self.book.next_moment_s(), self._silent_since_s + SILENT_S)
        if moment_s == float('inf'):
            return None
        return max(0, math.ceil(1000.0 * (moment_s - time.monotonic())))

    def _connect_anew(self) -> None:
        self._lose(f'it has sent nothing for {SILENT_S:g} s')
        self._close_socket()
        self._socket = self._open()

    def _close_socket(self) -> None:
        self._silent_since_s = float('inf')
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _hear(self) -> None:
        try:
            while True:
                self._bell.recv(zmq.NOBLOCK)
        except zmq.Again:
            return

    def _ping(self) -> None:
        with self.book.lock:
            entry = self.book.enter_ping()
            self._put(_Outgoing(pack(entry.request), entry, entry.until_s))

    def _send(self) -> bool:
        """Send what is wanted still; False when the connection takes no more for now."""
        while True:
            with self.book.lock:
                if not self._outbox:
                    return True
                outgoing = self._outbox.popleft()
                entry = outgoing.entry
                if outgoing.until_s <= time.monotonic() or (entry and entry.done.is_set()):
                    continue
            header, payload = outgoing.frames
            try:
                self._socket.send(header, zmq.NOBLOCK | zmq.SNDMORE)
                self._socket.send(payload, zmq.NOBLOCK, copy=len(payload) < WITHOUT_COPY_BYTES)
            except zmq.Again:
                with self.book.lock:
                    self._outbox.appendleft(outgoing)
                return False
            self._sent_bytes += len(header) + len(payload)
            if entry is not None:
                self._silent_since_s = min(self._silent_since_s, time.monotonic())

    def _receive(self) -> None:
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._silent_since_s = float('inf')
            frames = [part.buffer for part in parts]
            self._received_bytes += sum(len(frame) for frame in frames)
            try:
                answer = unpack(frames, max_payload_bytes=self._max_payload_bytes)
            except CodecError as error:
                self.book.garbage()
                _log.debug('%s: an answer was dropped: %s', self.robot_id, error)
                continue
            self.book.arrived(answer)

    def _watch(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor, zmq.NOBLOCK)['event']
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.book.up()
            elif event == zmq.EVENT_DISCONNECTED and self.book.connected:
                self._lose('the connection is lost')
            elif event in REFUSING:
                self._lose(REFUSED_KEY)
            elif self.book.problem not in ('', NOT_YET):  # the cause is told already
                self._lose(self.book.problem)
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self._lose(f'nobody answers at {self.address}')
            else:
                self._lose(REFUSED_KEY)

    def _lose(self, problem: str) -> None:
        self._silent_since_s = float('inf')
        with self.book.lock:
            self._outbox.clear()
            self.book.down(problem)
