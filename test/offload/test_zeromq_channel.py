# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import socket
import threading
import time

import numpy as np
import pytest

from test.offload.guests import TAIL, make_server, until

zmq = pytest.importorskip('zmq')
from crowdhmt_ros.errors import OffloadError  # noqa: E402
from crowdhmt_ros.offload.codec import decode  # noqa: E402
from crowdhmt_ros.offload.messages import (  # noqa: E402
    Cancel,
    LeaseReply,
    Ping,
    Refusal,
    RunRequest,
    pack,
)
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor  # noqa: E402
from test.offload.channel_ends import SUMS, WISH, call, granted, ran, well  # noqa: E402

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
