# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import array
import dataclasses
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import zmq

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.msg import Advert, ResourceStatus
from crowdhmt_ros.nodes import topics
from crowdhmt_ros.nodes.camera_inference import CameraInferenceNode
from crowdhmt_ros.nodes.convert import snapshot_to_msg
from crowdhmt_ros.nodes.convert_fleet import advert_to_msg
from crowdhmt_ros.nodes.engine_share import EngineShare
from crowdhmt_ros.nodes.offload_server import SUCCESS, OffloadServerNode
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.offload.codec import decode, encode_image
from crowdhmt_ros.offload.messages import (
    LeaseReply,
    LeaseRequest,
    Ping,
    RunReply,
    RunRequest,
    canonical,
    pack,
    unpack,
)
from crowdhmt_ros.offload.signing import sign, verify
from crowdhmt_ros.offload.trust import KeyStore, throw_away
from crowdhmt_ros.srv import RequestLease, RunSegment
from crowdhmt_ros.types import MEASURED, Reading, ResourceSnapshot

TINY = str(Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny')
BUNDLE = open_bundle(TINY)
WHOLE = BUNDLE.segment('narrow/whole')
SHA = BUNDLE.file_sha256(WHOLE.file)
_numbers = itertools.count(1)


@pytest.fixture
def keys(tmp_path):
    return throw_away(tmp_path / 'keys', ('vehicle', 'robot'))


@pytest.fixture
def adverts(stage):
    return stage.collect(topics.FLEET_ADVERT, Advert)


@pytest.fixture
def diagnostics(stage):
    return stage.collect(topics.DIAGNOSTICS, DiagnosticArray)


@pytest.fixture
def resources(stage):
    return stage.publisher(topics.RESOURCES, ResourceStatus)


def tell(stage, resources, node, battery=0.8, boot_id='r1'):
    message = snapshot_to_msg(ResourceSnapshot(
        1.0, robot_id='robot', boot_id=boot_id, battery_ratio=Reading(battery, MEASURED, 0.0),
        memory_available_bytes=Reading(5e8, MEASURED, 0.0)))
    stage.until(lambda: resources.get_subscription_count() > 0)
    resources.publish(message)
    stage.until(lambda: node._snapshot is not None
                and node._snapshot.battery_ratio.value == battery)


def status(diagnostics, name):
    found = [s for m in diagnostics for s in m.status if s.name == f'offload_server: {name}']
    return found[-1] if found else None


def values(found):
    return {v.key: v.value for v in found.values}


def nonce():
    return next(_numbers).to_bytes(16, 'big')


def wish(seq=True):
    return LeaseRequest('vehicle', 'v1', next(_numbers) if seq else 0, nonce(), BUNDLE.sha256,
                        (WHOLE.segment_id,), 1e6, 20.0, 30.0)


def frame_request(lease_id):
    picture = encode_image(np.full((64, 64, 3), 90, np.uint8))
    return RunRequest('vehicle', 'v1', lease_id, next(_numbers), nonce(), WHOLE.segment_id, SHA,
                      'jpeg', 5.0, picture)


class Vehicle:
    """A client in a thread of its own, as on another robot."""

    def __init__(self, keys, address):
        own, peer = KeyStore(keys['vehicle']), KeyStore(keys['robot'])
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.curve_publickey, self.socket.curve_secretkey = own.public, own.secret
        self.socket.curve_serverkey = peer.public
        self.socket.connect(address)

    def ask(self, message):
        self.socket.send_multipart(pack(message))
        assert self.socket.poll(10000), 'no answer'
        return unpack(self.socket.recv_multipart(), max_payload_bytes=1 << 20)

    def close(self):
        self.context.destroy(linger=0)


@pytest.fixture
def serve(stage, keys):
    def start(**parameters):
        return stage.add(OffloadServerNode, bundle=TINY, keys_dir=str(keys['robot']),
                         **parameters)
    return start


def test_a_robot_advertises_once_its_boot_is_known_and_serves_what_it_says(
        stage, serve, keys, adverts, resources):
    node = serve()
    stage.spin(0.5)
    assert adverts == []
    tell(stage, resources, node)
    stage.until(lambda: adverts)
    advert = adverts[-1]
    assert (advert.robot_id, advert.boot_id, advert.protocol_version) == ('robot', 'r1', 1)
    assert advert.bundle_sha256 == BUNDLE.sha256
    assert list(advert.channels) == ['zeromq']
    assert advert.free_leases == 4
    assert advert.capacity_macs_per_s > 1e6
    assert advert.battery_ratio == 0.8
    assert advert.memory_headroom_bytes == pytest.approx(2.56e8)
    assert advert.key_fingerprint == KeyStore(keys['robot']).fingerprint
    vehicle = Vehicle(keys, advert.address)
    lease = vehicle.ask(wish())
    assert lease.granted, lease.reason
    reply = vehicle.ask(frame_request(lease.lease_id))
    assert reply.ok, reply.reason
    logits = decode('raw', reply.payload, WHOLE.outputs)[0]
    assert logits.shape == (1, 4)
    assert np.isfinite(logits).all()
    assert vehicle.ask(Ping('vehicle', 'v1', next(_numbers), nonce())).boot_id == 'r1'
    stage.until(lambda: adverts[-1].free_leases == 3)
    vehicle.close()


def test_adverts_come_once_a_second_and_at_once_on_a_change(stage, serve, adverts, resources):
    node = serve()
    tell(stage, resources, node)
    stage.until(lambda: adverts)
    adverts.clear()
    stage.spin(2.6)
    assert 2 <= len(adverts) <= 4
    tell(stage, resources, node, battery=0.05)
    stage.until(lambda: adverts[-1].free_leases == 0, 0.8)
    assert node.serving.server.no_lease_reason == (
        'battery at 5 %: peers are helped from 15 %')


def test_without_keys_no_door_is_open_and_one_line_says_so(stage, tmp_path, adverts, resources,
                                                          diagnostics):
    node = stage.add(OffloadServerNode, bundle=TINY, keys_dir=str(tmp_path / 'none'))
    assert node.serving.door is None
    tell(stage, resources, node)
    stage.until(lambda: adverts and status(diagnostics, 'door'))
    assert list(adverts[-1].channels) == []
    assert adverts[-1].free_leases == 0
    assert 'crowdhmt keys make' in status(diagnostics, 'door').message


def test_a_port_in_use_leaves_the_node_unconfigured_and_it_can_be_tried_again(
        stage, serve, keys, diagnostics):
    context = zmq.Context()
    blocker = context.socket(zmq.ROUTER)
    port = blocker.bind_to_random_port('tcp://127.0.0.1')
    node = serve(address=f'tcp://127.0.0.1:{port}')
    assert node.serving is None
    stage.until(lambda: status(diagnostics, 'server'))
    assert 'is in use by another program' in status(diagnostics, 'server').message
    context.destroy(linger=0)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    assert node.serving.door.address == f'tcp://127.0.0.1:{port}'


def test_keys_that_others_can_read_are_refused(stage, serve, keys):
    (keys['robot'] / 'own.key').chmod(0o644)
    node = serve()
    assert node.serving is None
    assert 'chmod 600' in node._problem


def test_a_second_robot_of_the_same_name_stops_both_until_it_is_gone(
        stage, serve, keys, adverts, resources, diagnostics):
    node = serve()
    tell(stage, resources, node)
    stage.until(lambda: adverts)
    impostor = dataclasses.replace(node._last, boot_id='other')
    publisher = stage.peer.create_publisher(
        Advert, topics.FLEET_ADVERT.name, profile_of(topics.FLEET_ADVERT.profile))
    message = advert_to_msg(impostor, stage.peer.get_clock().now().to_msg())
    stage.until(lambda: publisher.get_subscription_count() >= 2)
    publisher.publish(message)
    stage.until(lambda: any(a.boot_id == 'r1' and not a.free_leases for a in adverts))
    diagnostics.clear()
    stage.until(lambda: status(diagnostics, 'server'))
    assert "another robot is called 'robot' too" in status(diagnostics, 'server').message
    vehicle = Vehicle(keys, node.serving.door.address)
    assert 'another robot is called' in vehicle.ask(wish()).reason
    stage.until(lambda: adverts[-1].boot_id == 'r1' and adverts[-1].free_leases == 4, 6.0)
    assert vehicle.ask(wish()).granted
    vehicle.close()


def test_a_deactivated_robot_withdraws_its_advert_and_serves_again_later(
        stage, serve, keys, adverts, resources):
    node = serve()
    tell(stage, resources, node)
    stage.until(lambda: adverts)
    node.trigger_deactivate()
    stage.until(lambda: adverts[-1].free_leases == 0)
    seen = len(adverts)
    stage.spin(1.3)
    assert len(adverts) == seen
    assert node.trigger_activate() == SUCCESS
    stage.until(lambda: adverts[-1].free_leases == 4)
    vehicle = Vehicle(keys, node.serving.door.address)
    assert vehicle.ask(wish()).granted
    vehicle.close()


def test_camera_and_server_of_one_process_share_what_is_compiled(stage, keys):
    share = EngineShare()

    def make(kind):
        def with_share(**options):
            return kind(share=share, **options)
        return with_share

    camera = stage.add(make(CameraInferenceNode), bundle=TINY)
    node = stage.add(make(OffloadServerNode), bundle=TINY, keys_dir=str(keys['robot']))
    assert camera.room.pool is node.engine.pool
    leased = node.serving.server.lease('vehicle', wish())
    assert leased.granted
    assert node.engine.pool.held_bytes == camera.room.pool.memory_bytes > 0
    camera.close()
    assert node.engine.pool.memory_bytes == 0
    assert node.engine.pool.held_bytes > 0
    picture = []
    done = threading.Event()
    node.serving.server.run('vehicle', frame_request(leased.lease_id),
                            lambda reply: (picture.append(reply), done.set()))
    assert done.wait(10)
    assert picture[0].ok, picture[0].reason


# The ROS door


@pytest.fixture
def secret(keys):
    return KeyStore(keys['vehicle']).secret_with('robot')


def octets(content):
    return array.array('B', content)


def lease_call(asked, key):
    return RequestLease.Request(
        robot_id=asked.robot_id, boot_id=asked.boot_id, protocol_version=asked.protocol_version,
        bundle_sha256=asked.bundle_sha256, segment_ids=list(asked.segment_ids),
        memory_bytes=asked.memory_bytes, rate_hz=asked.rate_hz, duration_s=asked.duration_s,
        nonce=octets(asked.nonce), key_fingerprint=asked.key_fingerprint,
        authentication=octets(sign(key, canonical(asked))))


def run_call(asked, key):
    return RunSegment.Request(
        robot_id=asked.robot_id, lease_id=asked.lease_id, nonce=octets(asked.nonce),
        request_seq=asked.request_seq, segment_id=asked.segment_id,
        segment_sha256=asked.segment_sha256, codec=asked.codec, budget_s=asked.budget_s,
        payload=octets(asked.payload), authentication=octets(sign(key, canonical(asked))))


@pytest.fixture
def ask_lease(stage):
    return lambda request: stage.call(RequestLease, topics.REQUEST_LEASE.name, request)


@pytest.fixture
def ask_run(stage):
    return lambda request: stage.call(RunSegment, topics.RUN_SEGMENT.name, request)


@pytest.fixture
def ros_node(serve):
    return serve(ros_door=True, data_door=False)


def test_the_ros_door_leases_and_runs_what_is_signed_and_signs_its_answers(
        ros_node, secret, ask_lease, ask_run):
    asked = wish(seq=False)
    granted = ask_lease(lease_call(asked, secret))
    assert granted.granted, granted.reason
    reply = LeaseReply(asked.nonce, 0, True, '', granted.lease_id, granted.duration_s)
    assert verify(secret, canonical(reply), bytes(granted.authentication))
    request = frame_request(granted.lease_id)
    ran = ask_run(run_call(request, secret))
    assert ran.ok, ran.reason
    reply = RunReply(ran.lease_id, bytes(ran.nonce), ran.request_seq, ran.segment_id, True, '',
                     ran.codec, bytes(ran.payload), ran.queue_s, ran.run_s)
    assert reply.nonce == request.nonce
    assert verify(secret, canonical(reply), bytes(ran.authentication))


def test_what_is_forged_altered_replayed_or_from_strangers_is_refused_and_counted(
        ros_node, secret, ask_lease, ask_run):
    asked = wish(seq=False)
    call = lease_call(asked, secret)
    lease_id = ask_lease(call).lease_id
    assert 'was here before' in ask_lease(call).reason
    assert 'signature is wrong' in ask_lease(lease_call(wish(seq=False), b'0' * 32)).reason
    altered = lease_call(wish(seq=False), secret)
    altered.duration_s = 31.0
    assert 'signature is wrong' in ask_lease(altered).reason
    stranger = dataclasses.replace(wish(seq=False), robot_id='mallory')
    assert 'not trusted' in ask_lease(lease_call(stranger, b'0' * 32)).reason
    run = run_call(frame_request(lease_id), secret)
    assert ask_run(run).ok
    assert 'was here before' in ask_run(run).reason
    large = run_call(dataclasses.replace(frame_request(lease_id), payload=bytes(32769)), secret)
    assert 'a service may carry 32768' in ask_run(large).reason
    assert 'no such lease' in ask_run(run_call(frame_request('none'), secret)).reason
    broken = run_call(frame_request(lease_id), secret)
    broken.nonce = octets(b'short')
    assert not ask_run(broken).ok
    assert ros_node.serving.server.health().refused == {
        'replayed': 2, 'wrong_signature': 2, 'unknown_key': 1, 'too_large': 1,
        'no_such_lease': 1, 'unreadable': 1}


def test_a_robot_goes_on_while_a_segment_runs_behind_its_ros_door(
        stage, ros_node, secret, ask_lease, ask_run):
    lease_id = ask_lease(lease_call(wish(seq=False), secret)).lease_id
    ticks = []
    stage.peer.create_timer(0.01, lambda: ticks.append(1))
    turns = ros_node.engine.turns
    with turns.own():
        client = stage.peer.create_client(RunSegment, topics.RUN_SEGMENT.name)
        future = client.call_async(run_call(frame_request(lease_id), secret))
        stage.spin(0.5)
        assert not future.done()
        assert len(ticks) > 25
    stage.until(future.done)
    assert future.result().ok


def test_a_ros_door_without_keys_is_one_clear_line(stage, tmp_path):
    node = stage.add(OffloadServerNode, bundle=TINY, keys_dir=str(tmp_path / 'none'),
                     ros_door=True)
    assert 'ros_door is true, but no peer is served' in node._problem


def test_the_least_charge_may_be_changed_while_it_runs(stage, serve):
    node = serve()
    node.set_parameters([Parameter('least_battery_ratio', value=0.5)])
    assert node.parameters.least_battery_ratio == 0.5
