# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A real offload_server with both doors, and those who have no right to what is behind them.

The attackers hear everything that the rightful robot sends, choose what they send, and own the
key of a third robot that the server trusts too.
"""
from __future__ import annotations

import array
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import rclpy  # noqa: TID251 - the bench runs the real node
import zmq
from rclpy.executors import SingleThreadedExecutor  # noqa: TID251
from rclpy.node import Node  # noqa: TID251
from rclpy.parameter import Parameter  # noqa: TID251
from zmq.utils.monitor import recv_monitor_message

from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.offload_server import OffloadServerNode
from crowdhmt_ros.offload.codec import encode_image
from crowdhmt_ros.offload.messages import (
    LeaseReply,
    LeaseRequest,
    Message,
    Ping,
    Pong,
    Release,
    RunReply,
    RunRequest,
    canonical,
    pack,
    unpack,
)
from crowdhmt_ros.offload.signing import sign
from crowdhmt_ros.offload.trust import KeyStore, throw_away
from crowdhmt_ros.srv import RequestLease, RunSegment  # noqa: TID251

SEED = 20260721
ANSWER_S = 5.0
NO_ANSWER_S = 2.0
COUNTED_S = 2.0
CONTROL_EVERY = 50
HANDSHAKES_PER = 10
"""Of so many attempts at the ZeroMQ door one is a connection that must not come about."""
Attempt = Callable[[], bool]
"""Sends one request that nobody may send; returns whether it was granted."""


class World:
    """The server, the rightful vehicle, the trusted scout, and numbers for requests."""

    def __init__(self, node: OffloadServerNode, client: Node, folders: Dict[str, Path]) -> None:
        self.node = node
        self.server = node.serving.server
        self.keys = {name: KeyStore(folder) for name, folder in folders.items()}
        self.secrets = {n: k.secret_with('drone') for n, k in self.keys.items() if n != 'drone'}
        self.random = random.Random(SEED)
        self.seqs = {name: itertools.count(1) for name in ('vehicle', 'scout', 'mallory')}
        bundle = node.engine.bundle
        self.bundle_sha256 = bundle.sha256
        self.segment_id = bundle.segment_for(bundle.manifest.front[-1])
        self.segment_sha256 = node.engine.segments[self.segment_id].sha256
        height, width = bundle.input.shape[2:]
        self.picture = encode_image(np.full((height, width, 3), 99, np.uint8))
        self.lines = {name: Line(self.keys[name], node.serving.door.address,
                                 self.keys['drone'].public) for name in ('vehicle', 'scout')}
        self._leases = client.create_client(RequestLease, topics.REQUEST_LEASE.name)
        self._runs = client.create_client(RunSegment, topics.RUN_SEGMENT.name)
        assert self._leases.wait_for_service(10.0)
        assert self._runs.wait_for_service(10.0)
        self.lease_ids: Dict[str, str] = {}
        self.heard: Dict[str, List[Any]] = {'zeromq': [], 'ros': []}

    def wish(self, robot_id: str, *, numbered: bool = True) -> LeaseRequest:
        """Return a wish for a lease; the ROS door's carries no number."""
        return LeaseRequest(
            robot_id, f'{robot_id}-boot', next(self.seqs[robot_id]) if numbered else 0,
            os.urandom(16), self.bundle_sha256, (self.segment_id,), 1e6, 20.0, 30.0)

    def frame(self, robot_id: str, lease_id: str) -> RunRequest:
        """Return a request for one frame, as the vehicle's program would make it."""
        return RunRequest(
            robot_id, 'vehicle-boot', lease_id, next(self.seqs[robot_id]), os.urandom(16),
            self.segment_id, self.segment_sha256, 'jpeg', 5.0, self.picture)

    # The rightful robot

    def control(self) -> bool:
        """Ask as the vehicle may, at both doors, and keep what an eavesdropper would hear."""
        wish = self.wish('vehicle')
        lease = self.lines['vehicle'].ask(pack(wish))
        if not granted(lease):
            return False
        self.lease_ids['zeromq'] = lease.lease_id
        frame = self.frame('vehicle', lease.lease_id)
        ran = granted(self.lines['vehicle'].ask(pack(frame)))
        ping = Ping('vehicle', 'vehicle-boot', next(self.seqs['vehicle']), os.urandom(16))
        ran &= granted(self.lines['vehicle'].ask(pack(ping)))
        self.heard['zeromq'] = [pack(wish), pack(frame), pack(ping)]
        return ran and self._control_ros()

    def _control_ros(self) -> bool:
        call = lease_call(self.wish('vehicle', numbered=False), self.secrets['vehicle'])
        lease = self.ask_ros(call)
        if not lease.granted:
            return False
        self.lease_ids['ros'] = lease.lease_id
        run = run_call(self.frame('vehicle', lease.lease_id), self.secrets['vehicle'])
        self.heard['ros'] = [call, run]
        return bool(self.ask_ros(run).ok)

    def ask_ros(self, call: Any) -> Any:
        """Call a service and wait; the executor spins in the main thread."""
        client = self._leases if isinstance(call, RequestLease.Request) else self._runs
        there = threading.Event()
        future = client.call_async(call)
        future.add_done_callback(lambda _: there.set())
        if not there.wait(ANSWER_S):
            raise TimeoutError('a service did not answer')
        return future.result()

    # Attempts at the ZeroMQ door

    def zeromq_attempts(self) -> Dict[str, Attempt]:
        """Return kind -> attempt, each new at every call."""
        scout, vehicle = self.lines['scout'], self.lines['vehicle']

        def by(line: Line, message: Message) -> Attempt:
            return lambda: granted(line.ask(pack(message)))

        lease_id, pick = self.lease_ids['zeromq'], self.random.choice
        altered = pick([
            {'segment_sha256': f'{self.random.getrandbits(256):064x}'},
            {'segment_id': 'huge'}, {'codec': 'pickle'}, {'boot_id': 'other'},
            {'lease_id': f'{self.random.getrandbits(64):016x}'}, {'budget_s': 0.0},
            {'payload': self.picture[:-3]}, {'payload': os.urandom(200)}])
        return {
            'false name, lease': by(scout, replace(self.wish('scout'), robot_id='vehicle')),
            'false name, run': by(scout, self.frame('vehicle', lease_id)),
            'false name, ping': by(scout, Ping('vehicle', 'b', 10**9, os.urandom(16))),
            'lease of another': by(scout, self.frame('scout', lease_id)),
            'replayed by another': lambda: granted(scout.ask(pick(self.heard['zeromq']))),
            'replayed': lambda: granted(vehicle.ask(pick(self.heard['zeromq']))),
            'altered': by(vehicle, replace(self.frame('vehicle', lease_id), **altered)),
            'taken back by another': lambda: self._taken_back(lease_id)}

    def _taken_back(self, lease_id: str) -> bool:
        release = Release('scout', 'scout-boot', lease_id, next(self.seqs['scout']),
                          os.urandom(16))
        self.lines['scout'].send(pack(release))
        time.sleep(0.02)
        return not self.server.boot_id_of(lease_id)

    def handshakes(self) -> Dict[str, Attempt]:
        """Return kind -> attempt to connect."""
        public = self.keys['drone'].public
        return {
            'unknown key': lambda: self._connect(zmq.curve_keypair(), public),
            'no key at all': lambda: self._connect(None, public)}

    def _connect(self, own: Any, public: bytes) -> bool:
        line = Line(own, self.node.serving.door.address, public, watch=True)
        try:
            line.send(pack(self.wish('vehicle')))
            return line.gets_through()
        finally:
            line.close()

    # Attempts at the ROS door

    def ros_attempts(self) -> Dict[str, Attempt]:
        """Return kind -> attempt, each new at every call."""
        lease_id = self.lease_ids['ros']
        own, others = self.secrets['vehicle'], self.secrets['scout']
        guess, pick = os.urandom(32), self.random.choice
        stranger = replace(self.wish('mallory', numbered=False))

        def lease(wish: LeaseRequest, secret: bytes) -> Attempt:
            return lambda: bool(self.ask_ros(lease_call(wish, secret)).granted)

        def run(frame: RunRequest, secret: bytes) -> Attempt:
            return lambda: bool(self.ask_ros(run_call(frame, secret)).ok)

        def changed(call: Any, **fields: Any) -> Attempt:
            for name, value in fields.items():
                setattr(call, name, value)
            return lambda: self._granted(self.ask_ros(call))

        wish, frame = self.wish('vehicle', numbered=False), self.frame('vehicle', lease_id)
        return {
            'unknown robot': lease(stranger, guess),
            'guessed secret, lease': lease(wish, guess),
            'guessed secret, run': run(frame, guess),
            'secret of another, lease': lease(wish, others),
            'secret of another, run': run(frame, others),
            'lease of another': run(replace(frame, robot_id='scout'), others),
            'altered lease': changed(lease_call(wish, own), **pick([
                {'duration_s': 31.0}, {'memory_bytes': 5.0}, {'boot_id': 'other'},
                {'nonce': octets(os.urandom(16))}, {'segment_ids': []},
                {'bundle_sha256': 'f' * 64}, {'robot_id': 'scout'},
                {'authentication': octets(b'')}, {'nonce': octets(b'short')}])),
            'altered run': changed(run_call(frame, own), **pick([
                {'payload': octets(self.picture[:-1] + b'\0')}, {'budget_s': 9.0},
                {'request_seq': 10**9}, {'segment_sha256': 'f' * 64}, {'codec': 'raw'},
                {'nonce': octets(os.urandom(16))}, {'lease_id': 'none'},
                {'payload': octets(bytes(40000))}, {'authentication': octets(os.urandom(32))}])),
            'replayed': lambda: self._granted(self.ask_ros(pick(self.heard['ros'])))}

    @staticmethod
    def _granted(response: Any) -> bool:
        return bool(getattr(response, 'granted', False) or getattr(response, 'ok', False))

    def close(self) -> None:
        """End the connections."""
        for line in self.lines.values():
            line.close()


class Line:
    """One DEALER connection; `own` is a KeyStore, a key pair, or None for plain text."""

    def __init__(self, own: Any, address: str, public: bytes, *, watch: bool = False) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        if own is not None:
            pair = (own.public, own.secret) if isinstance(own, KeyStore) else own
            self._socket.curve_publickey, self._socket.curve_secretkey = pair
            self._socket.curve_serverkey = public
        self._monitor = self._socket.get_monitor_socket() if watch else None
        self._socket.connect(address)

    def send(self, parts: Sequence[bytes]) -> None:
        """Send without waiting for anything."""
        self._socket.send_multipart(list(parts))

    def ask(self, parts: Sequence[bytes]) -> Optional[Message]:
        """Send and return the answer, None where none came."""
        self.send(parts)
        if not self._socket.poll(ANSWER_S * 1000):
            return None
        return unpack(self._socket.recv_multipart(), max_payload_bytes=1 << 22)

    def gets_through(self) -> bool:
        """Wait for the connection to be refused; True when it is not, or anything is answered."""
        failed = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
                  zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED)
        deadline_s = time.monotonic() + NO_ANSWER_S
        while time.monotonic() < deadline_s:
            if self._socket.poll(0):
                return True
            if self._monitor.poll(50):
                event = recv_monitor_message(self._monitor)['event']
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    return True
                if event in failed:
                    return bool(self._socket.poll(20))
        return False

    def close(self) -> None:
        """Close it."""
        self._socket.disable_monitor()
        self._context.destroy(linger=0)


def granted(answer: Optional[Message]) -> bool:
    """Whether an answer gives anything away."""
    return (isinstance(answer, Pong) or (isinstance(answer, LeaseReply) and answer.granted)
            or (isinstance(answer, RunReply) and answer.ok))


def octets(content: bytes) -> Any:
    """Return bytes as a message field."""
    return array.array('B', content)


def lease_call(asked: LeaseRequest, secret: bytes) -> RequestLease.Request:
    """Return the signed service request."""
    return RequestLease.Request(
        robot_id=asked.robot_id, boot_id=asked.boot_id, protocol_version=asked.protocol_version,
        bundle_sha256=asked.bundle_sha256, segment_ids=list(asked.segment_ids),
        memory_bytes=asked.memory_bytes, rate_hz=asked.rate_hz, duration_s=asked.duration_s,
        nonce=octets(asked.nonce), key_fingerprint=asked.key_fingerprint,
        authentication=octets(sign(secret, canonical(asked))))


def run_call(asked: RunRequest, secret: bytes) -> RunSegment.Request:
    """Return the signed service request."""
    return RunSegment.Request(
        robot_id=asked.robot_id, lease_id=asked.lease_id, nonce=octets(asked.nonce),
        request_seq=asked.request_seq, segment_id=asked.segment_id,
        segment_sha256=asked.segment_sha256, codec=asked.codec, budget_s=asked.budget_s,
        payload=octets(asked.payload), authentication=octets(sign(secret, canonical(asked))))


def attack(world: World, count: int) -> Dict[str, Any]:
    """
    Make COUNT attempts, half at each door.

    :returns: attempts, accepted and uncounted by kind, and rightful requests refused
    """
    attempts: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    turned_away = 0
    for number in range(count):
        if number % CONTROL_EVERY == 0:
            turned_away += not world.control()
        door = 'zeromq' if number % 2 else 'ros'
        turn = number // 2  # of each door's kinds in turn, so that all are tried equally often
        if door == 'ros':
            kinds = world.ros_attempts()
        elif turn % HANDSHAKES_PER == 0:
            kinds, turn = world.handshakes(), turn // HANDSHAKES_PER
        else:
            kinds = world.zeromq_attempts()
        kind = sorted(kinds)[turn % len(kinds)]
        name, before = f'{door}: {kind}', refusals(world)
        attempts[name] += 1
        accepted[name] += kinds[kind]()
        uncounted[name] += not counted(world, before)
    turned_away += not world.control()
    return {'attempts': dict(attempts), 'accepted': +accepted, 'uncounted': +uncounted,
            'turned_away': turned_away, 'refused': dict(world.server.health().refused)}


def refusals(world: World) -> int:
    """Return all refusals so far."""
    return sum(world.server.health().refused.values())


def counted(world: World, before: int) -> bool:
    """Whether a further refusal is counted, now or very soon."""
    deadline_s = time.monotonic() + COUNTED_S
    while refusals(world) <= before:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.002)
    return True


def main() -> int:
    """Attack and print."""
    options = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folders = dict(throw_away(Path(folder), ('vehicle', 'scout', 'drone')))
        rclpy.init()
        node = OffloadServerNode(namespace='/drone', parameter_overrides=[
            Parameter('keys_dir', value=str(folders['drone'])),
            Parameter('bundle', value=options['bundle']), Parameter('ros_door', value=True)])
        client = Node('attacker', namespace='/drone')
        executor = SingleThreadedExecutor()
        for one in (node, client):
            executor.add_node(one)
        node.start()
        result: Dict[str, Any] = {}

        def work() -> None:
            world = World(node, client, folders)
            result.update(attack(world, options['count']))
            world.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            executor.spin_once(timeout_sec=0.05)
        node.close()
        rclpy.try_shutdown()
    if not result:
        return 1
    print(json.dumps(result), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
