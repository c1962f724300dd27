# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import os
import socket
import struct
import time

import numpy as np
import pytest
import zmq

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.offload import refusals as why
from crowdhmt_ros.offload.codec import decode
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseReply,
    Ping,
    Pong,
    Refusal,
    Release,
    RunReply,
    pack,
    unpack,
)
from crowdhmt_ros.offload.trust import KeyStore, throw_away
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor
from test.offload.guests import (
    MAP,
    TAIL,
    lease_request,
    make_server,
    next_seq,
    nonce,
    run_request,
    until,
)


@pytest.fixture
def stores(tmp_path):
    folders = throw_away(tmp_path / 'keys', ('vehicle', 'drone'))
    return {name: KeyStore(folder) for name, folder in folders.items()}


@pytest.fixture
def server():
    found = make_server()
    yield found
    found.pool.may_go.set()
    found.stop()


@pytest.fixture
def door(server, stores):
    found = ZeroMQDoor(server, stores['drone'], boot_id=lambda: 'd1')
    found.start()
    yield found
    found.close()


class Caller:
    """The simplest client: one DEALER socket."""

    def __init__(self, door, own, server_public):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if own is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = own
            self.socket.curve_serverkey = server_public
        self.socket.connect(door.address)

    def send(self, message):
        self.send_parts(pack(message))

    def send_parts(self, parts):
        self.socket.send_multipart(parts)

    def receive(self, timeout_s=5.0):
        if not self.socket.poll(timeout_s * 1000):
            return None
        return unpack(self.socket.recv_multipart(), max_payload_bytes=1 << 20)

    def ask(self, message, timeout_s=5.0):
        self.send(message)
        return self.receive(timeout_s)

    def close(self):
        self.context.destroy(linger=0)


@pytest.fixture
def vehicle(door, stores):
    found = Caller(door, (stores['vehicle'].public, stores['vehicle'].secret),
                   stores['drone'].public)
    yield found
    found.close()


@pytest.fixture
def strangers(door):
    found = []

    def make(own, server_public):
        found.append(Caller(door, own, server_public))
        return found[-1]

    yield make
    for caller in found:
        caller.close()


def ping(payload=b''):
    return Ping('vehicle', 'v1', next_seq(), nonce(), payload)


def test_a_lease_a_run_and_a_ping_are_answered(vehicle, server):
    wish = lease_request()
    lease = vehicle.ask(wish)
    assert isinstance(lease, LeaseReply)
    assert lease.granted, lease.reason
    assert (lease.nonce, lease.request_seq) == (wish.nonce, wish.request_seq)
    request = run_request(lease.lease_id)
    reply = vehicle.ask(request)
    assert isinstance(reply, RunReply)
    assert reply.ok, reply.reason
    assert reply.nonce == request.nonce
    sums = MAP.reshape(-1)[:64].reshape(4, 16).sum(axis=1)
    assert np.array_equal(decode('raw', reply.payload, TAIL.outputs)[0][0], sums)
    question = ping(b'x' * 500)
    assert vehicle.ask(question) == Pong('drone', 'd1', question.nonce, question.request_seq, 500)


def test_pings_are_answered_while_a_segment_runs_and_one_is_compiled(vehicle, server):
    lease = vehicle.ask(lease_request())
    server.pool.may_go.clear()
    vehicle.send(run_request(lease.lease_id))
    assert isinstance(vehicle.ask(ping()), Pong)
    server.pool.may_go.set()
    assert vehicle.receive().ok


def test_cancel_and_release_have_no_answer(vehicle, server):
    lease = vehicle.ask(lease_request())
    vehicle.send(Cancel('vehicle', 'v1', lease.lease_id, next_seq(), nonce(), 1))
    vehicle.send(Release('vehicle', 'v1', lease.lease_id, next_seq(), nonce()))
    assert isinstance(vehicle.ask(ping()), Pong)
    assert server.free_leases == 4


def test_a_stranger_never_gets_through_and_is_counted(door, server, stores, strangers):
    caller = strangers(zmq.curve_keypair(), stores['drone'].public)
    assert caller.ask(ping(), 0.5) is None
    until(lambda: server.health().refused.get(why.UNKNOWN_KEY))
    assert 'its key is not trusted here' in door.health().problem
    assert door.health().received == 0


def test_neither_plain_text_nor_a_wrong_server_key_gets_through(door, server, stores, strangers):
    own = (stores['vehicle'].public, stores['vehicle'].secret)
    callers = [strangers(None, None), strangers(own, zmq.curve_keypair()[0])]
    for caller in callers:
        assert caller.ask(ping(), 0.3) is None
    until(lambda: server.health().refused.get(why.HANDSHAKE, 0) >= 2)
    assert door.health().received == 0


def test_garbage_on_the_port_harms_nobody(door, vehicle, server):
    host, port = door.address[len('tcp://'):].split(':')
    for garbage in (b'GET / HTTP/1.1\r\n\r\n', os.urandom(200), b''):
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(garbage)
    assert isinstance(vehicle.ask(ping()), Pong)


def test_a_false_name_in_a_trusted_connection_is_refused(vehicle, server):
    reply = vehicle.ask(lease_request(robot_id='mallory'))
    assert 'the key belongs to vehicle, the request says mallory' in reply.reason
    reply = vehicle.ask(dataclasses.replace(ping(), robot_id='mallory'))
    assert isinstance(reply, Refusal)
    assert server.health().refused == {why.NAME: 2}


@pytest.mark.parametrize('parts', [
    [b'{}', b''], [b'not json', b''], [b''], [b'a', b'b', b'c'], [b'[' * 4096, b''],
    [b'{"message":"Ping"}', b''], pack(Refusal('no'))])
def test_what_cannot_be_read_is_refused_and_counted(vehicle, server, parts):
    vehicle.send_parts(parts)
    reply = vehicle.receive()
    assert isinstance(reply, Refusal)
    assert reply.reason
    assert server.health().refused == {why.UNREADABLE: 1}
    assert isinstance(vehicle.ask(ping()), Pong)


def test_a_message_above_the_cap_ends_the_connection_before_it_is_read(vehicle, server):
    before = server.health().served
    header, _ = pack(run_request('x'))
    vehicle.send_parts([header, bytes(50 << 20)])
    assert vehicle.receive(0.5) is None
    until(lambda: isinstance(vehicle.ask(ping(), 1.0), Pong), 10.0)
    assert server.health().served == before


def test_the_same_bytes_twice_are_served_once(vehicle, server):
    lease = vehicle.ask(lease_request())
    parts = pack(run_request(lease.lease_id))
    vehicle.send_parts(parts)
    assert vehicle.receive().ok
    vehicle.send_parts(parts)
    assert 'was here before' in vehicle.receive().reason


def test_a_robot_that_is_trusted_no_longer_is_heard_no_longer(vehicle, server, stores):
    assert vehicle.ask(lease_request()).granted
    (stores['drone'].folder / 'trusted' / 'vehicle.pub').unlink()
    reply = vehicle.ask(lease_request())
    assert reply.reason == 'drone does not trust this key any more'
    assert server.health().refused == {why.UNKNOWN_KEY: 1}


def test_trust_takes_effect_without_a_restart(door, stores, strangers):
    public, secret = zmq.curve_keypair()
    KeyStore(stores['drone'].folder).trust('late', public)
    caller = strangers((public, secret), stores['drone'].public)
    question = dataclasses.replace(ping(), robot_id='late')
    assert isinstance(caller.ask(question), Pong)


def test_a_port_in_use_and_a_wrong_address_are_one_line(door, server, stores):
    with pytest.raises(OffloadError, match='is in use by another program: end it, or choose'):
        ZeroMQDoor(server, stores['drone'], address=door.address)
    with pytest.raises(OffloadError, match='write tcp://HOST:PORT'):
        ZeroMQDoor(server, stores['drone'], address='nowhere')


def test_a_port_is_free_again_after_the_door_has_closed(server, stores):
    first = ZeroMQDoor(server, stores['drone'])
    first.close()
    again = ZeroMQDoor(server, stores['drone'], address=first.address)
    again.close()
    again.close()


def test_every_address_of_a_machine_needs_a_name_for_peers(server, stores):
    with pytest.raises(OffloadError, match='name the one that peers reach it by'):
        ZeroMQDoor(server, stores['drone'], address='tcp://0.0.0.0:0')
    door = ZeroMQDoor(server, stores['drone'], address='tcp://0.0.0.0:0',
                      advertise_host='drone.local')
    assert door.address.startswith('tcp://drone.local:')
    door.close()


def test_the_door_tells_who_is_there(door, vehicle, monkeypatch):
    assert door.health().peers == ()
    assert isinstance(vehicle.ask(ping()), Pong)
    assert door.health().peers == ('vehicle',)
    monkeypatch.setattr('crowdhmt_ros.offload.zeromq_door.HEARD_S', 0.0)
    assert door.health().peers == ()


def test_a_peer_that_stops_reading_costs_only_its_own_answers(door, server, stores, vehicle):
    lease = vehicle.ask(lease_request())
    host, port = door.address[len('tcp://'):].split(':')
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(struct.pack('>B', 0xff))
        began_s = time.monotonic()
        for _ in range(20):
            assert vehicle.ask(run_request(lease.lease_id)).ok
        assert time.monotonic() - began_s < 5.0
