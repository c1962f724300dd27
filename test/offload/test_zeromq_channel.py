# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from test.offload.guests import BUNDLE, MAP, TAIL, make_server, until

zmq = pytest.importorskip('zmq')
from crowdhmt_ros.errors import OffloadError  # noqa: E402
from crowdhmt_ros.offload.breaker import SILENCE_S, Breaker  # noqa: E402
from crowdhmt_ros.offload.call_book import Asker, RequestSeq  # noqa: E402
from crowdhmt_ros.offload.channel import Call, LeaseWish  # noqa: E402
from crowdhmt_ros.offload.codec import decode, encode  # noqa: E402
from crowdhmt_ros.offload.messages import (  # noqa: E402
    Cancel,
    LeaseReply,
    LeaseRequest,
    Ping,
    Pong,
    Refusal,
    RunReply,
    RunRequest,
    pack,
    unpack,
)
from crowdhmt_ros.offload.trust import KeyStore, throw_away  # noqa: E402
from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel  # noqa: E402
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = encode('raw', (MAP,))
SUMS = MAP.reshape(-1)[:64].reshape(4, 16).sum(axis=1)
WISH = LeaseWish((TAIL.segment_id,), 1000.0, 20.0, 30.0)


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    folders = throw_away(tmp_path_factory.mktemp('trust') / 'keys', ('vehicle', 'drone'))
    return {name: KeyStore(folder) for name, folder in folders.items()}


class ScriptedDoor:
    """
    A drone that answers as the test says: one ROUTER with CURVE and a thread.

    :param answer: takes a request and returns the parts of every answer to it
    """

    def __init__(self, stores, answer, address='tcp://127.0.0.1:*'):
        self.answer = answer
        self.requests = []
        self.silent_to_pings = False
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.curve_server = True
        self._router.curve_secretkey = stores['drone'].secret
        self._router.bind(address)
        self.address = self._router.last_endpoint.decode()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping:
            if not self._router.poll(20):
                continue
            route, *parts = self._router.recv_multipart()
            request = unpack(parts, max_payload_bytes=1 << 22)
            self.requests.append(request)
            if isinstance(request, Ping):
                answers = [] if self.silent_to_pings else [pack(Pong(
                    'drone', 'd1', request.nonce, request.request_seq, len(request.payload)))]
            else:
                answers = self.answer(request)
            for answer in answers:
                self._router.send_multipart([route, *answer])
        self._context.destroy(linger=0)

    def of_kind(self, kind):
        return [r for r in self.requests if isinstance(r, kind)]

    def close(self):
        self._stopping = True
        self._thread.join(5.0)


def granted(request):
    return pack(LeaseReply(request.nonce, request.request_seq, True, '', 'lease1', 30.0))


def ran(request, **other):
    reply = RunReply(request.lease_id, request.nonce, request.request_seq, request.segment_id,
                     True, '', 'raw', b'logits', 0.001, 0.002)
    return pack(dataclasses.replace(reply, **other))


def well(request):
    if isinstance(request, LeaseRequest):
        return [granted(request)]
    return [ran(request)] if isinstance(request, RunRequest) else []


@pytest.fixture
def opened(stores):
    """Return a function that opens channels and doors; all are closed at the end."""
    made = []

    class Opened:
        def door(self, answer=well, **options):
            made.append(ScriptedDoor(stores, answer, **options))
            return made[-1]

        def channel(self, address, *, wait=True, server_key=None, own=None, **options):
            options.setdefault('probe_bytes', 4096)  # less than the guests' image takes
            own = own or (stores['vehicle'].public, stores['vehicle'].secret)
            found = ZeroMQChannel(
                'drone', address, server_key=server_key or stores['drone'].public,
                public_key=own[0], secret_key=own[1],
                asker=Asker('vehicle', 'v1', BUNDLE, 'fingerprint', RequestSeq()), **options)
            made.append(found)
            if wait:
                until(lambda: found.health().connected)
            return found

    yield Opened()
    for one in reversed(made):
        one.close()


def call(lease_id='lease1', budget_s=5.0, payload=PAYLOAD, segment=TAIL):
    return Call(lease_id, segment.segment_id, segment.sha256, 'raw', budget_s, payload)


@pytest.fixture
def child(stores):
    """Return a function that starts a serving process; returns it and its address."""
    started = []

    def start(address=''):
        process = subprocess.Popen(
            [sys.executable, '-m', 'test.offload.serving_child', str(stores['drone'].folder),
             *([address] if address else [])],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


# With the real door

def test_a_lease_and_a_run_at_a_real_server(stores, opened):
    server = make_server()
    door = ZeroMQDoor(server, stores['drone'], boot_id=lambda: 'd1')
    door.start()
    channel = opened.channel(door.address)
    lease = channel.lease(WISH, 5.0)
    reply = channel.submit(call(lease.lease_id)).wait(5.0)
    assert np.array_equal(decode('raw', reply.payload, TAIL.outputs)[0][0], SUMS)
    assert 0.0 < reply.run_s < reply.round_trip_s
    again = channel.lease(WISH, 5.0)
    assert again.lease_id == lease.lease_id, 'asking again renews'
    channel.release(lease)
    until(lambda: server.free_leases == 4)
    with pytest.raises(OffloadError, match='drone refuses: '):
        channel.submit(call(lease.lease_id)).wait(5.0)
    assert channel.health().refused == 0
    door.close()
    server.stop()


def test_round_trip_and_bandwidth_are_known_soon_after_the_first_handshake(opened):
    channel = opened.channel(opened.door().address)
    until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    health = channel.health()
    assert 0.0 < health.round_trip_s < 0.5
    assert health.sent_bytes > 4096
    assert health.problem == ''


def test_pings_stop_while_calls_flow(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    before = len(door.of_kind(Ping))
    end_s = time.monotonic() + 1.6
    while time.monotonic() < end_s:
        assert channel.submit(call()).wait(5.0) is not None
        time.sleep(0.02)
    assert len(door.of_kind(Ping)) - before <= 1


# What may come back

def test_a_reply_that_comes_twice_counts_once(opened):
    door = opened.door(lambda request: well(request) * 2)
    channel = opened.channel(door.address)
    assert channel.submit(call()).wait(5.0).payload == b'logits'
    until(lambda: channel.health().refused == 1)
    assert channel.submit(call()).wait(5.0).payload == b'logits'


@pytest.mark.parametrize('wrong', [
    {'nonce': b'x' * 16}, {'request_seq': 999999}, {'lease_id': 'lease2'},
    {'segment_id': 'narrow/tail'}])
def test_a_reply_for_another_request_is_dropped_and_counted(opened, wrong):
    door = opened.door(lambda request: [ran(request, **wrong), ran(request)])
    channel = opened.channel(door.address)
    reply = channel.submit(call()).wait(5.0)
    assert reply.payload == b'logits'
    until(lambda: channel.health().refused == 1)


def test_an_answer_of_another_kind_is_dropped_and_counted(opened):
    door = opened.door(lambda request: [granted(request), ran(request)])
    channel = opened.channel(door.address)
    assert channel.submit(call()).wait(5.0).payload == b'logits'
    assert channel.health().refused == 1


@pytest.mark.parametrize('garbage', [
    [b'no json', b''], [b'{}'], [b'', b'', b''], [os.urandom(100), os.urandom(100)],
    pack(Ping('drone', 'd1', 1, b'x' * 16))])
def test_garbage_is_dropped_and_counted(opened, garbage):
    door = opened.door(lambda request: [garbage, ran(request)])
    channel = opened.channel(door.address)
    assert channel.submit(call()).wait(5.0).payload == b'logits'
    assert channel.health().refused == 1


def test_a_late_reply_is_dropped_and_the_next_call_gets_its_own(opened):
    held = []

    def answer(request):
        if not isinstance(request, RunRequest):
            return []
        held.append(request)
        return [] if len(held) == 1 else [ran(held[0], payload=b'old'), ran(request)]

    door = opened.door(answer)
    channel = opened.channel(door.address)
    first = channel.submit(call(budget_s=0.05))
    assert first.wait(0.05) is None
    first.cancel()
    assert channel.submit(call()).wait(5.0).payload == b'logits'
    assert channel.health().refused == 1
    assert [c.cancelled_seq for c in door.of_kind(Cancel)] == [held[0].request_seq]


def test_a_refused_call_says_why(opened):
    door = opened.door(lambda request: [ran(request, ok=False, reason='the queue is full',
                                            payload=b'')])
    channel = opened.channel(door.address)
    with pytest.raises(OffloadError, match='drone refuses: the queue is full'):
        channel.submit(call()).wait(5.0)
    assert channel.health().failures == 1


def test_a_request_that_was_turned_away_unread_fails_at_once(opened):
    door = opened.door(lambda request: [pack(Refusal('a replay', request.nonce,
                                                     request.request_seq))])
    channel = opened.channel(door.address)
    with pytest.raises(OffloadError, match='a replay'):
        channel.submit(call()).wait(5.0)


def test_a_refused_lease_says_why_and_when_to_ask_again(opened):
    door = opened.door(lambda request: [pack(LeaseReply(
        request.nonce, request.request_seq, False, 'all are taken', retry_after_s=3.0))])
    channel = opened.channel(door.address)
    with pytest.raises(OffloadError, match='drone refuses: all are taken'):
        channel.lease(WISH, 5.0)
    assert 2.0 < channel.health().retry_in_s <= 3.0
    with pytest.raises(OffloadError, match='is asked again in'):
        channel.submit(call())


def test_a_lease_that_nobody_answers_is_given_up(opened):
    channel = opened.channel(opened.door(lambda request: []).address)
    with pytest.raises(OffloadError, match='did not answer the request for a lease within 0.1'):
        channel.lease(WISH, 0.1)


# What may be asked

def test_no_door_at_the_address_is_told_at_once_and_in_words(opened):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = 'tcp://127.0.0.1:%d' % free.getsockname()[1]
    channel = opened.channel(address, wait=False)
    until(lambda: 'nobody answers at' in channel.health().problem)
    began_s = time.monotonic()
    with pytest.raises(OffloadError, match='drone cannot be asked: nobody answers at tcp://127'):
        channel.submit(call())
    assert time.monotonic() - began_s < 0.1
    health = channel.health()
    assert not health.connected
    assert health.round_trip_s is None


def test_an_address_that_is_none_is_refused(opened):
    with pytest.raises(OffloadError, match='its advert must name tcp://host:port'):
        opened.channel('nowhere', wait=False)


def test_another_server_key_than_the_trusted_one_never_connects(opened):
    channel = opened.channel(opened.door().address, wait=False,
                             server_key=zmq.curve_keypair()[0])
    time.sleep(0.5)
    assert not channel.health().connected
    with pytest.raises(OffloadError, match='cannot be asked'):
        channel.submit(call())


def test_a_peer_that_does_not_trust_this_robot_is_a_line_and_no_connection(stores, opened):
    server = make_server()
    door = ZeroMQDoor(server, stores['drone'])
    door.start()
    channel = opened.channel(door.address, wait=False, own=zmq.curve_keypair())
    until(lambda: 'does not trust the key of this robot' in channel.health().problem)
    assert not channel.health().connected
    door.close()
    server.stop()


def test_too_large_a_payload_is_refused_here(opened):
    door = opened.door()
    channel = opened.channel(door.address, max_payload_bytes=20000)
    with pytest.raises(OffloadError, match='a payload of 20001 bytes, this channel takes 20000'):
        channel.submit(call(payload=bytes(20001)))
    assert not door.of_kind(RunRequest)


def test_a_call_without_time_is_not_sent(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    with pytest.raises(OffloadError, match='no time is left'):
        channel.submit(call(budget_s=0.0))
    assert not door.of_kind(RunRequest)


def test_numbers_only_rise_over_all_kinds_of_requests(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    lease = channel.lease(WISH, 5.0)
    threads = [threading.Thread(target=lambda: channel.submit(call()).wait(5.0))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.release(lease)
    until(lambda: len(door.of_kind(RunRequest)) == 8)
    numbers = [r.request_seq for r in door.requests]
    assert numbers == sorted(set(numbers))
    assert len({r.nonce for r in door.requests}) == len(numbers)


def test_calls_under_a_lease_that_was_replaced_go_on_under_the_new_one(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    channel.rename('old', 'new')
    channel.submit(call('old')).wait(5.0)
    assert door.of_kind(RunRequest)[0].lease_id == 'new'


def test_a_closed_channel_fails_what_is_under_way_and_can_be_closed_twice(opened):
    channel = opened.channel(opened.door(lambda request: []).address)
    pending = channel.submit(call())
    channel.close()
    channel.close()
    with pytest.raises(OffloadError, match='drone: closed'):
        pending.wait(5.0)
    with pytest.raises(OffloadError, match='cannot be asked: closed'):
        channel.submit(call())


# A peer that goes

def test_calls_without_an_answer_open_the_breaker_and_pings_close_it(opened):
    changes = []
    door = opened.door(lambda request: [])
    channel = opened.channel(door.address, changed=lambda: changes.append(1))
    door.silent_to_pings = True
    time.sleep(SILENCE_S)
    for _ in range(2):
        pending = channel.submit(call(budget_s=0.05))
        assert pending.wait(0.05) is None
        pending.cancel()
    health = channel.health()
    assert health.failures == 2
    assert health.retry_in_s > 0.0
    assert health.connected
    assert changes
    with pytest.raises(OffloadError, match='left requests unanswered'):
        channel.submit(call())
    door.silent_to_pings = False
    door.answer = well
    until(lambda: channel.health().retry_in_s == 0.0)
    assert channel.submit(call()).wait(5.0).payload == b'logits'


def test_a_call_given_up_early_does_not_speak_against_the_peer(opened):
    channel = opened.channel(opened.door(lambda request: []).address)
    for _ in range(3):
        channel.submit(call(budget_s=30.0)).cancel()
    assert channel.health().failures == 0
    assert channel.health().queued == 0


def test_an_idle_peer_that_falls_silent_is_noticed_by_pings(opened):
    door = opened.door()
    channel = opened.channel(door.address)
    until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    door.silent_to_pings = True
    until(lambda: channel.health().retry_in_s > 0.0)


def test_a_killed_peer_fails_the_call_under_way_at_once_and_comes_back(child, opened):
    process, address = child()
    channel = opened.channel(address)
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    pending = channel.submit(call(lease.lease_id, 30.0))
    process.kill()
    began_s = time.monotonic()
    with pytest.raises(OffloadError, match='drone: the connection is lost'):
        pending.wait(30.0)
    assert time.monotonic() - began_s < 1.0, 'silence would take longer'
    with pytest.raises(OffloadError, match='cannot be asked'):
        channel.submit(call(lease.lease_id))
    assert channel.health().retry_in_s > 0.0
    assert channel.health().round_trip_s is None
    child(address)
    until(lambda: channel.health().connected and channel.health().retry_in_s == 0.0, 15.0)
    assert channel.health().reconnects == 1
    until(lambda: channel.health().round_trip_s is not None)
    with pytest.raises(OffloadError, match='drone refuses'):  # its leases are gone with it
        channel.submit(call(lease.lease_id)).wait(5.0)
    assert channel.lease(WISH, 5.0).lease_id != lease.lease_id


def test_a_stopped_peer_leaves_calls_unanswered_and_comes_back(child, opened):
    process, address = child()
    channel = opened.channel(address)
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    time.sleep(SILENCE_S)
    for _ in range(2):
        pending = channel.submit(call(lease.lease_id, 0.05))
        assert pending.wait(0.05) is None
        pending.cancel()
    assert channel.health().retry_in_s > 0.0
    until(lambda: not channel.health().connected, 10.0)
    assert channel.health().problem == 'it has sent nothing for 1.5 s'
    process.send_signal(signal.SIGCONT)
    until(lambda: channel.health().connected and channel.health().retry_in_s == 0.0, 15.0)
    assert channel.submit(call(lease.lease_id)).wait(5.0) is not None


def test_stale_calls_are_never_sent(child, opened):
    process, address = child()
    channel = opened.channel(address, breaker=Breaker(chance=lambda: 0.0))
    lease = channel.lease(WISH, 5.0)
    process.send_signal(signal.SIGSTOP)
    megabyte = bytes(1 << 20)
    pendings = []
    with contextlib.suppress(OffloadError):  # the connection may be lost meanwhile
        for _ in range(20):
            pendings.append(channel.submit(call(lease.lease_id, 0.2, megabyte)))
    time.sleep(0.5)
    stale = [out for out in list(channel._outbox)
             if out.entry is not None and isinstance(out.entry.request, RunRequest)]
    assert pendings
    assert all(out.until_s < time.monotonic() for out in stale)
    before = channel.health().sent_bytes
    process.send_signal(signal.SIGCONT)
    until(lambda: not channel._outbox, 10.0)
    assert channel.health().sent_bytes - before < (1 << 20)
