# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Other robots as one hears them: found, lost, incompatible, doubled, lying."""
import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.offload.fleet import (
    GONE_AFTER_S,
    MOST_BOOTS,
    MOST_ROBOTS,
    FleetView,
    sanitised,
    with_links,
)
from crowdhmt_ros.types import Advert, PeerStatus

DRONE = Advert('drone', 'd1', PROTOCOL_VERSION, 'jazzy', 'abc', capacity_macs_per_s=2e9,
               free_leases=2, battery_ratio=0.8, memory_headroom_bytes=1e9,
               channels=('zeromq',), address='tcp://127.0.0.1:7001', key_fingerprint='f')


def advert(robot_id='drone', boot_id='d1', **changes):
    return dataclasses.replace(DRONE, robot_id=robot_id, boot_id=boot_id, **changes)


def view():
    return FleetView('vehicle', ros_distro='jazzy', bundle_sha256='abc', boot_id='v1')


def names(fleet, now_s):
    return [p.robot_id for p in fleet.peers(now_s)]


def test_a_robot_is_a_peer_from_its_first_advert_until_it_is_silent_too_long():
    fleet = view()
    assert fleet.peers(0.0) == ()
    fleet.heard(DRONE, 1.0)
    peer, = fleet.peers(1.5)
    assert peer == PeerStatus('drone', 'd1', 0.5, 2, 2e9, 0.8, 1e9)
    assert names(fleet, 1.0 + GONE_AFTER_S) == ['drone']
    assert names(fleet, 1.01 + GONE_AFTER_S) == []
    assert fleet.advert_of('drone') is None


def test_found_and_lost_are_told_once():
    fleet = view()
    fleet.heard(DRONE, 1.0)
    assert fleet.changes(1.0) == (('drone',), ())
    assert fleet.changes(1.1) == ((), ())
    assert fleet.changes(9.0) == ((), ('drone',))
    assert fleet.changes(9.1) == ((), ())


def test_its_own_advert_is_no_peer_and_no_clash():
    fleet = view()
    fleet.heard(advert('vehicle', 'v1'), 1.0)
    assert fleet.peers(1.0) == ()
    assert not fleet.clash


@pytest.mark.parametrize(('change', 'word'), [
    ({'protocol_version': PROTOCOL_VERSION + 1}, 'protocol'),
    ({'ros_distro': 'humble'}, 'humble'),
    ({'bundle_sha256': 'other'}, 'bundle')])
def test_an_incompatible_robot_is_named_with_the_reason_and_not_offered(change, word):
    fleet = view()
    fleet.heard(advert(**change), 1.0)
    assert fleet.peers(1.0) == ()
    assert fleet.advert_of('drone') is None
    line, = fleet.problems()
    assert line.startswith('drone is not asked: ')
    assert word in line
    fleet.peers(9.0)
    assert fleet.problems() == ()


def test_nobody_is_compatible_while_the_own_bundle_is_unknown():
    fleet = FleetView('vehicle', ros_distro='jazzy', boot_id='v1')
    fleet.heard(DRONE, 1.0)
    assert fleet.peers(1.0) == ()
    fleet.know_self(bundle_sha256='abc')
    assert names(fleet, 1.0) == ['drone']


def test_a_second_robot_of_the_own_name_is_a_clash_until_it_is_silent():
    fleet = view()
    fleet.heard(advert('vehicle', 'v2'), 1.0)
    assert fleet.clash
    assert "another robot is called 'vehicle' too" in fleet.problems()[0]
    assert fleet.peers(1.0) == ()
    fleet.peers(1.1 + GONE_AFTER_S)
    assert not fleet.clash


def test_no_clash_with_its_own_earlier_boot_nor_before_its_boot_is_known():
    fleet = FleetView('vehicle', ros_distro='jazzy', bundle_sha256='abc')
    fleet.heard(advert('vehicle', 'v1'), 1.0)
    assert not fleet.clash
    fleet.know_self(boot_id='v1')
    fleet.know_self(boot_id='v2')
    fleet.heard(advert('vehicle', 'v1'), 2.0)
    assert not fleet.clash


def test_a_restarted_robot_is_accepted_at_once():
    fleet = view()
    fleet.heard(advert(boot_id='d1'), 1.0)
    fleet.heard(advert(boot_id='d2', free_leases=4), 1.5)
    peer, = fleet.peers(1.6)
    assert (peer.boot_id, peer.free_leases) == ('d2', 4)
    assert fleet.problems() == ()


def test_two_robots_of_one_name_are_not_asked_until_one_is_silent():
    fleet = view()
    for now_s in (1.0, 2.0, 3.0):
        fleet.heard(advert(boot_id='d1'), now_s)
        fleet.heard(advert(boot_id='d2'), now_s + 0.5)
    assert fleet.peers(3.6) == ()
    assert fleet.advert_of('drone') is None
    assert 'two robots bear that name' in fleet.problems()[0]
    assert not fleet.clash
    for now_s in (4.5, 5.5, 6.0):
        fleet.heard(advert(boot_id='d2'), now_s)
    assert names(fleet, 6.0) == ['drone']


def test_figures_that_cannot_be_true_become_unknown():
    lying = advert(capacity_macs_per_s=math.nan, battery_ratio=7.0, memory_headroom_bytes=-1.0,
                   free_leases=10**9)
    found = sanitised(lying)
    assert (found.capacity_macs_per_s, found.battery_ratio) == (None, None)
    assert found.memory_headroom_bytes is None
    assert found.free_leases == 1000
    for capacity in (math.inf, -1.0, 0.0, 1e30):
        assert sanitised(advert(capacity_macs_per_s=capacity)).capacity_macs_per_s is None


@pytest.mark.parametrize('change', [
    {'robot_id': ''}, {'robot_id': 'local'}, {'robot_id': 'a@b:c'}, {'robot_id': 'x' * 200},
    {'boot_id': ''}, {'boot_id': 'x' * 300}, {'address': 'tcp://a\nb'},
    {'channels': ('zeromq',) * 9}])
def test_an_advert_without_a_usable_name_is_dropped_and_told(change):
    fleet = view()
    fleet.heard(advert(**change), 1.0)
    assert fleet.peers(1.0) == ()
    assert fleet.problems() == ('an advert without a usable robot_id or boot_id was dropped',)


def test_a_flood_of_invented_robots_takes_bounded_memory_and_keeps_who_was_there():
    fleet = view()
    fleet.heard(advert('a_friend'), 0.0)
    for number in range(1000):
        fleet.heard(advert(f'ghost{number}'), 0.001 * number)
        fleet.heard(advert('twin', f'boot{number}'), 0.001 * number)
    assert len(fleet.peers(1.0)) <= MOST_ROBOTS
    assert 'a_friend' in names(fleet, 1.0)
    assert sum(len(boots) for boots in fleet._robots.values()) <= MOST_ROBOTS + MOST_BOOTS
    assert any('more than 64 robots' in line for line in fleet.problems())
    assert fleet.peers(20.0) == ()
    assert not fleet._robots


def test_links_are_merged_by_name_and_boot():
    fleet = view()
    fleet.heard(DRONE, 1.0)
    fleet.heard(advert('other', 'o2'), 1.0)
    told = (PeerStatus('drone', 'd1', link_bandwidth_bytes_per_s=1e6, link_round_trip_s=0.01,
                       failures=2, retry_at_s=5.0, free_leases=99, capacity_macs_per_s=1.0),
            PeerStatus('other', 'o1', link_bandwidth_bytes_per_s=1e6, link_round_trip_s=0.01),
            PeerStatus('nobody', 'n'))
    drone, other = with_links(fleet.peers(1.0), told)
    assert (drone.link_round_trip_s, drone.failures, drone.retry_at_s) == (0.01, 2, 5.0)
    assert (drone.free_leases, drone.capacity_macs_per_s) == (2, 2e9), 'its own advert says that'
    assert other.link_round_trip_s is None, 'that link was to its boot before'


texts = st.text(max_size=20)
numbers = st.none() | st.floats()


@given(st.lists(st.tuples(
    st.builds(Advert, robot_id=st.sampled_from(['drone', 'vehicle', '', 'ab']) | texts,
              boot_id=st.sampled_from(['b1', 'b2', 'v1']) | texts,
              protocol_version=st.integers(0, 2), ros_distro=st.just('jazzy') | texts,
              bundle_sha256=st.just('abc') | texts, capacity_macs_per_s=numbers,
              free_leases=st.integers(-5, 2**32), battery_ratio=numbers,
              memory_headroom_bytes=numbers, channels=st.tuples(texts), address=texts),
    st.floats(0.0, 10.0)), max_size=20))
def test_whatever_is_advertised_only_sound_figures_come_out(told):
    fleet = view()
    now_s = 0.0
    for said, pause_s in told:
        now_s += pause_s
        fleet.heard(said, now_s)
    for peer in fleet.peers(now_s):
        assert peer.robot_id not in ('vehicle', 'local', '')
        assert 0.0 <= peer.age_s <= GONE_AFTER_S
        assert 0 <= peer.free_leases <= 1000
        assert peer.capacity_macs_per_s is None or 0.0 < peer.capacity_macs_per_s <= 1e18
        assert peer.battery_ratio is None or 0.0 <= peer.battery_ratio <= 1.0
        assert fleet.advert_of(peer.robot_id).boot_id == peer.boot_id
    assert all('\n' not in line for line in fleet.problems())
