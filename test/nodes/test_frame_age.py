# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.nodes.frame_age import FrameAges

S = 10**9


def test_the_age_is_the_clock_less_the_stamp():
    assert FrameAges().age_s(100 * S, 100 * S + S // 4) == pytest.approx(0.25)


@pytest.mark.parametrize('stamp_ns', [0, 101 * S, 39 * S])
def test_a_zero_future_or_ancient_stamp_has_no_age(stamp_ns):
    ages = FrameAges()
    assert ages.age_s(stamp_ns, 100 * S) is None
    assert ages.unknown == 1
    assert not ages.is_late(None)


def test_a_played_clock_allows_any_past_and_a_moment_ahead():
    ages = FrameAges(sim_time=True)
    assert ages.age_s(10 * S, 100 * S) == 90.0
    assert ages.age_s(100 * S + S // 10, 100 * S) == 0.0
    assert ages.age_s(101 * S, 100 * S) is None


def test_late_is_older_than_two_periods():
    ages = FrameAges(period_s=0.1)
    assert not ages.is_late(0.2)
    assert ages.is_late(0.201)


def test_the_period_is_learned_from_stamps_and_unknown_before():
    ages = FrameAges()
    assert not ages.is_late(9.0)
    for number in range(60):
        ages.observe(S + number * S // 20)
    assert ages.period_s == pytest.approx(0.05)
    assert ages.is_late(0.11)


def test_a_stamp_set_back_and_a_reset_start_anew():
    ages = FrameAges()
    ages.observe(10 * S)
    ages.observe(11 * S)
    ages.observe(5 * S)
    assert ages.period_s is None
    ages.observe(6 * S)
    assert ages.period_s == 1.0
    ages.reset()
    assert ages.period_s is None
    assert FrameAges(period_s=0.1).period_s == 0.1


def test_a_given_period_is_not_learned_away():
    ages = FrameAges(period_s=0.1)
    ages.observe(1 * S)
    ages.observe(9 * S)
    assert ages.period_s == 0.1
