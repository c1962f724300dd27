# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What peers add to the front: who may be asked, what goes with it, how many there are."""
import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.offload.placement import (
    DEADLINE_S,
    MOST_OFFERS,
    MOST_PEERS,
    _facts,
    _ways,
    candidate_of,
    entries_named,
    mean_of,
    objection,
    offers,
    worth_offering,
)
from crowdhmt_ros.types import (
    HERE,
    Candidate,
    EnergyCoefficients,
    EngineOptions,
    Estimate,
    ExitCost,
    FrontEntry,
    PeerStatus,
    Placement,
    RemoteOption,
    SegmentPlacement,
    Variant,
)

DRONE = PeerStatus('drone', 'd1', 0.5, 2, 5e9, 0.8, 1e9, 10e6, 0.002)
COEFFICIENTS = EnergyCoefficients(52.8e-12, idle_w=0.2, joules_per_byte=1e-7)


def flat(value):
    return Estimate(value, value)


def home(name, accuracy, memory_mb, latency_s=0.005):
    placement = Placement((SegmentPlacement('whole', f'{name}.whole'),))
    return FrontEntry(Candidate(name, Variant(((),), 0), placement, EngineOptions()),
                      {'noon': accuracy}, flat(latency_s), flat(memory_mb * 1e6), flat(0.001),
                      10**6)


FRONT = (home('rich', 0.92, 20.0), home('middle', 0.85, 9.0), home('lean', 0.70, 3.0))


def option(variant='rich', cut='', codec='jpeg', **changes):
    fields = {
        'accuracy': {'noon': 0.91}, 'head_latency_s': flat(0.002 if cut else 0.0),
        'head_memory_bytes': flat(2e6 if cut else 0.0), 'head_macs': 10**7 if cut else 0,
        'head_words': 100 if cut else 0, 'head_energy_j': flat(0.0005 if cut else 0.0),
        'sent_bytes': 8000.0, 'received_bytes': 28.0, 'codec_s': 0.001,
        'remote_macs': 50 * 10**6, 'coefficients': COEFFICIENTS, **changes}
    return RemoteOption(
        variant, Variant(((),), 0), EngineOptions(), f'{variant}.{cut}.head' if cut else '',
        f'{variant}.{cut}.tail' if cut else f'{variant}.whole', 'tail' if cut else 'whole', codec,
        **fields)


def find(remote=None, peers=(DRONE,), front=FRONT, budget=None, **more):
    remote = (option(),) if remote is None else remote
    return offers(remote, peers, front, memory_budget_bytes=budget, now_s=10.0, **more)


def test_the_frame_itself_goes_whole_to_the_peer_and_a_head_stays_here():
    sent, = find()
    assert sent.candidate.placement.segments == (
        SegmentPlacement('whole', 'rich.whole', 'drone', 'jpeg'),)
    cut, = find([option(cut='c2', codec='int8')])
    assert cut.candidate.placement.segments == (
        SegmentPlacement('head', 'rich.c2.head', HERE, 'none'),
        SegmentPlacement('tail', 'rich.c2.tail', 'drone', 'int8'))
    assert cut.candidate.placement.label == 'local>drone'
    assert (cut.latency_s.mean, cut.macs, cut.energy_j.mean) == (0.002, 10**7, 0.0005)
    assert (cut.away.robot_id, cut.away.sent_bytes, cut.away.round_trip_s) == ('drone', 8e3, 2e-3)


def test_each_peer_makes_candidates_of_its_own():
    other = dataclasses.replace(DRONE, robot_id='crawler')
    found = find(peers=(DRONE, other))
    assert [e.away.robot_id for e in found] == ['drone', 'crawler']
    assert len({e.candidate.candidate_id for e in found}) == 2


@pytest.mark.parametrize(('change', 'word'), [
    ({'link_round_trip_s': None}, 'no measured link'),
    ({'link_bandwidth_bytes_per_s': None}, 'no measured link'),
    ({'link_bandwidth_bytes_per_s': 0.0}, 'no measured link'),
    ({'link_round_trip_s': math.inf}, 'no measured link'),
    ({'capacity_macs_per_s': None}, 'how fast it computes'),
    ({'age_s': None}, 'nothing is heard'),
    ({'age_s': 2.6}, 'nothing is heard'),
    ({'free_leases': 0}, 'no free lease'),
    ({'retry_at_s': 11.5, 'failures': 2}, '2 times in a row, asked again in 1.5 s')])
def test_a_peer_that_cannot_be_asked_adds_nothing_and_the_reason_is_told(change, word):
    peer = dataclasses.replace(DRONE, **change)
    assert find(peers=(peer,)) == ()
    assert word in objection(peer, 10.0)


def test_a_peer_may_be_asked_again_when_its_time_has_come():
    assert find(peers=(dataclasses.replace(DRONE, retry_at_s=10.0, failures=2),))


def test_who_holds_a_lease_needs_no_free_one():
    busy = dataclasses.replace(DRONE, free_leases=0)
    name = find()[0].candidate.candidate_id
    assert find(peers=(busy,), current_id=name)


def test_without_a_free_lease_only_the_part_leased_already_is_offered():
    busy, remote = dataclasses.replace(DRONE, free_leases=0), [option(), option(cut='c2')]
    name = candidate_of(remote[1], 'drone').candidate_id
    assert [e.candidate.candidate_id for e in find(remote, (busy,), current_id=name)] == [name]


def test_a_peer_without_the_memory_for_it_is_not_asked_for_that_part():
    big = option(remote_memory_bytes=2e9)
    assert find([big]) == ()
    assert find([big], peers=(dataclasses.replace(DRONE, memory_headroom_bytes=None),))


def test_the_fallback_is_the_most_accurate_that_fits_beside_the_head():
    cut = option(cut='c2')
    for budget, name, memory in ((None, 'rich', 22e6), (22e6, 'rich', 22e6),
                                 (21.9e6, 'middle', 11e6), (5e6, 'lean', 5e6)):
        entry, = find([cut], budget=budget)
        assert entry.fallback_id.startswith(name + '/')
        assert entry.memory_bytes.mean == memory
        assert entry.fallback_accuracy == next(
            e.accuracy for e in FRONT if e.candidate.candidate_id == entry.fallback_id)


def test_where_nothing_fits_the_leanest_counts_and_breaks_the_budget():
    entry, = find([option(cut='c2')], budget=4e6)
    assert entry.fallback_id.startswith('lean/')
    assert entry.memory_bytes.mean == 5e6


def test_what_may_answer_early_is_no_fallback():
    early = tuple(dataclasses.replace(e, exits=(
        ExitCost(0, 0.5, 0.001, 0.001), ExitCost(1, 0.5, 0.005, 0.005))) for e in FRONT)
    entry, = find(front=(*early[:2], FRONT[2]))
    assert entry.fallback_id.startswith('lean/')
    assert find(front=early) == ()


def test_the_fallback_leaves_the_peer_its_time():
    slow = (home('rich', 0.92, 20.0, latency_s=0.195), home('lean', 0.70, 3.0))
    entry, = find(front=slow)
    assert entry.fallback_id.startswith('lean/')
    assert find(front=slow[:1]) == ()
    assert find(front=slow[:1], deadline_s=0.5)


def test_a_link_too_slow_for_the_deadline_is_no_offer():
    thin = dataclasses.replace(DRONE, link_bandwidth_bytes_per_s=8028 / DEADLINE_S)
    assert find(peers=(thin,)) == ()


def test_the_candidate_in_force_stays_a_little_longer_than_a_new_one_comes():
    # 8028 bytes take 0.16 s: with the fallback's 5 ms in time, but not with room to spare.
    near = dataclasses.replace(DRONE, link_bandwidth_bytes_per_s=8028 / 0.16)
    assert find(peers=(near,)) == ()
    assert find(peers=(near,), current_id=candidate_of(option(), 'drone').candidate_id)


def test_what_was_learned_of_a_peer_counts_against_the_deadline():
    assert find([option(remote_macs=5 * 10**8)])
    assert find([option(remote_macs=5 * 10**8)], peer_ratios={'drone': 3.0}) == ()


def test_an_option_that_another_beats_in_everything_is_dropped_unless_it_is_in_force():
    worse = option(codec='fp16', sent_bytes=16000.0, cut='c2')
    better = option(codec='int8', sent_bytes=8000.0, cut='c2')
    assert [e.candidate.placement.segments[1].codec for e in find([worse, better])] == ['int8']
    in_force = candidate_of(worse, 'drone').candidate_id
    found = find([worse, better], current_id=in_force)
    assert [e.candidate.placement.segments[1].codec for e in found] == ['fp16', 'int8']


def test_what_nothing_beats_whatever_the_peer_is_worth_offering():
    heavy_bytes = option(cut='c1', codec='fp16', sent_bytes=9e4, head_memory_bytes=flat(1e6))
    worse = option(cut='c1', codec='raw', sent_bytes=9e5, head_memory_bytes=flat(1e6))
    light = option()
    assert worth_offering([heavy_bytes, worse, light, light]) == (light,)
    exact = dataclasses.replace(heavy_bytes, accuracy={'noon': 0.92})
    assert worth_offering([exact, worse, light]) == (exact, light)


def test_of_a_large_fleet_the_nearest_and_the_one_in_use_are_considered():
    fleet = [dataclasses.replace(DRONE, robot_id=f'd{n:02d}', link_round_trip_s=0.001 * (n + 1))
             for n in range(40)]
    found = find(peers=fleet)
    assert {e.away.robot_id for e in found} == {f'd{n:02d}' for n in range(MOST_PEERS)}
    far = candidate_of(option(), 'd39').candidate_id
    found = {e.away.robot_id for e in find(peers=fleet, current_id=far)}
    assert 'd39' in found
    assert len(found) == MOST_PEERS


def test_nothing_is_added_without_options_peers_or_a_fallback():
    assert find([]) == find(peers=()) == find(front=()) == ()


def test_a_candidate_is_found_again_by_its_name_even_while_its_peer_cannot_be_asked():
    cut = option(cut='c2')
    name = candidate_of(cut, 'drone').candidate_id
    silent = dataclasses.replace(DRONE, retry_at_s=99.0, free_leases=0)
    entry, = entries_named([name, 'someone/else', ''], (option(), cut), (silent,))
    assert entry.candidate.candidate_id == name
    assert entry.away.macs == cut.remote_macs
    assert entries_named([name], (cut,), ()) == ()
    unknown = dataclasses.replace(DRONE, capacity_macs_per_s=None)
    assert entries_named([name], (cut,), (unknown,)) == ()


FIGURE = st.none() | st.floats() | st.floats(1e-4, 1e9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(
    PeerStatus, robot_id=st.sampled_from(['a', 'b', 'drone']), boot_id=st.just('x'),
    age_s=FIGURE, free_leases=st.integers(0, 3), capacity_macs_per_s=FIGURE,
    battery_ratio=FIGURE, memory_headroom_bytes=FIGURE, link_bandwidth_bytes_per_s=FIGURE,
    link_round_trip_s=FIGURE, failures=st.integers(0, 9), retry_at_s=FIGURE), max_size=4),
    st.none() | st.floats(0.0, 30e6))
def test_whatever_is_known_of_peers_every_offer_has_a_fallback_and_finite_figures(peers, budget):
    for entry in find([option(), option(cut='c1'), option('lean', 'c2', 'int8')], peers,
                      budget=budget):
        assert entry.fallback_id in {e.candidate.candidate_id for e in FRONT}
        assert entry.candidate.placement.peers == (entry.away.robot_id,)
        assert 0.0 <= entry.away.link_s + entry.away.remote_s <= DEADLINE_S
        if budget is not None and budget >= 5e6:
            assert entry.memory_bytes.mean <= budget


def test_of_many_ways_that_nothing_beats_the_extremes_and_a_spread_are_offered():
    ways = [option(f'v{n:03d}', 'c', accuracy={'noon': 0.5 + n / 500}, remote_macs=10**6 * (n + 1),
                   head_memory_bytes=flat(1e6 + 1e4 * n), sent_bytes=1e4 + 100.0 * n)
            for n in range(200)]
    found = find(ways)
    assert 20 <= len(found) <= MOST_OFFERS
    accuracies = [e.accuracy['noon'] for e in found]
    assert (min(accuracies), max(accuracies)) == (0.5, 0.5 + 199 / 500)
    assert max(b - a for a, b in zip(accuracies, accuracies[1:])) < 0.05
    in_force = candidate_of(ways[7], 'drone').candidate_id
    assert in_force in {e.candidate.candidate_id for e in find(ways, current_id=in_force)}


def test_times_of_offers_are_those_of_what_goes_away():
    entry, = find([option(cut='c2')])
    way, = _ways([_facts(option(cut='c2'), mean_of)], DRONE, 2.0)
    assert way.usual_s == pytest.approx(
        entry.latency_s.mean + entry.away.codec_s + entry.away.link_s + 2 * entry.away.remote_s)
