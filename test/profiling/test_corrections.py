# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What feedback teaches, and what it must not."""
from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.profiling.corrections import (
    DEGRADED_FADE,
    HIGHEST_RATIO,
    LOWEST_RATIO,
    absorb,
    absorb_degraded,
    absorb_preprocess,
    common_ratio,
    peer_ratios,
)
from crowdhmt_ros.profiling.latency import SPREAD_LIMIT
from crowdhmt_ros.types import (
    Away,
    Candidate,
    CostCorrection,
    EngineOptions,
    Estimate,
    Feedback,
    FrontEntry,
    Placement,
    SegmentPlacement,
    Variant,
)

TABLE_S = 0.010


def make(name):
    candidate = Candidate(name, Variant(((),), 0),
                          Placement((SegmentPlacement('whole', name),)), EngineOptions())
    return FrontEntry(candidate, {'photos': 0.5}, Estimate(TABLE_S, TABLE_S), Estimate(1, 1),
                      Estimate(1, 1), 1)


@pytest.fixture
def front():
    return tuple(make(name) for name in 'abc')


@pytest.fixture
def ids(front):
    return [e.candidate.candidate_id for e in front]


def window(candidate_id, factor, stamp_s=100.0, count=10, first=()):
    times = tuple(first) + (TABLE_S * factor,) * count
    return Feedback(1, candidate_id, stamp_s, 1.0, preprocess_s=(0.002,) * len(times),
                    infer_s=times)


def ratios(corrections):
    return {c.candidate_id: c.latency_ratio for c in corrections}


def after(front, factors, candidate_id, start=()):
    known = tuple(start)
    for number, factor in enumerate(factors):
        known = absorb(known, [window(candidate_id, factor, stamp_s=float(number))], front)
    return known


def test_ratio_follows_measured_over_tabulated(front, ids):
    known = after(front, [1.5] * 10, ids[0])
    assert ratios(known) == {ids[0]: pytest.approx(1.5, rel=0.02)}


@pytest.mark.parametrize('preprocess_s', [0.0, TABLE_S, 9.0, math.nan])
def test_preprocessing_does_not_touch_the_ratio(front, ids, preprocess_s):
    feedback = Feedback(1, ids[0], 1.0, 1.0, preprocess_s=(preprocess_s,) * 10,
                        infer_s=(TABLE_S,) * 10)
    assert ratios(absorb((), [feedback], front))[ids[0]] == pytest.approx(1.0)


def prepared(*times, stamp_s=1.0, candidate_id='a'):
    return Feedback(1, candidate_id, stamp_s, 1.0, preprocess_s=times)


def test_the_first_window_gives_the_preprocessing_time_without_its_warm_up():
    assert absorb_preprocess(None, [prepared(9.0, 9.0, 0.003, 0.002, 0.004)]) == 0.003


def test_preprocessing_follows_a_camera_of_another_size_whoever_computes():
    known = 0.002
    for number in range(20):
        known = absorb_preprocess(known, [prepared(*[0.016] * 10, stamp_s=float(number),
                                                   candidate_id='ab'[number % 2])])
    assert known == pytest.approx(0.016, rel=0.01)


def test_a_bad_frame_and_a_short_window_hardly_move_preprocessing():
    assert absorb_preprocess(0.002, [prepared(*[0.002] * 9, 5.0)]) == pytest.approx(0.002)
    assert absorb_preprocess(0.002, [prepared(0.012)]) == pytest.approx(0.002 + 0.06 * 0.010)


def test_without_usable_times_preprocessing_stays_as_known():
    bad = [prepared(), prepared(math.nan, math.nan, math.nan), prepared(-1.0, -1.0, -1.0)]
    assert absorb_preprocess(None, bad) is None
    assert absorb_preprocess(0.004, bad) == 0.004


@given(st.permutations(range(4)))
def test_the_order_of_arrival_does_not_change_preprocessing(order):
    told = [prepared(*[0.001 * (i + 1)] * 5, stamp_s=float(i)) for i in range(4)]
    assert absorb_preprocess(None, told) == absorb_preprocess(None, [told[i] for i in order])


def test_one_bad_frame_in_ten_hardly_moves_the_ratio(front, ids):
    known = after(front, [1.0] * 5, ids[0])
    hiccup = window(ids[0], 1.0, count=9, first=(TABLE_S * 50,))
    assert ratios(absorb(known, [hiccup], front))[ids[0]] == pytest.approx(1.0, abs=0.01)


def test_the_spread_remembers_bad_frames_within_bounds(front, ids):
    known = after(front, [1.0] * 5, ids[0])
    hiccup = window(ids[0], 1.0, count=9, first=(TABLE_S * 50,))
    spread = absorb(known, [hiccup], front)[0].spread_ratio
    assert 1.0 < spread <= 1.0 + 0.15 * (SPREAD_LIMIT - 1.0) + 1e-9


def test_warm_up_frames_of_a_new_candidate_are_passed_over(front, ids):
    cold = window(ids[0], 1.0, count=3, first=(TABLE_S * 30, TABLE_S * 20))
    learned = absorb((), [cold], front)[0]
    assert learned.latency_ratio == pytest.approx(1.0)
    assert learned.spread_ratio == pytest.approx(1.0)
    assert learned.samples == 3


def test_warm_up_frames_after_a_switch_back_are_passed_over(front, ids):
    known = after(front, [1.0] * 3, ids[0])
    cold = window(ids[0], 1.0, stamp_s=50.0, count=2, first=(TABLE_S * 30, TABLE_S * 30))
    again = absorb(known, [cold], front, current_id=ids[0], current_since_s=49.5)
    assert ratios(again)[ids[0]] == pytest.approx(1.0, abs=0.01)
    poisoned = absorb(known, [cold], front, current_id=ids[0], current_since_s=10.0)
    assert ratios(poisoned)[ids[0]] > 1.5, 'in the middle of a run four such frames are real'


def test_windows_without_usable_frames_teach_nothing(front, ids):
    bad = [Feedback(1, ids[0], 1.0, 1.0),
           Feedback(1, ids[0], 1.0, 1.0, preprocess_s=(0.0,) * 5, infer_s=(math.nan,) * 5),
           Feedback(1, ids[0], 1.0, 1.0, preprocess_s=(0.0,) * 5, infer_s=(-1.0,) * 5),
           window('nobody', 3.0)]
    assert absorb((), bad, front) == ()


@pytest.mark.parametrize(('factor', 'limit'), [(1e-6, LOWEST_RATIO), (1e6, HIGHEST_RATIO)])
def test_ratios_stay_within_their_range(front, ids, factor, limit):
    assert ratios(after(front, [factor] * 5, ids[0]))[ids[0]] == pytest.approx(limit)


def test_a_busy_machine_slows_the_others_at_once(front, ids):
    known = after(front, [1.0] * 5, ids[1])
    known = after(front, [1.0] * 5, ids[0], known)
    busy = after(front, [2.0] * 8, ids[0], known)
    assert ratios(busy)[ids[1]] == pytest.approx(ratios(busy)[ids[0]], rel=0.15)
    calm = after(front, [1.0] * 12, ids[0], busy)
    assert ratios(calm)[ids[1]] == pytest.approx(1.0, rel=0.15)


def test_a_table_that_was_wrong_for_one_says_nothing_about_another(front, ids):
    known = after(front, [3.0] * 10, ids[0])
    known = after(front, [1.0] * 3, ids[1], known)
    assert ratios(known)[ids[0]] > 2.5, 'the first frames of b are no news about a'


def test_an_unused_verdict_fades_and_is_forgotten(front, ids):
    known = after(front, [3.0] * 10, ids[0])
    known = after(front, [1.0] * 40, ids[1], known)
    assert ratios(known).get(ids[0], 1.0) < 2.0
    known = after(front, [1.0] * 200, ids[1], known)
    assert ids[0] not in ratios(known)


def test_nothing_ages_without_feedback(front, ids):
    known = after(front, [3.0] * 3, ids[0])
    assert absorb(known, [], front) == known


def test_common_ratio_is_the_median_by_frames():
    assert common_ratio(()) is None
    known = [CostCorrection('a', 1.0, 1.0, 5), CostCorrection('b', 2.0, 1.0, 100),
             CostCorrection('c', 9.0, 1.0, 10)]
    assert common_ratio(known) == 2.0


def test_corrections_come_in_order_of_name(front, ids):
    known = absorb((), [window(i, 1.0) for i in reversed(ids)], front)
    assert [c.candidate_id for c in known] == sorted(ids)


@given(st.permutations(range(6)), st.lists(st.floats(0.3, 10.0), min_size=6, max_size=6))
def test_the_order_of_arrival_does_not_matter(order, factors):
    front = tuple(make(n) for n in 'ab')
    ids = [e.candidate.candidate_id for e in front]
    told = [window(ids[i % 2], f, stamp_s=float(i)) for i, f in enumerate(factors)]
    assert absorb((), told, front) == absorb((), [told[i] for i in order], front)


AWAY = Away('drone', 95 * 10**5, 1e9, 1e4, 1e3, 0.001, 1e6, 0.002)


def helped(name='h'):
    return dataclasses.replace(make(name), away=AWAY)


def crossing(candidate_id, factor=1.0, stamp_s=100.0, count=10, degraded=0, **more):
    """Return a window in which the peer takes FACTOR times what is promised, 10 ms."""
    good = count - degraded
    fields = {'infer_s': (TABLE_S,) * count, 'offload_s': (0.03,) * count,
              'link_s': (0.012,) * good, 'remote_queue_s': (0.002 * factor,) * good,
              'remote_infer_s': (0.008 * factor,) * good, 'degraded': degraded, **more}
    return Feedback(1, candidate_id, stamp_s, 1.0, **fields)


def test_a_peer_is_learned_under_its_own_name():
    entry = helped()
    assert AWAY.remote_s == pytest.approx(0.010)
    name = entry.candidate.candidate_id
    rows = absorb((), [crossing(name, 3.0, stamp_s=float(n)) for n in range(20)], [entry])
    assert ratios(rows) == pytest.approx({name: 1.0, 'peer:drone': 3.0})
    assert common_ratio(rows) == 1.0
    assert peer_ratios(rows) == pytest.approx({'drone': 3.0})
    assert common_ratio(tuple(r for r in rows if r.candidate_id == 'peer:drone')) is None


def test_the_spread_of_a_peer_is_that_of_the_whole_way():
    entry = helped()
    name = entry.candidate.candidate_id
    uneven = crossing(name, count=20, link_s=(0.012,) * 10 + (0.034,) * 10)
    rows = absorb((), [dataclasses.replace(uneven, stamp_s=float(n)) for n in range(60)], [entry])
    spread_of = {r.candidate_id: r.spread_ratio for r in rows}
    assert spread_of['peer:drone'] == pytest.approx(0.044 / 0.033, rel=0.05)
    assert spread_of[name] == 1.0


def test_a_slower_machine_does_not_make_the_peer_slower(front):
    entry = helped()
    name = entry.candidate.candidate_id
    rows = absorb((), [crossing(name, stamp_s=float(n)) for n in range(5)], [entry, *front])
    slow = front[0].candidate.candidate_id
    rows = absorb(rows, [window(slow, 1.0, stamp_s=float(10 + n)) for n in range(5)],
                  [entry, *front])
    rows = absorb(rows, [window(slow, 4.0, stamp_s=float(20 + n)) for n in range(5)],
                  [entry, *front])
    assert ratios(rows)['peer:drone'] == pytest.approx(1.0)
    assert ratios(rows)[name] > 2.0


def test_a_peer_that_helps_no_more_is_forgotten_within_a_minute(front):
    entry, slow = helped(), front[0].candidate.candidate_id
    rows = (CostCorrection('peer:drone', 5.0, 4.0, 500),)
    for number in range(60):
        rows = absorb(rows, [window(slow, 1.0, stamp_s=200.0 + number)], [entry, *front])
        found = {r.candidate_id: r for r in rows}.get('peer:drone')
        if number == 20:
            assert found.latency_ratio < 1.5
            assert found.spread_ratio < 2.0
    assert found is None


def test_a_window_without_an_answer_of_the_peer_says_nothing_of_it():
    entry = helped()
    rows = absorb((), [crossing(entry.candidate.candidate_id, degraded=10)], [entry])
    assert 'peer:drone' not in ratios(rows)


def test_where_the_fallback_ran_too_its_time_is_left_out():
    entry = helped()
    name = entry.candidate.candidate_id
    mixed = crossing(name, degraded=3, infer_s=(TABLE_S,) * 7 + (4 * TABLE_S,) * 3)
    assert ratios(absorb((), [mixed], [entry]))[name] == pytest.approx(1.0)


def test_the_degraded_share_follows_what_happened_and_fades_without_peers():
    bad = [crossing('h', degraded=5, stamp_s=float(n)) for n in range(30)]
    ratio = absorb_degraded(0.0, bad)
    assert ratio == pytest.approx(0.5, abs=0.01)
    rest = [window('a', 1.0, stamp_s=100.0 + n) for n in range(30)]
    assert absorb_degraded(ratio, rest) == pytest.approx(0.5 * DEGRADED_FADE ** 30, rel=0.05)
    assert absorb_degraded(0.4, [Feedback(0, '', 1.0, 0.0)]) == 0.4


def test_one_lost_frame_of_a_second_weighs_little():
    assert absorb_degraded(0.0, [crossing('h', count=10, degraded=1)]) < 0.05


MESS = st.lists(st.floats(), max_size=6).map(tuple)


@given(st.lists(st.builds(
    Feedback, plan_seq=st.integers(0, 5), candidate_id=st.sampled_from(
        [helped().candidate.candidate_id, 'other']), stamp_s=st.floats(0.0, 100.0),
    window_s=st.floats(0.0, 5.0) | st.just(math.nan), infer_s=MESS, link_s=MESS,
    remote_queue_s=MESS, remote_infer_s=MESS,
    offload_s=st.lists(st.none() | st.floats(), max_size=6).map(tuple),
    degraded=st.integers(0, 9)), max_size=8))
def test_whatever_is_told_of_peers_what_is_learned_stays_sound(told):
    rows = absorb((), told, [helped()])
    for row in rows:
        assert LOWEST_RATIO <= row.latency_ratio <= HIGHEST_RATIO
        assert 1.0 <= row.spread_ratio <= SPREAD_LIMIT
        assert row.samples > 0
    assert 0.0 <= absorb_degraded(0.0, told) <= 1.0
