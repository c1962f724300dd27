# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both ends of both channels on real nodes: adverts, trust, leases, runs, failures."""
import threading
from dataclasses import dataclass

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
pytest.importorskip('cryptography')
from rclpy.node import Node  # noqa: E402

from crowdhmt_ros.errors import OffloadError  # noqa: E402
from crowdhmt_ros.msg import Advert as AdvertMessage  # noqa: E402
from crowdhmt_ros.nodes.convert_fleet import advert_to_msg  # noqa: E402
from crowdhmt_ros.nodes.peer_opening import (  # noqa: E402
    open_peer_links,
    own_distro,
    peers_health,
)
from crowdhmt_ros.nodes.qos import profile_of  # noqa: E402
from crowdhmt_ros.nodes.ros_channel import RosChannel  # noqa: E402
from crowdhmt_ros.nodes.ros_door import RosDoor  # noqa: E402
from crowdhmt_ros.nodes.topics import FLEET_ADVERT  # noqa: E402
from crowdhmt_ros.offload.breaker import FAILURES_TO_OPEN, SLOW_TO_OPEN  # noqa: E402
from crowdhmt_ros.offload.calls import Asker, RequestSeq  # noqa: E402
from crowdhmt_ros.offload.channel import (  # noqa: E402
    PROTOCOL_VERSION,
    ROS_PAYLOAD_MAX_BYTES,
    Call,
    LeaseWish,
)
from crowdhmt_ros.offload.codec import decode, encode  # noqa: E402
from crowdhmt_ros.offload.trust import KeyStore, throw_away  # noqa: E402
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor  # noqa: E402
from crowdhmt_ros.types import Advert  # noqa: E402
from test.offload.guests import BUNDLE, MAP, TAIL, WHOLE, make_server  # noqa: E402

WISH = LeaseWish((TAIL.segment_id,), 1000.0, 20.0, 30.0)
SUMS = MAP.reshape(-1)[:64].reshape(4, 16).sum(axis=1)


def call(lease, payload=None, budget_s=5.0):
    return Call(lease.lease_id, TAIL.segment_id, TAIL.sha256, 'raw', budget_s,
                encode('raw', (MAP,)) if payload is None else payload)


@dataclass
class Wishes:
    channel: str = 'auto'
    keys_dir: str = ''
    fleet_advert_topic: str = FLEET_ADVERT.name


class Pair:
    """A drone with both doors open, and a vehicle's node; one executor spins both."""

    def __init__(self, stage, tmp_path):
        self.stage = stage
        folders = throw_away(tmp_path / 'keys', ('vehicle', 'drone'))
        self.keys = {name: KeyStore(folder) for name, folder in folders.items()}
        self.folders = folders
        self.drone = Node('offload_server', namespace='/drone')
        self.vehicle = Node('camera_inference', namespace='/vehicle')
        for node in (self.drone, self.vehicle):
            stage.executor.add_node(node)
        self.server = make_server()
        self.ros_door = RosDoor(self.drone, self.server, self.keys['drone'])
        self.zeromq_door = ZeroMQDoor(self.server, self.keys['drone'], boot_id=lambda: 'd1')
        self.zeromq_door.start()
        self.adverts = self.drone.create_publisher(
            AdvertMessage, FLEET_ADVERT.name, profile_of(FLEET_ADVERT.profile))
        self.closing = []

    def advertise(self, **other):
        fields = {
            'robot_id': 'drone', 'boot_id': 'd1', 'protocol_version': PROTOCOL_VERSION,
            'ros_distro': own_distro(), 'bundle_sha256': BUNDLE, 'capacity_macs_per_s': 1e9,
            'free_leases': 2, 'channels': ('zeromq', 'ros'), 'address': self.zeromq_door.address,
            'key_fingerprint': self.keys['drone'].fingerprint}
        advert = Advert(**{**fields, **other})
        self.adverts.publish(advert_to_msg(advert, self.drone.get_clock().now().to_msg()))

    def channel(self, secret=None):
        found = RosChannel(
            self.vehicle, 'drone', secret=secret or self.keys['vehicle'].secret_with('drone'),
            asker=Asker('vehicle', 'v1', BUNDLE, self.keys['vehicle'].fingerprint, RequestSeq()))
        self.closing.append(found)
        return found

    def links(self, kind, **other):
        wishes = Wishes(kind, str(self.folders['vehicle']), **other)
        found = open_peer_links(
            self.vehicle, wishes, robot_id='vehicle', bundle_sha256=BUNDLE,
            segments=(TAIL, WHOLE), on_change=lambda: self.changes.append(1))
        self.changes = []
        self.closing.append(found)
        return found.links

    def waiting(self, work):
        """Run what waits in a thread, as the node's worker does, while this one spins."""
        outcome = []

        def run():
            try:
                outcome.append(work())
            except OffloadError as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.stage.until(lambda: not thread.is_alive())
        if isinstance(outcome[0], OffloadError):
            raise outcome[0]
        return outcome[0]

    def close(self):
        for one in self.closing:
            one.close()
        self.ros_door.close()
        self.zeromq_door.close()
        self.server.pool.may_go.set()
        self.server.stop()
        for node in (self.drone, self.vehicle):
            node.destroy_node()


@pytest.fixture
def pair(stage, tmp_path):
    made = Pair(stage, tmp_path)
    yield made
    made.close()


def test_a_lease_and_a_run_over_services(pair):
    channel = pair.channel()
    pair.stage.until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    assert 0.0 < channel.health().round_trip_s < 1.0
    lease = pair.waiting(lambda: channel.lease(WISH, 5.0))
    reply = pair.waiting(lambda: channel.submit(call(lease)).wait(5.0))
    assert np.array_equal(decode('raw', reply.payload, TAIL.outputs)[0][0], SUMS)
    assert reply.run_s < reply.round_trip_s
    assert pair.waiting(lambda: channel.lease(WISH, 5.0)).lease_id == lease.lease_id
    assert channel.health().refused == 0


def test_a_payload_above_the_limit_is_refused_here(pair):
    channel = pair.channel()
    pair.stage.until(lambda: channel.health().connected)
    lease = pair.waiting(lambda: channel.lease(WISH, 5.0))
    with pytest.raises(OffloadError, match='the service takes 32768; use channel zeromq'):
        channel.submit(call(lease, bytes(ROS_PAYLOAD_MAX_BYTES + 1)))


def test_an_answer_that_somebody_else_signed_is_dropped_and_counted(pair):
    channel = pair.channel(secret=b'x' * 32)
    pair.stage.until(lambda: channel.health().refused >= 2, 15.0)
    assert channel.health().round_trip_s is None
    pair.stage.until(lambda: channel.health().retry_in_s > 0.0, 15.0)


def test_a_segment_that_takes_too_long_is_given_up_and_many_open_the_breaker(pair):
    channel = pair.channel()
    pair.stage.until(lambda: channel.health().bandwidth_bytes_per_s is not None)
    lease = pair.waiting(lambda: channel.lease(WISH, 5.0))
    pair.server.pool.may_go.clear()
    asked = 0
    while channel.health().retry_in_s == 0.0:
        asked += 1
        pending = channel.submit(call(lease, budget_s=0.1))
        assert pair.waiting(lambda: pending.wait(0.1)) is None  # noqa: B023
        pending.cancel()
    assert FAILURES_TO_OPEN <= asked <= SLOW_TO_OPEN
    with pytest.raises(OffloadError, match='left requests unanswered'):
        channel.submit(call(lease))
    pair.server.pool.may_go.set()
    pair.stage.until(lambda: channel.health().retry_in_s == 0.0)
    assert pair.waiting(lambda: channel.submit(call(lease)).wait(5.0)) is not None


def test_a_door_that_is_taken_down_fails_calls_and_is_noticed(pair):
    channel = pair.channel()
    pair.stage.until(lambda: channel.health().connected)
    pair.ros_door.close()
    pair.stage.until(lambda: not channel.health().connected)
    with pytest.raises(OffloadError, match='set ros_door on it to true'):
        channel.submit(Call('x', TAIL.segment_id, TAIL.sha256, 'raw', 1.0, b''))


@pytest.mark.parametrize(('wish', 'kind'), [('auto', 'zeromq'), ('zeromq', 'zeromq'),
                                            ('ros', 'ros')])
def test_an_advert_of_a_trusted_peer_leads_to_a_working_channel(pair, wish, kind):
    links = pair.links(wish)

    def reachable():
        pair.advertise()
        return any(p.link_bandwidth_bytes_per_s is not None for p in links.status())

    pair.stage.until(reachable)
    assert links.kinds() == {'drone': kind}
    assert pair.changes
    part = pair.waiting(lambda: links.remote_part('drone', TAIL, 'int8'))
    outputs, crossing = pair.waiting(lambda: part.ask((MAP,), 5.0).wait(5.0))
    assert np.allclose(outputs[0][0], SUMS, rtol=0.02)
    assert crossing.robot_id == 'drone'
    part.release()
    health = peers_health(links)
    assert health.message == '1 peers'
    assert health.values['drone.channel'] == kind


def test_auto_takes_services_where_the_peer_offers_nothing_else(pair):
    links = pair.links('auto')

    def open_one():
        pair.advertise(channels=('ros',), address='')
        return bool(links.kinds())

    pair.stage.until(open_one)
    assert links.kinds() == {'drone': 'ros'}


def test_a_wish_that_the_peer_does_not_meet_is_a_line(pair):
    links = pair.links('ros')

    def told():
        pair.advertise(channels=('zeromq',))
        return bool(links.problems())

    pair.stage.until(told)
    assert links.problems() == (('drone offers no ros door (zeromq): set channel to auto, or '
                                'ros_door on it to true'),)


def test_offloading_is_off_without_keys_and_when_it_is_wished_off(pair, tmp_path):
    for wishes in (Wishes('off'), Wishes('auto', str(tmp_path / 'no_keys'))):
        assert open_peer_links(pair.vehicle, wishes, robot_id='vehicle', bundle_sha256=BUNDLE,
                               segments=(TAIL,)) is None
    assert peers_health(None).message == 'offloading is off'
