# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from crowdhmt_ros.errors import OffloadError, TrustError
from crowdhmt_ros.nodes.kept_channel import AGAIN_S
from crowdhmt_ros.nodes.peer_links import (
    KEPT_WITHOUT_ADVERT_S,
    LEASE_AGAIN_S,
    LEASE_S,
    PeerLinks,
)
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION, ChannelHealth, Lease, LeaseWish
from crowdhmt_ros.offload.fleet import GONE_AFTER_S, FleetView
from crowdhmt_ros.types import Advert, Segment, TensorSpec

BUNDLE = 'b' * 64
DRONE = Advert('drone', 'd1', PROTOCOL_VERSION, 'kilted', BUNDLE, 1e9, 2, 0.8, 1e8, ('zeromq',),
               'tcp://127.0.0.1:5000', 'right')
WELL = ChannelHealth(True, 0.002, 1e7)
TAIL = Segment('wide/tail', '1' * 64, '', (TensorSpec('x', 'float32', (1, 4)),),
               (TensorSpec('y', 'float32', (1, 2)),), 5000)
WISH = LeaseWish((TAIL.segment_id,), 1000.0, 20.0, LEASE_S)


class FakeKeys:
    def __init__(self):
        self.trusted = {'drone': 'right'}
        self.broken = ''

    def objection(self, robot_id, key_fingerprint):
        if robot_id not in self.trusted:
            return f'the key of {robot_id} is not trusted here'
        if self.trusted[robot_id] != key_fingerprint:
            return f'{robot_id} shows another key than the trusted one'
        return ''

    def reload(self):
        if self.broken:
            raise TrustError(self.broken)


class FakeChannel:
    kind = 'zeromq'

    def __init__(self, world, advert, breaker):
        self.world = world
        self.robot_id = advert.robot_id
        self.advert = advert
        self.breaker = breaker
        self.told = WELL
        self.wishes = []
        self.released = []
        self.renamed = []
        self.refusing = ''
        self.next_id = 'lease1'
        self.closed = False

    def lease(self, wish, timeout_s):
        if self.refusing:
            raise OffloadError(self.refusing)
        self.wishes.append(wish)
        return Lease(self.next_id, wish.segment_ids, self.world.now_s + wish.duration_s)

    def release(self, lease):
        self.released.append(lease.lease_id)

    def rename(self, lease_id, now_called):
        self.renamed.append((lease_id, now_called))

    def health(self):
        return self.told

    def close(self):
        self.closed = True


class World:
    """PeerLinks with time, keys and channels that the test decides on."""

    def __init__(self):
        self.now_s = 100.0
        self.keys = FakeKeys()
        self.opened = []
        self.changes = []
        self.opening_fails = ''
        fleet = FleetView('vehicle', ros_distro='kilted', bundle_sha256=BUNDLE, boot_id='v1')
        self.links = PeerLinks(
            fleet, keys=self.keys, opener=self.open, monotonic=lambda: self.now_s,
            node_now_s=lambda: self.now_s + 1000.0,
            on_change=lambda: self.changes.append(self.links.status()))

    def open(self, advert, breaker):
        if self.opening_fails:
            raise OffloadError(self.opening_fails)
        self.opened.append(FakeChannel(self, advert, breaker))
        return self.opened[-1]

    def wait(self, seconds, *adverts):
        """Let time pass, with adverts once a second and ticks ten times a second."""
        for number in range(round(10 * seconds)):
            self.now_s += 0.1
            if number % 10 == 0:
                for advert in adverts:
                    self.links.heard(advert)
            self.links.tick()
        for link in self.links._links.values():
            if link.channel._renewing is not None:
                link.channel._renewing.join(5.0)


@pytest.fixture
def world():
    made = World()
    yield made
    made.links.close()


def test_a_trusted_compatible_peer_gets_one_channel(world):
    world.wait(5.0, DRONE)
    assert len(world.opened) == 1
    assert world.links.channel('drone').robot_id == 'drone'
    peer, = world.links.status()
    assert (peer.link_round_trip_s, peer.link_bandwidth_bytes_per_s) == (0.002, 1e7)
    assert (peer.free_leases, peer.boot_id, peer.retry_at_s) == (2, 'd1', None)
    assert world.links.problems() == ()


@pytest.mark.parametrize(('advert', 'said'), [
    (replace(DRONE, robot_id='other'), 'the key of other is not trusted here'),
    (replace(DRONE, key_fingerprint='changed'), 'shows another key than the trusted one'),
    (replace(DRONE, protocol_version=99), 'it speaks protocol 99'),
    (replace(DRONE, ros_distro='humble'), 'it runs ROS 2 humble'),
    (replace(DRONE, bundle_sha256='c' * 64), 'it has bundle cccccccccccc')])
def test_whoever_is_not_trusted_or_not_compatible_is_a_line_and_no_channel(world, advert, said):
    world.wait(3.0, advert)
    assert world.opened == []
    assert len(world.links.problems()) == 1
    assert said in world.links.problems()[0]
    assert all(peer.link_round_trip_s is None for peer in world.links.status())


def test_a_key_that_changes_closes_the_channel(world):
    world.wait(1.0, DRONE)
    world.wait(1.0, replace(DRONE, key_fingerprint='changed'))
    assert world.opened[0].closed
    assert world.links.channel('drone') is None
    assert 'shows another key' in world.links.problems()[0]


def test_a_key_that_is_trusted_later_takes_effect_without_a_restart(world):
    world.keys.trusted = {}
    world.wait(3.0, DRONE)
    assert world.opened == []
    world.keys.trusted = {'drone': 'right'}
    world.wait(AGAIN_S + 1.0, DRONE)
    assert len(world.opened) == 1
    assert world.links.problems() == ()


def test_a_trust_store_that_cannot_be_read_opens_nothing_and_says_so(world):
    world.keys.broken = 'the folder is open to others: chmod 700'
    world.wait(1.0, DRONE)
    assert world.opened == []
    assert world.links.problems() == ('the folder is open to others: chmod 700',)


def test_a_channel_that_cannot_be_opened_is_tried_again_later(world):
    world.opening_fails = 'drone offers no zeromq door'
    world.wait(1.0, DRONE)
    assert world.links.problems() == ('drone offers no zeromq door',)
    world.opening_fails = ''
    world.wait(AGAIN_S + 1.0, DRONE)
    assert len(world.opened) == 1
    assert world.links.problems() == ()


def test_two_robots_of_this_name_ask_nobody(world):
    world.wait(1.0, DRONE)
    twin = replace(DRONE, robot_id='vehicle', boot_id='other')
    world.wait(1.0, DRONE, twin)
    assert world.links.clash
    assert world.opened[0].closed
    assert world.links.status() == ()
    assert 'another robot is called' in world.links.problems()[0]
    world.wait(GONE_AFTER_S + 1.5, DRONE)
    assert len(world.opened) == 2, 'the other one is gone'


def test_a_restarted_peer_gets_a_new_channel_behind_the_same_breaker(world):
    world.wait(1.0, DRONE)
    world.wait(1.0, replace(DRONE, boot_id='d2', address='tcp://127.0.0.1:6000'))
    assert [c.closed for c in world.opened] == [True, False]
    assert world.opened[1].advert.address == 'tcp://127.0.0.1:6000'
    assert world.opened[0].breaker is world.opened[1].breaker


def test_a_channel_outlives_lost_adverts_for_a_while_but_the_peer_is_not_offered(world):
    world.wait(1.0, DRONE)
    world.wait(GONE_AFTER_S + 1.0)
    assert world.links.status() == ()
    assert not world.opened[0].closed
    world.wait(1.0, DRONE)
    assert len(world.opened) == 1
    assert world.links.status()[0].link_round_trip_s == 0.002
    world.wait(KEPT_WITHOUT_ADVERT_S + GONE_AFTER_S + 1.0)
    assert world.opened[0].closed


def test_becoming_reachable_and_unreachable_is_told_at_the_next_tick_and_once(world):
    world.wait(1.0, DRONE)
    assert len(world.changes) == 1
    channel = world.opened[0]
    channel.told = ChannelHealth(True, 0.002, 1e7, failures=2, retry_in_s=0.4)
    world.links.tick()
    world.links.tick()
    assert len(world.changes) == 2
    peer, = world.changes[1]
    assert peer.failures == 2
    assert peer.retry_at_s == pytest.approx(world.now_s + 1000.0 + 0.4)
    channel.told = WELL
    world.links.tick()
    assert len(world.changes) == 3
    assert world.changes[2][0].retry_at_s is None


def test_a_lost_connection_is_told_with_an_unknown_link(world):
    world.wait(1.0, DRONE)
    world.opened[0].told = ChannelHealth(False, problem='the connection is lost')
    world.links.tick()
    peer, = world.changes[-1]
    assert peer.link_round_trip_s is None
    assert world.links.health()['drone'].problem == 'the connection is lost'


def test_leases_are_renewed_at_half_time_until_they_are_released(world):
    world.wait(1.0, DRONE)
    part = world.links.remote_part('drone', TAIL, 'int8')
    channel = world.opened[0]
    assert channel.wishes[0].segment_ids == (TAIL.segment_id,)
    world.wait(0.4 * LEASE_S, DRONE)
    assert len(channel.wishes) == 1
    world.wait(0.2 * LEASE_S, DRONE)
    assert len(channel.wishes) == 2
    assert channel.wishes[1] == channel.wishes[0]
    part.release()
    assert channel.released == ['lease1']
    world.wait(LEASE_S, DRONE)
    assert len(channel.wishes) == 2


def test_a_lease_that_was_granted_anew_goes_on_under_its_old_name(world):
    world.wait(1.0, DRONE)
    world.links.channel('drone').lease(WISH, 1.0)
    world.opened[0].next_id = 'lease2'
    world.wait(0.6 * LEASE_S, DRONE)
    assert world.opened[0].renamed == [('lease1', 'lease2')]


def test_a_renewal_that_is_refused_is_tried_again(world):
    world.wait(1.0, DRONE)
    world.links.channel('drone').lease(WISH, 1.0)
    channel = world.opened[0]
    channel.refusing = 'all are taken'
    world.wait(0.6 * LEASE_S, DRONE)
    channel.refusing = ''
    world.wait(AGAIN_S + 0.5, DRONE)
    assert len(channel.wishes) == 2


def test_two_parts_of_the_same_segment_share_a_lease_until_both_are_released(world):
    """As while a plan changes its codec or its fallback: the peer prolongs the one lease."""
    world.wait(1.0, DRONE)
    first = world.links.remote_part('drone', TAIL, 'int8')
    second = world.links.remote_part('drone', TAIL, 'fp16')
    channel = world.opened[0]
    first.release()
    first.release()
    assert channel.released == []
    world.wait(0.6 * LEASE_S, DRONE)
    assert len(channel.wishes) == 3, 'it is renewed still'
    second.release()
    assert channel.released == ['lease1']


def test_a_lease_that_had_ended_is_granted_anew_for_all_who_have_it(world):
    world.wait(1.0, DRONE)
    world.links.remote_part('drone', TAIL, 'int8')
    world.opened[0].next_id = 'lease2'
    again = world.links.channel('drone').lease(
        LeaseWish((TAIL.segment_id,), 5000.0, 20.0, LEASE_S), 1.0)
    assert again.lease_id == 'lease1'
    assert world.opened[0].renamed == [('lease1', 'lease2')]


def test_a_second_part_that_is_refused_leaves_the_first_its_lease(world):
    world.wait(1.0, DRONE)
    first = world.links.remote_part('drone', TAIL, 'int8')
    channel = world.opened[0]
    channel.refusing = 'all are taken'
    with pytest.raises(OffloadError, match='all are taken'):
        world.links.remote_part('drone', TAIL, 'fp16')
    assert channel.released == []
    first.release()
    assert channel.released == ['lease1']


def test_a_lease_that_is_given_back_while_it_is_renewed_does_not_stay_at_the_peer(world):
    world.wait(1.0, DRONE)
    part = world.links.remote_part('drone', TAIL, 'int8')
    channel = world.opened[0]
    grant = channel.lease

    def given_back_first(wish, timeout_s):
        part.release()
        channel.next_id = 'lease2'
        return grant(wish, timeout_s)

    channel.lease = given_back_first
    world.wait(0.6 * LEASE_S, DRONE)
    assert channel.released == ['lease1', 'lease2']


def test_a_part_is_lost_when_its_channel_was_taken_down(world):
    world.wait(1.0, DRONE)
    part = world.links.remote_part('drone', TAIL, 'int8')
    assert not part.lost
    world.wait(1.0, replace(DRONE, boot_id='d2'))
    assert part.lost
    assert not world.links.remote_part('drone', TAIL, 'int8').lost


def test_a_peer_that_does_not_answer_for_a_lease_is_left_alone_for_a_while(world):
    """It may answer pings meanwhile, which alone would not tell the planner."""
    world.wait(1.0, DRONE)
    channel = world.opened[0]
    channel.refusing = 'it did not answer the request for a lease within 5 s'
    with pytest.raises(OffloadError, match='did not answer'):
        world.links.remote_part('drone', TAIL, 'int8')
    assert channel.breaker.is_open
    assert channel.breaker.retry_in_s == pytest.approx(LEASE_AGAIN_S)


def test_a_peer_that_said_when_to_ask_again_is_taken_at_its_word(world):
    world.wait(1.0, DRONE)
    channel = world.opened[0]
    channel.refusing = 'all are taken'
    channel.breaker.hold(2.0)  # as the channel does
    with pytest.raises(OffloadError, match='all are taken'):
        world.links.remote_part('drone', TAIL, 'int8')
    assert channel.breaker.retry_in_s == pytest.approx(2.0)


def test_a_remote_part_at_nobody_is_refused_in_words(world):
    with pytest.raises(OffloadError, match='there is no channel to drone'):
        world.links.remote_part('drone', TAIL, 'int8')


def test_closing_gives_leases_back_and_ends_every_channel(world):
    world.wait(1.0, DRONE)
    world.links.channel('drone').lease(WISH, 1.0)
    world.links.close()
    world.links.close()
    assert world.opened[0].released == ['lease1']
    assert world.opened[0].closed
    world.wait(1.0, DRONE)
    assert len(world.opened) == 1
