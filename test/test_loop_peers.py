# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The adaptation loop with peers: home first, help in need, back when it is gone."""
from __future__ import annotations

import dataclasses

import pytest

from crowdhmt_ros.loop import step
from crowdhmt_ros.planner.reasons import explain
from crowdhmt_ros.types import (
    Feedback,
    LoopState,
    Requirements,
)
from test.peer_world import (
    AMPLE,
    DRONE,
    FRONT,
    IDS,
    NOON,
    REMOTE,
    TIGHT,
    WISH,
    entry,
    helpers,
    look,
    run,
    window,
)


def test_nobody_is_asked_while_a_candidate_at_home_keeps_every_budget():
    _, plans = run([(AMPLE, (DRONE,))] * 4)
    _, alone = run([(AMPLE, ())] * 4)
    assert helpers(plans) == [()] * 4
    assert [p.chosen for p in plans] == [p.chosen for p in alone]
    assert [p.score for p in plans] == [p.score for p in alone]
    assert [p.runner_up for p in plans] == [p.runner_up for p in alone]
    assert plans[0].peers == (DRONE,)


def fallbacks(times_ms):
    """
    Return the fallbacks of a need that lasts.

    :param times_ms: of each step: what the better fallback takes
    """
    state, found = NOON, []
    strict = Requirements(latency_budget_s=0.025, accuracy_floor=0.88)
    for time_ms in times_ms:
        front = (*FRONT[:2], entry('w050', 0.87, time_ms, 7.3, 2.1), FRONT[3])
        state, plan = step(state, look(0.9, 8.0), [], strict, front, state.plan_seq + 1.0,
                           (DRONE,), REMOTE[:1])
        assert plan.chosen.candidate.placement.peers == ('drone',)
        found.append(plan.chosen.fallback_id.split('/')[0])
    return found


def edge_ms():
    """Return the longest time at which the better fallback is taken at first."""
    low, high = 4.0, 20.0
    assert (fallbacks([low]), fallbacks([high])) == (['w050'], ['w025'])
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if fallbacks([middle]) == ['w050'] else (low, middle)
    return low


def test_a_fallback_stays_while_its_time_wavers_about_the_deadline():
    wavering = [edge_ms() + 0.2 * (-1) ** i for i in range(20)]
    assert set(fallbacks([4.0, *wavering])) == {'w050'}
    assert set(fallbacks([20.0, *wavering])) == {'w025'}


def test_a_fallback_that_leaves_the_peer_no_time_goes_in_the_same_step_and_a_better_one_returns():
    assert fallbacks([4.0, 20.0, 4.0]) == ['w050', 'w025', 'w050']


def test_in_need_a_peer_is_asked_in_the_same_step_and_the_reason_tells_all():
    _, plans = run([(AMPLE, (DRONE,)), (TIGHT, (DRONE,))])
    plan = plans[-1]
    assert plan.chosen.candidate.placement.peers == ('drone',)
    assert not plan.violated
    assert plan.chosen.memory_bytes.mean <= TIGHT * 1e6
    assert plan.chosen.fallback_id == IDS['w025']
    for word in ('drone computes', 'kB there', 'link 2.0 ms and 20.00 MB/s',
                 'nothing that stays here keeps every budget', '0 % of the answers asked of peers',
                 IDS['w025']):
        assert word in plan.reason
    _, alone = run([(TIGHT, ())])
    assert alone[-1].violated


def test_the_way_home_takes_two_steps_and_no_better_score():
    state, plans = run([(TIGHT, (DRONE,))] * 3)
    assert helpers(plans) == [('drone',)] * 3
    _, plans = run([(AMPLE, (DRONE,))] * 3, state)
    assert helpers(plans) == [('drone',), (), ()]
    assert 'needs no peer and must stay so' in plans[0].reason


@pytest.mark.parametrize(('change', 'words'), [
    ({'retry_at_s': 99.0, 'failures': 2}, 'it did not answer 2 times in a row'),
    ({'link_round_trip_s': None}, 'drone: there is no measured link to it'),
    ({'link_bandwidth_bytes_per_s': 1e4}, 'drone is too slow or too far away for it now')])
def test_a_peer_that_fails_is_left_in_the_same_step(change, words):
    state, _ = run([(TIGHT, (DRONE,))] * 2)
    _, plans = run([(TIGHT, (dataclasses.replace(DRONE, **change),))], state)
    assert helpers(plans) == [()]
    assert words in plans[0].reason


def test_a_peer_that_is_gone_is_left_in_the_same_step():
    state, _ = run([(TIGHT, (DRONE,))] * 2)
    left = state.current_id
    _, plans = run([(TIGHT, ())], state)
    assert helpers(plans) == [()]
    assert f'left {left}: the peer that it needs is gone' in plans[0].reason


def test_the_last_lease_is_ones_own():
    busy = dataclasses.replace(DRONE, free_leases=0)
    state, _ = run([(TIGHT, (DRONE,))])
    assert helpers(run([(TIGHT, (busy,))] * 3, state)[1]) == [('drone',)] * 3
    assert helpers(run([(TIGHT, (busy,))])[1]) == [()]


def test_an_equal_peer_does_not_lure_away_and_a_failing_one_is_followed_by_another():
    other = dataclasses.replace(DRONE, robot_id='crawler', link_round_trip_s=0.0019)
    state, plans = run([(TIGHT, (DRONE,))] * 2)
    state, plans = run([(TIGHT, (DRONE, other))] * 4, state)
    assert helpers(plans) == [('drone',)] * 4
    broken = dataclasses.replace(DRONE, retry_at_s=1e6)
    _, plans = run([(TIGHT, (broken, other))], state)
    assert helpers(plans) == [('crawler',)]


def test_while_the_condition_is_unknown_no_peer_is_asked_for_the_sake_of_the_floor():
    _, plans = run([(TIGHT, (DRONE,))] * 2, LoopState())
    assert helpers(plans) == [(), ()]


def offloaded():
    state, plans = run([(TIGHT, (DRONE,))] * 2)
    return state, plans[-1]


def after(state, windows, allotted_mb=TIGHT, peers=(DRONE,)):
    plans = []
    for number, told in enumerate(windows):
        state, plan = step(state, look(0.9, allotted_mb), told, WISH, FRONT, 10.0 + number, peers,
                           REMOTE)
        plans.append(plan)
    return state, plans


def corrections(state):
    return {c.candidate_id: c for c in state.corrections}


def test_what_a_peer_really_takes_is_learned_and_says_nothing_about_this_machine():
    state, plan = offloaded()
    before_s = plan.chosen.latency_s.mean
    promised_s = plan.chosen.away.remote_s
    told = [[window(state.current_id, 10.0 + n, remote_s=2 * promised_s)] for n in range(20)]
    state, plans = after(state, told)
    learned = corrections(state)['peer:drone']
    assert learned.latency_ratio == pytest.approx(2.0, rel=0.01)
    assert plans[-1].chosen.latency_s.mean == pytest.approx(
        before_s + promised_s + 0.001, rel=0.05)
    assert all(c.candidate_id == 'peer:drone' or '@' in c.candidate_id
               for c in state.corrections)


def test_a_slow_peer_does_not_make_local_candidates_look_slow():
    state, plan = offloaded()
    told = [[window(state.current_id, 10.0 + n, remote_s=10 * plan.chosen.away.remote_s)]
            for n in range(10)]
    state, _ = after(state, told)
    _, plans = run([(AMPLE, ())], state)
    _, untaught = run([(AMPLE, ())], dataclasses.replace(state, corrections=tuple(
        c for c in state.corrections if c.candidate_id != 'peer:drone')))
    assert plans[0].chosen.latency_s == untaught[0].chosen.latency_s


def test_degraded_answers_cost_the_candidate_accuracy_and_are_told():
    state, plan = offloaded()
    told = [[window(state.current_id, 10.0 + n, degraded=2)] for n in range(12)]
    state, plans = after(state, told)
    assert state.degraded_ratio == pytest.approx(0.2, abs=0.02)
    last = next(p for p in reversed(plans) if p.chosen.away)
    own = last.chosen.accuracy.mean
    assert own < plan.chosen.accuracy.mean - 0.01
    assert '20 % of the answers asked of peers' in plans[-1].reason


def test_a_peer_that_mostly_fails_is_given_up_for_home_when_the_floor_asks_for_it():
    state, _ = offloaded()
    told = [[window(state.current_id, 10.0 + n, degraded=9)] for n in range(12)]
    _, plans = after(state, told)
    assert plans[-1].violated[0].constraint == 'accuracy'


def test_the_share_of_degraded_answers_fades_while_nobody_is_asked():
    state = dataclasses.replace(NOON, degraded_ratio=0.5)
    local = Feedback(1, IDS['w100'], 1.0, 1.0, infer_s=(0.005,) * 5, offload_s=(None,) * 5)
    for number in range(30):
        state, _ = step(state, look(), [local], WISH, FRONT, number * 1.0, (), REMOTE)
    assert state.degraded_ratio < 0.03


def test_a_fallback_that_ran_too_does_not_count_as_the_heads_time():
    cut = [o for o in REMOTE if o.head_segment_id and o.variant_id == 'w075']
    state, plan = step(NOON, look(0.9, TIGHT), [], WISH, FRONT, 1.0, (DRONE,), cut)
    name = plan.chosen.candidate.candidate_id
    mixed = dataclasses.replace(
        window(name, 2.0, count=10, degraded=4),
        infer_s=(0.0018, 0.0018, 0.0018, 0.009, 0.0018, 0.009, 0.0018, 0.009, 0.0018, 0.009))
    state, _ = step(state, look(0.9, TIGHT), [mixed], WISH, FRONT, 2.0, (DRONE,), cut)
    assert corrections(state)[name].latency_ratio == pytest.approx(1.0)


def test_explaining_lists_candidates_of_peers_and_peers_that_cannot_be_asked():
    silent = dataclasses.replace(DRONE, robot_id='crawler', link_round_trip_s=None)
    _, plans = run([(AMPLE, (DRONE, silent))])
    told = explain(plans[0], FRONT, REMOTE)
    away = [i for i, e in enumerate(told.candidates) if e.candidate.placement.peers]
    assert away
    assert all(told.scores[i] is None for i in away)
    assert {told.objections[i] for i in away} == {
        'not needed: a candidate that stays here keeps every budget'}
    assert 'crawler is not asked: there is no measured link to it' in told.text
    assert told.candidates[0].candidate.placement.label == 'local'
    _, plans = run([(TIGHT, (DRONE,))])
    told = explain(plans[0], FRONT, REMOTE)
    assert told.candidates[0].candidate == plans[0].chosen.candidate
    assert told.scores[0] is not None
    assert f'fallback {IDS["w025"]}' in told.text
