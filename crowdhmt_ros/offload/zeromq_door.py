# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The door for data: one ROUTER socket with CURVE in front of a segment server.

One thread owns the socket and does nothing that takes time: it reads, authenticates by the key of
the connection, answers pings, and hands the rest to the server's threads, whose answers come back
through a queue. What cannot be sent at once is dropped: its robot has fallen back by then.
"""
from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import zmq
from zmq.utils.monitor import recv_monitor_message

from crowdhmt_ros.errors import CodecError, OffloadError, TrustError
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload import zap
from crowdhmt_ros.offload.messages import (
    HEADER_MAX_BYTES,
    Answer,
    Cancel,
    LeaseRequest,
    Ping,
    Pong,
    Refusal,
    Release,
    RunRequest,
    pack,
    unpack,
)
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.offload.trust import KeyStore

HIGH_WATER_MARK = 2
"""Messages that wait for one peer in either direction."""
HANDSHAKE_MS = 2000
KEEPALIVE_S = 5
"""
Connections of robots that are gone end by TCP's own probes. Heartbeats of ZeroMQ are off: in
libzmq 4.3.4 and 4.3.5 they abort the process when a connection ends while its receiving queue is
full (libzmq 4364, 4767), as it is after this process was stopped and goes on.
"""
BACKLOG = 16
CURVE_EXTRA_BYTES = 64
"""What encryption adds to a part."""
POLL_MS = 250
JOIN_S = 2.0
HEARD_S = 3.0
"""A peer that is silent for longer is not there: idle ones ping."""
AT_ONCE = 16
"""Messages read before answers are sent again."""
LOOPBACK = 'tcp://127.0.0.1:0'
UNKNOWN_HOSTS = ('0.0.0.0', '::', '[::]', '*')
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DoorHealth:
    """
    How a door does.

    :param peers: robots heard in the last seconds
    :param received: messages that were readable
    :param sent: answers
    :param dropped: answers whose robot was gone or did not read
    :param received_bytes: payloads in
    :param sent_bytes: payloads out
    :param problem: what the last refused connection did wrong, '' before the first
    """

    peers: Tuple[str, ...] = ()
    received: int = 0
    sent: int = 0
    dropped: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    problem: str = ''


class ZeroMQDoor:
    """
    Lets trusted robots in.

    :param server: behind the door
    :param keys: own pair, and who is trusted; read again at each handshake
    :param boot_id: own one, for pongs; asked each time
    :param address: 'tcp://HOST:PORT', '' for loopback; port 0 takes any free one
    :param advertise_host: what peers are told to connect to, '' for the bound host
    :raises OffloadError: the address cannot be bound
    """

    def __init__(self, server: SegmentServer, keys: KeyStore, *,
                 boot_id: Callable[[], str] = str, address: str = '',
                 advertise_host: str = '') -> None:
        self._server = server
        self._keys = keys
        self._boot_id = boot_id
        self.failure = ''
        self._health = DoorHealth()
        self._heard: Dict[str, float] = {}
        self._outgoing: Deque[Tuple[bytes, Answer]] = deque()
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._woken.setblocking(False)
        self._stopping = False
        self._thread: Optional[threading.Thread] = None
        # A context of its own: only its sockets ask this door's ZAP handler.
        self._context = zmq.Context()
        try:
            self._socket = self._bound(address or LOOPBACK)
            self.address = _told(self._socket.last_endpoint.decode(), advertise_host)
        except (zmq.ZMQError, OffloadError):
            self._waking.close()
            self._woken.close()
            self._context.destroy(linger=0)
            raise

    def start(self) -> None:
        """Let robots in."""
        self._thread = threading.Thread(target=self._work, name='offload-door', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send nothing more and close; safe to call twice."""
        if self._stopping:
            return
        self._stopping = True
        self._wake()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        else:
            self._close_sockets()

    def health(self) -> DoorHealth:
        """Return how it does, now."""
        since_s = time.monotonic() - HEARD_S
        return replace(self._health, peers=tuple(sorted(
            peer for peer, heard_s in tuple(self._heard.items()) if heard_s >= since_s)))

    # Setting up

    def _bound(self, address: str) -> Any:
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(zap.ENDPOINT)
        router = self._context.socket(zmq.ROUTER)
        for option, value in (
                (zmq.CURVE_SERVER, 1), (zmq.CURVE_SECRETKEY, self._keys.secret),
                (zmq.ZAP_DOMAIN, b'crowdhmt'), (zmq.LINGER, 0), (zmq.ROUTER_MANDATORY, 1),
                (zmq.SNDHWM, HIGH_WATER_MARK), (zmq.RCVHWM, HIGH_WATER_MARK),
                (zmq.BACKLOG, BACKLOG), (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
                (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S),
                (zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_S), (zmq.TCP_KEEPALIVE_CNT, 3),
                (zmq.IPV6, int('[' in address)),
                (zmq.MAXMSGSIZE, max(self._server.max_payload_bytes, HEADER_MAX_BYTES)
                 + CURVE_EXTRA_BYTES)):
            router.setsockopt(option, value)
        try:
            router.bind(address)
        except zmq.ZMQError as error:
            raise OffloadError(_why_not_bound(address, error)) from error
        self._monitor = router.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        self._monitor.linger = 0
        return router

    # The thread

    def _work(self) -> None:
        poller = zmq.Poller()
        handlers = {self._socket: self._receive, self._zap: self._authenticate,
                    self._monitor: self._note, self._woken.fileno(): self._send_all}
        for source in handlers:
            poller.register(source, zmq.POLLIN)
        try:
            while not self._stopping:
                for source, _ in poller.poll(POLL_MS):
                    handlers[source]()
        except Exception as error:
            self.failure = 'nobody is let in any more: %s: %s' % (type(error).__name__, error)
            _log.error('%s', self.failure)
            raise
        finally:
            self._close_sockets()

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take(parts)

    def _take(self, parts: List[Any]) -> None:
        route, server = parts[0].bytes, self._server
        try:
            message = unpack([part.buffer for part in parts[1:]],
                             max_payload_bytes=server.max_payload_bytes)
        except CodecError as error:
            server.count(why.UNREADABLE)
            self._answer(route, Refusal(str(error)))
            return
        payload_bytes = sum(len(part) for part in parts[2:])
        self._health = replace(self._health, received=self._health.received + 1,
                               received_bytes=self._health.received_bytes + payload_bytes)
        peer = self._peer_of(parts[0], isinstance(message, LeaseRequest))
        if peer is None:
            server.count(why.UNKNOWN_KEY)
            self._answer(route, Refusal('%s does not trust this key any more'
                                        % server.settings.robot_id))
            return
        self._heard[peer] = time.monotonic()
        if isinstance(message, RunRequest):
            server.run(peer, message, lambda reply: self._answer(route, reply))
        elif isinstance(message, Ping):
            self._pong(route, peer, message)
        elif isinstance(message, LeaseRequest):
            server.lease_later(peer, message, lambda reply: self._answer(route, reply))
        elif isinstance(message, Cancel):
            server.cancel(peer, message)
        elif isinstance(message, Release):
            server.release(peer, message)
        else:
            server.count(why.UNREADABLE)
            self._answer(route, Refusal('%s is an answer, a request was expected'
                                        % type(message).__name__))

    def _peer_of(self, part: Any, again: bool) -> Optional[str]:
        """Return whose connection a message came by, as trusted now; `again` reads the keys."""
        try:
            if again:
                self._keys.reload()
            return self._keys.robot_of(str(part.get('User-Id')).encode())
        except TrustError as error:
            self._health = replace(self._health, problem=str(error))
            return None

    def _pong(self, route: bytes, peer: str, ping: Ping) -> None:
        refused = self._server.refusal_of_ping(peer, ping)
        if refused:
            self._answer(route, Refusal(refused, ping.nonce, ping.request_seq))
            return
        self._answer(route, Pong(self._server.settings.robot_id, self._boot_id(), ping.nonce,
                                 ping.request_seq, len(ping.payload)))

    def _answer(self, route: bytes, answer: Answer) -> None:
        """Send an answer; from any thread."""
        self._outgoing.append((route, answer))
        if threading.current_thread() is self._thread:
            self._send_all()
        else:
            self._wake()

    def _wake(self) -> None:
        try:
            self._waking.send(b'.')
        except OSError:  # full: it wakes anyway; closed: nobody is left to wake
            return

    def _send_all(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except OSError:  # empty
            pass
        while self._outgoing:
            route, answer = self._outgoing.popleft()
            sent = self._send(route, answer)
            health = self._health
            self._health = replace(
                health, sent=health.sent + sent, dropped=health.dropped + (not sent),
                sent_bytes=health.sent_bytes + sent * len(getattr(answer, 'payload', b'')))

    def _send(self, route: bytes, answer: Answer) -> bool:
        try:
            self._socket.send_multipart([route, *pack(answer)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True

    def _authenticate(self) -> None:
        answer = zap.answer(self._zap.recv_multipart(), self._robot_of, self._refused_key)
        self._zap.send_multipart(answer or [zap.VERSION, b'', b'500', b'no question', b'', b''])

    def _robot_of(self, public: bytes) -> Optional[str]:
        self._keys.reload()
        return self._keys.robot_of(public)

    def _refused_key(self, problem: str) -> None:
        self._server.count(why.UNKNOWN_KEY)
        self._health = replace(self._health, problem='a connection was refused: %s' % problem)

    def _note(self) -> None:
        """Count a connection that ended before anybody was authenticated."""
        recv_monitor_message(self._monitor)
        self._server.count(why.HANDSHAKE)
        self._health = replace(
            self._health, problem='a connection was refused: no proper CURVE handshake')

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._context.destroy(linger=0)
        self._waking.close()
        self._woken.close()


def _told(endpoint: str, advertise_host: str) -> str:
    """Return the address for adverts of a bound endpoint."""
    host, port = endpoint[len('tcp://'):].rsplit(':', 1)
    if advertise_host:
        host = advertise_host
    elif host in UNKNOWN_HOSTS:
        raise OffloadError('address %s is every address of this machine: name the one that peers '
                           'reach it by with advertise_host' % endpoint)
    return 'tcp://%s:%s' % (host, port)


def _why_not_bound(address: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return ('%s is in use by another program: end it, or choose another port (0 takes any '
                'free one)' % address)
    return ('address %s cannot be opened (%s): write tcp://HOST:PORT with an address of this '
            'machine' % (address, zmq.strerror(error.errno or 0)))
