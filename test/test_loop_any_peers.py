# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The adaptation loop with whatever peers: what holds always, noise, and recordings."""
from __future__ import annotations

import dataclasses
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.loop import rederive, step
from crowdhmt_ros.planner.budgets import budgets_now, excess
from crowdhmt_ros.planner.reasons import explain
from crowdhmt_ros.types import (
    CostCorrection,
    LoopState,
    PeerStatus,
    Reading,
    Requirements,
    ResourceSnapshot,
)
from test.peer_world import (
    DRONE,
    FRONT,
    NOON,
    REMOTE,
    TIGHT,
    WISH,
    look,
    window,
)

RATIOS = st.floats(0.0, 1.0)
MAYBE = st.none() | st.floats(0.001, 1.0)
PEER = st.builds(
    PeerStatus, robot_id=st.sampled_from(['drone', 'crawler', 'mast']), boot_id=st.just('b'),
    age_s=st.floats(0.0, 3.0), free_leases=st.integers(0, 2),
    capacity_macs_per_s=st.none() | st.floats(1e8, 1e11), battery_ratio=MAYBE,
    memory_headroom_bytes=st.none() | st.floats(0.0, 1e9),
    link_bandwidth_bytes_per_s=st.none() | st.floats(1e4, 1e9), link_round_trip_s=MAYBE,
    failures=st.integers(0, 3), retry_at_s=st.none() | st.floats(0.0, 20.0))
PEERS = st.lists(PEER, max_size=3, unique_by=lambda p: p.robot_id).map(tuple)


def read_back(plan):
    """Return a plan after a round trip through JSON, as a recording holds it."""
    item = json.loads(json.dumps(dataclasses.asdict(plan)))
    snapshot = {k: Reading(**v) if isinstance(v, dict) else v
                for k, v in item['snapshot'].items()}
    state = dict(item['state'])
    state['corrections'] = tuple(CostCorrection(**c) for c in state['corrections'])
    return dataclasses.replace(
        plan, requirements=Requirements(**item['requirements']),
        snapshot=ResourceSnapshot(**snapshot), state=LoopState(**state),
        stamp_s=item['stamp_s'], peers=tuple(PeerStatus(**p) for p in item['peers']))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(RATIOS, st.floats(1.0, 25.0), PEERS, st.floats(0.3, 8.0),
                          st.integers(0, 5), st.sampled_from(['', 'scenes/noon', 'scenes/dusk'])),
                min_size=1, max_size=10),
       st.none() | st.floats(0.0005, 0.3), st.none() | st.floats(0.5, 0.95))
def test_every_plan_with_peers_derives_itself_again(world, latency_s, floor):
    wish = Requirements(latency_budget_s=latency_s, accuracy_floor=floor)
    state = LoopState()
    for number, (battery, mb, peers, factor, degraded, condition) in enumerate(world):
        told = [dataclasses.replace(
            window(state.current_id, number * 1.0, degraded=degraded, remote_s=0.004 * factor,
                   infer_s=0.003 * factor), condition=condition)] if state.current_id else []
        state, plan = step(state, look(battery, mb), told, wish, FRONT, number * 1.1, peers,
                           REMOTE)
        assert plan.peers == peers
        assert rederive(plan, FRONT, REMOTE) == plan.chosen.candidate.candidate_id
        assert rederive(read_back(plan), FRONT, REMOTE) == plan.chosen.candidate.candidate_id
        away = plan.chosen.candidate.placement.peers
        assert set(away) <= {p.robot_id for p in peers}
        assert bool(away) == bool(plan.chosen.fallback_id)
        over = excess(plan.chosen, budgets_now(wish, plan.snapshot))
        if plan.state.condition:
            assert (over == (0.0, 0.0, 0.0)) == (plan.violated == ())
        assert explain(plan, FRONT, REMOTE).text


@settings(max_examples=60, deadline=None)
@given(RATIOS, st.floats(1.0, 25.0), PEERS, st.floats(0.5, 0.95))
def test_peers_change_nothing_where_home_keeps_every_budget(battery, mb, peers, floor):
    wish = Requirements(accuracy_floor=floor)
    _, alone = step(NOON, look(battery, mb), [], wish, FRONT, 1.0)
    _, plan = step(NOON, look(battery, mb), [], wish, FRONT, 1.0, peers, REMOTE)
    if not alone.violated:
        assert (plan.chosen, plan.score, plan.runner_up) == (
            alone.chosen, alone.score, alone.runner_up)
    else:
        assert len(plan.violated) <= len(alone.violated)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0.97, 1.03), st.floats(0.97, 1.03), st.floats(0.97, 1.03)),
                min_size=12, max_size=12), RATIOS, st.floats(3.1, 25.0), st.floats(0.5, 0.9),
       st.floats(0.005, 0.1))
def test_noise_of_three_percent_in_link_and_peer_switches_at_most_twice(noise, battery, mb,
                                                                        floor, latency_s):
    wish = Requirements(latency_budget_s=latency_s, accuracy_floor=floor)
    state, ids = NOON, []
    for number, (link, capacity, trip) in enumerate(noise):
        peer = dataclasses.replace(
            DRONE, link_bandwidth_bytes_per_s=20e6 * link, capacity_macs_per_s=10e9 * capacity,
            link_round_trip_s=0.002 * trip)
        state, _ = step(state, look(battery, mb), [], wish, FRONT, float(number), (peer,), REMOTE)
        ids.append(state.current_id)
    assert sum(a != b for a, b in zip(ids, ids[1:])) <= 2


def test_a_step_with_five_peers_takes_less_than_five_milliseconds():
    front = [dataclasses.replace(e, candidate=dataclasses.replace(
        e.candidate, variant_id=f'{e.candidate.variant_id}.{n}')) for e in FRONT for n in range(4)]
    remote = [dataclasses.replace(o, variant_id=f'{o.variant_id}.{n}',
                                  accuracy={k: v - n / 100 for k, v in o.accuracy.items()},
                                  remote_macs=o.remote_macs // (n + 1),
                                  sent_bytes=o.sent_bytes * (1 + n % 3))
              for o in REMOTE for n in range(10)]
    peers = [dataclasses.replace(DRONE, robot_id=f'd{n}') for n in range(5)]
    state, took = NOON, []
    for number in range(20):
        began_s = time.process_time()
        state, _ = step(state, look(0.9, TIGHT), [], WISH, front[:15], float(number), peers,
                        remote)
        took.append(time.process_time() - began_s)
    assert min(took) < 0.005, f'fastest of 20 steps took {min(took) * 1e3:.1f} ms'


@pytest.mark.ros
def test_every_plan_with_peers_derives_itself_again_from_its_message():
    from crowdhmt_ros.nodes.convert import plan_from_msg, plan_to_msg
    from crowdhmt_ros.types import BundleIdentity

    began_s = 1732183840.123456789
    retried = dataclasses.replace(DRONE, retry_at_s=began_s + 3.5, age_s=0.3333333333)
    state, seen = NOON, set()
    for number in range(8):
        told = [window(state.current_id, began_s + number, degraded=number % 3)] \
            if '@' in state.current_id else []
        state, plan = step(state, look(0.9, TIGHT), told, WISH, FRONT, began_s + number,
                           (retried,) if number < 6 else (), REMOTE)
        again = plan_from_msg(plan_to_msg(plan, BundleIdentity()))
        assert rederive(again, FRONT, REMOTE) == plan.chosen.candidate.candidate_id
        assert (again.state, again.peers) == (plan.state, plan.peers)
        assert again.chosen.fallback_id == plan.chosen.fallback_id
        seen.add(plan.chosen.candidate.placement.label)
    assert seen >= {'local', 'drone'} or seen >= {'local', 'local>drone'}
