# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.codec import decode, encode, encode_image
from crowdhmt_ros.offload.messages import Cancel, Ping, Release
from test.offload.guests import (
    MAP,
    OTHER,
    TAIL,
    WHOLE,
    Replies,
    lease_request,
    make_server,
    next_seq,
    nonce,
    run_request,
    until,
)

SUMS = MAP.reshape(-1)[:64].reshape(4, 16).sum(axis=1)


@pytest.fixture
def server():
    found = make_server()
    yield found
    found.pool.may_go.set()
    found.stop()


@pytest.fixture
def lease_id(server):
    reply = server.lease('vehicle', lease_request((TAIL.segment_id, WHOLE.segment_id)))
    assert reply.granted, reply.reason
    return reply.lease_id


def answered(server, request, peer='vehicle'):
    replies = Replies()
    server.run(peer, request, replies)
    return replies.wait()


def logits(reply):
    assert reply.ok, reply.reason
    return decode('raw', reply.payload, TAIL.outputs)[0][0]


def release(lease_id, robot_id='vehicle', boot_id='v1'):
    return Release(robot_id, boot_id, lease_id, next_seq(), nonce())


def cancel(request):
    return Cancel('vehicle', 'v1', request.lease_id, next_seq(), nonce(), request.request_seq)


def test_a_tail_is_run_and_the_reply_names_its_request(server, lease_id):
    request = run_request(lease_id)
    reply = answered(server, request)
    assert np.array_equal(logits(reply), SUMS)
    assert (reply.lease_id, reply.nonce, reply.request_seq, reply.segment_id) == (
        lease_id, request.nonce, request.request_seq, TAIL.segment_id)
    assert reply.run_s > 0.0
    assert server.health().served == 1


@pytest.mark.parametrize('codec', ['fp16', 'int8'])
def test_packed_tensors_are_unpacked_first(server, lease_id, codec):
    reply = answered(server, run_request(lease_id, codec=codec, payload=encode(codec, (MAP,))))
    assert np.allclose(logits(reply), SUMS, rtol=0.02)


def test_a_whole_model_takes_the_picture_itself(server, lease_id):
    grey = np.full((16, 24, 3), 128, np.uint8)
    reply = answered(server, run_request(lease_id, WHOLE, 'jpeg', encode_image(grey)))
    assert np.allclose(logits(reply), 16 * 128.0, atol=64.0)


def test_a_lease_is_renewed_by_asking_again_and_a_second_one_stands_beside_it(server):
    first = server.lease('vehicle', lease_request())
    again = server.lease('vehicle', lease_request())
    other = server.lease('vehicle', lease_request((OTHER.segment_id,)))
    assert first.lease_id == again.lease_id != other.lease_id
    assert server.free_leases == 2
    assert server.pool.holds == {TAIL.segment_id: 1, OTHER.segment_id: 1}
    assert 29.0 < again.duration_s <= 30.0


def test_a_lease_ends_with_its_time_and_what_it_held_goes(server, lease_id):
    server.clock.ahead_s = 31.0
    assert 'no lease' in answered(server, run_request(lease_id)).reason
    assert server.free_leases == 4
    assert server.pool.holds == {}


def test_a_renewed_lease_keeps_its_segments_beyond_the_first_end(server, lease_id):
    server.clock.ahead_s = 20.0
    wish = lease_request((TAIL.segment_id, WHOLE.segment_id))
    assert server.lease('vehicle', wish).lease_id == lease_id
    server.clock.ahead_s = 40.0
    assert answered(server, run_request(lease_id)).ok


def test_a_lease_given_back_is_free_for_others_and_nobody_else_can_do_that(server, lease_id):
    server.release('mallory', release(lease_id, 'mallory', 'm1'))
    server.release('vehicle', release('unknown'))
    assert server.free_leases == 3
    assert server.health().refused == {why.LEASE: 2}
    server.release('vehicle', release(lease_id))
    assert server.free_leases == 4
    assert server.pool.holds == {}


def test_no_more_leases_than_allowed_and_the_refusal_says_when_to_ask_again():
    server = make_server(leases=1)
    try:
        assert server.lease('vehicle', lease_request()).granted
        reply = server.lease('other', lease_request(robot_id='other', boot_id='o1'))
        assert not reply.granted
        assert reply.reason == 'drone has granted all its leases'
        assert 29.0 < reply.retry_after_s <= 30.0
        assert server.free_leases == 0
        assert server.health().refused == {why.NO_LEASE: 1}
    finally:
        server.stop()


def test_a_robot_that_started_anew_takes_the_place_of_its_own_idle_lease():
    server = make_server(leases=1)
    try:
        old = server.lease('vehicle', lease_request())
        assert not server.lease('vehicle', lease_request(boot_id='v2')).granted
        server.clock.ahead_s = 3.0
        new = server.lease('vehicle', lease_request(boot_id='v2'))
        assert new.granted
        assert new.lease_id != old.lease_id
        assert server.pool.holds == {TAIL.segment_id: 1}
    finally:
        server.stop()


def test_memory_for_peers_is_bounded_before_and_after_compiling():
    server = make_server(memory_bytes=1500.0)
    try:
        assert server.lease('vehicle', lease_request()).granted
        reply = server.lease('vehicle', lease_request((OTHER.segment_id,)))
        assert 'are left for peers' in reply.reason
        server.pool.bytes_each = 2000.0
        server.clock.ahead_s = 31.0
        reply = server.lease('vehicle', lease_request((OTHER.segment_id,)))
        assert 'with these segments they take' in reply.reason
        assert server.pool.holds == {}
        assert server.health().refused == {why.MEMORY: 2}
    finally:
        server.stop()


def test_a_segment_that_cannot_be_compiled_leaves_nothing_held(server):
    server.pool.failing = {WHOLE.segment_id}
    reply = server.lease('vehicle', lease_request((TAIL.segment_id, WHOLE.segment_id)))
    assert 'cannot compile' in reply.reason
    assert server.pool.holds == {}
    assert server.free_leases == 4


@pytest.mark.parametrize(('changes', 'kind', 'said'), [
    ({'protocol_version': 9}, why.PROTOCOL, 'speaks protocol 1, vehicle asks in 9: update'),
    ({'bundle_sha256': 'c' * 64}, why.BUNDLE, 'give both the same'),
    ({'segment_ids': ('huge/tail',)}, why.SEGMENT, 'drone serves no segment huge/tail'),
    ({'segment_ids': ()}, why.SEGMENT, 'drone serves no segment'),
    ({'robot_id': 'mallory'}, why.NAME, 'the key belongs to vehicle, the request says mallory'),
])
def test_a_wish_that_cannot_be_met_is_refused_in_one_line_and_counted(server, changes, kind, said):
    reply = server.lease('vehicle', lease_request(**changes))
    assert not reply.granted
    assert said in reply.reason
    assert server.health().refused == {kind: 1}
    assert server.pool.holds == {}


@pytest.mark.parametrize(('changes', 'kind', 'said'), [
    ({'lease_id': 'none'}, why.LEASE, 'vehicle has no lease none: ask for one'),
    ({'boot_id': 'v2'}, why.LEASE, 'ask for one'),
    ({'robot_id': 'mallory'}, why.NAME, 'the key belongs to vehicle'),
    ({'segment_id': OTHER.segment_id}, why.SEGMENT, 'the lease covers no segment narrow/tail'),
    ({'segment_sha256': 'f' * 64}, why.DIGEST, 'give both robots the same bundle'),
    ({'codec': 'jpeg'}, why.CODEC, 'segment wide/tail takes raw, fp16, int8, not jpeg'),
    ({'codec': 'pickle'}, why.CODEC, 'not pickle'),
    ({'payload': bytes(1 << 20)}, why.SIZE, '1048576 came'),
    ({'payload': b'short'}, why.PAYLOAD, 'a payload of 5 bytes'),
    ({'codec': 'int8', 'payload': b'\x02' + bytes(40)}, why.PAYLOAD, 'int8'),
    ({'budget_s': 0.0}, why.EXPIRED, 'no time was left'),
])
def test_a_request_that_cannot_be_right_is_refused_in_one_line_and_counted(
        server, lease_id, changes, kind, said):
    reply = answered(server, run_request(**{'lease_id': lease_id, **changes}))
    assert not reply.ok
    assert said in reply.reason
    assert reply.payload == b''
    assert server.health().refused == {kind: 1}
    assert answered(server, run_request(lease_id)).ok, 'the next one is served'


def test_a_picture_of_another_size_is_refused(server, lease_id):
    large = encode_image(np.zeros((32, 32, 3), np.uint8))
    reply = answered(server, run_request(lease_id, WHOLE, 'jpeg', large))
    assert 'a picture of 32 x 32' in reply.reason
    assert server.health().refused == {why.PAYLOAD: 1}


def test_nothing_is_served_twice_whatever_kind_it_is(server, lease_id):
    request, wish = run_request(lease_id), lease_request()
    assert answered(server, request).ok
    assert server.lease('vehicle', wish).granted
    back = release('unknown')
    server.release('vehicle', back)
    ping = Ping('vehicle', 'v1', next_seq(), nonce())
    assert server.refusal_of_ping('vehicle', ping) == ''
    assert 'was here before' in answered(server, request).reason
    assert 'was here before' in server.lease('vehicle', wish).reason
    assert 'was here before' in server.refusal_of_ping('vehicle', ping)
    server.release('vehicle', back)
    assert server.health().refused == {why.REPLAY: 4, why.LEASE: 1}


def test_another_robots_lease_is_of_no_use(server, lease_id):
    reply = answered(server, run_request(lease_id, robot_id='other'), peer='other')
    assert 'other has no lease' in reply.reason


def test_work_that_is_too_late_is_dropped_before_it_runs(server, lease_id):
    server.pool.may_go.clear()
    first, late = Replies(), Replies()
    server.run('vehicle', run_request(lease_id), first)
    until(server.pool.executables[TAIL.segment_id].started.is_set)
    server.run('vehicle', run_request(lease_id, budget_s=0.02), late)
    server.clock.ahead_s = 1.0
    server.pool.may_go.set()
    assert first.wait().ok
    assert 'its time was up' in late.wait().reason
    assert server.health().expired == 1
    assert server.health().served == 1


def test_own_frames_come_first_and_a_guest_may_find_no_gap(server, lease_id):
    server.turns.free = False
    assert 'its time was up' in answered(server, run_request(lease_id)).reason


def test_the_queue_is_short_and_a_cancelled_request_leaves_it(server, lease_id):
    server.pool.may_go.clear()
    running, waiting, refused = Replies(), Replies(), Replies()
    server.run('vehicle', run_request(lease_id), running)
    until(server.pool.executables[TAIL.segment_id].started.is_set)
    queued = [run_request(lease_id) for _ in range(2)]
    for request in queued:
        server.run('vehicle', request, waiting)
    server.run('vehicle', run_request(lease_id), refused)
    assert 'ask less often' in refused.wait().reason
    server.cancel('vehicle', cancel(queued[0]))
    server.cancel('vehicle', cancel(queued[0]))
    server.pool.may_go.set()
    assert waiting.wait().request_seq == queued[1].request_seq
    assert running.wait().ok
    assert server.health().cancelled == 1
    assert server.health().refused == {why.BUSY: 1}


def test_an_engine_that_fails_costs_one_request(server, lease_id):
    server.pool.executables[TAIL.segment_id].failing = True
    assert 'on purpose' in answered(server, run_request(lease_id)).reason
    server.pool.executables[TAIL.segment_id].failing = False
    assert answered(server, run_request(lease_id)).ok
    assert server.health().refused == {why.FAILED: 1}


def test_a_closed_server_refuses_everything_and_an_unwilling_one_new_leases(server, lease_id):
    server.no_lease_reason = 'battery at 5 %'
    assert server.lease('vehicle', lease_request()).reason == 'battery at 5 %'
    assert server.free_leases == 0
    assert answered(server, run_request(lease_id)).ok
    server.closed_reason = 'another robot claims the name drone'
    assert 'another robot' in answered(server, run_request(lease_id)).reason
    assert 'another robot' in server.lease('vehicle', lease_request()).reason


def test_the_end_answers_what_waits_and_lets_go_of_everything(server, lease_id):
    server.pool.may_go.clear()
    running, waiting = Replies(), Replies()
    server.run('vehicle', run_request(lease_id), running)
    until(server.pool.executables[TAIL.segment_id].started.is_set)
    server.run('vehicle', run_request(lease_id), waiting)
    server.pool.may_go.set()
    server.stop()
    server.stop()
    assert running.wait()
    assert waiting.wait()
    assert server.pool.holds == {}


def test_leases_are_granted_in_a_thread_of_their_own(server):
    replies = Replies()
    server.lease_later('vehicle', lease_request(), replies)
    assert replies.wait().granted
