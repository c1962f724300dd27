# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.offload.breaker import (
    BACK_OFF_MAX_S,
    BACK_OFF_S,
    SILENCE_S,
    SLOW_TO_OPEN,
    STEADY_S,
    Breaker,
)


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def make(clock, chance=0.999999):
    return Breaker(monotonic=clock, chance=lambda: chance)


def heal(breaker, clock):
    """Answer pings until it closes; returns the seconds that took."""
    began_s = clock.now_s
    while breaker.is_open:
        clock.now_s += 0.01
        breaker.ping_answered()
        assert clock.now_s - began_s < 60.0
    return clock.now_s - began_s


def test_one_failure_does_not_open_it_and_two_in_a_row_of_a_silent_peer_do(clock):
    breaker = make(clock)
    breaker.failed()
    assert not breaker.is_open
    assert breaker.retry_in_s == 0.0
    breaker.answered()
    clock.now_s += SILENCE_S
    breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    assert breaker.failures == 2
    assert breaker.retry_in_s == pytest.approx(BACK_OFF_S, abs=1e-3)


def test_a_lost_connection_opens_it_at_once_and_being_told_twice_changes_nothing(clock):
    breaker = make(clock)
    breaker.lost()
    assert breaker.is_open
    clock.now_s += 0.2
    breaker.lost()
    assert breaker.retry_in_s <= max(BACK_OFF_S - 0.2, 0.5)
    assert breaker.opened == 1


def test_answered_pings_do_not_excuse_requests_that_stay_unanswered(clock):
    breaker = make(clock)
    for _ in range(SLOW_TO_OPEN - 1):
        breaker.failed()
        breaker.ping_answered()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open


def test_answers_that_come_too_late_tell_a_slow_peer_from_a_lost_one(clock):
    breaker = make(clock)
    for _ in range(SLOW_TO_OPEN - 1):
        clock.now_s += SILENCE_S
        breaker.heard()
        breaker.failed()
    assert not breaker.is_open
    clock.now_s += SILENCE_S
    breaker.failed()
    assert breaker.is_open


def test_two_unanswered_pings_open_it(clock):
    breaker = make(clock)
    breaker.ping_failed()
    assert not breaker.is_open
    breaker.ping_failed()
    assert breaker.is_open


def test_two_pings_in_a_row_and_the_end_of_the_back_off_close_it(clock):
    breaker = make(clock)
    breaker.lost()
    breaker.ping_answered()
    breaker.ping_answered()
    assert breaker.is_open, 'the back-off is not over'
    clock.now_s += BACK_OFF_S
    breaker.ping_failed()
    breaker.ping_answered()
    assert breaker.is_open, 'one ping in a row is not enough'
    breaker.ping_answered()
    assert not breaker.is_open
    assert breaker.failures == 0
    assert breaker.retry_in_s == 0.0


def test_while_it_is_open_the_moment_of_the_next_try_lies_ahead(clock):
    breaker = make(clock)
    breaker.lost()
    clock.now_s += 100.0
    assert breaker.is_open
    assert breaker.retry_in_s > 0.0


def test_the_back_off_doubles_up_to_its_longest_and_starts_small_after_a_steady_time(clock):
    breaker = make(clock)
    took_s = []
    for _ in range(4):
        breaker.lost()
        took_s.append(heal(breaker, clock))
    assert took_s == pytest.approx([BACK_OFF_S, 1.0, BACK_OFF_MAX_S, BACK_OFF_MAX_S], abs=0.02)
    clock.now_s += STEADY_S
    breaker.lost()
    assert heal(breaker, clock) == pytest.approx(BACK_OFF_S, abs=0.02)


def test_two_robots_wait_for_different_times(clock):
    early, late = make(clock, 0.0), make(clock, 0.999)
    early.lost()
    late.lost()
    assert heal(early, clock) < late.retry_in_s + 0.25
    assert late.is_open


def test_a_peer_that_says_when_to_ask_again_is_obeyed(clock):
    breaker = make(clock)
    breaker.hold(4.0)
    assert breaker.retry_in_s == pytest.approx(4.0)
    assert heal(breaker, clock) == pytest.approx(4.0, abs=0.02)
