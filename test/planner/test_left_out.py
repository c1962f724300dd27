# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Candidates that could not be made ready are left out for a while."""
from __future__ import annotations

import pytest

from crowdhmt_ros.planner.left_out import absorb_failed, hold_s, in_words, is_out, out_now
from crowdhmt_ros.types import Feedback, LeftOut


def failed(name, stamp_s):
    return Feedback(7, name, stamp_s, 0.0, failed=True)


def answered(name, stamp_s):
    return Feedback(7, name, stamp_s, 1.0, infer_s=(0.01,))


def test_waits_grow_to_a_minute():
    assert [hold_s(times) for times in (1, 2, 3, 5, 6, 1000)] == [2.0, 4.0, 8.0, 32.0, 60.0, 60.0]


def test_each_failure_after_a_wait_makes_the_next_one_longer():
    rows = absorb_failed((), [failed('a', 10.0)])
    assert rows == (LeftOut('a', 12.0, 1),)
    assert absorb_failed(rows, [failed('a', 10.5)]) == rows, 'a plan that was on its way'
    assert absorb_failed(rows, [failed('a', 13.0)]) == (LeftOut('a', 17.0, 2),)


def test_several_windows_count_in_their_order():
    rows = absorb_failed((), [failed('b', 13.0), answered('a', 9.0), failed('a', 10.0),
                              failed('b', 10.0)])
    assert rows == (LeftOut('a', 12.0, 1), LeftOut('b', 17.0, 2))


def test_an_answer_clears_it():
    assert absorb_failed((LeftOut('a', 12.0, 4),), [answered('a', 20.0)]) == ()


@pytest.mark.parametrize('window', [
    Feedback(0, '', 5.0, 0.0), Feedback(7, 'a', 5.0, 1.0),
    Feedback(7, 'a', 5.0, 0.0, superseded_stamps_ns=(3,))], ids=['peers', 'idle', 'superseded'])
def test_other_windows_without_answers_are_no_failures(window):
    assert absorb_failed((), [window]) == ()


def test_it_is_out_until_then_and_not_after_the_clock_was_set_back():
    row = LeftOut('a', 1012.0, 1)
    assert is_out(row, 1010.0)
    assert not is_out(row, 1012.0)
    assert not is_out(row, 5.0)
    assert out_now((row, LeftOut('b', 1009.0, 1)), 1010.0) == {'a'}
    assert in_words((row,), 1010.0) == (
        'a is left out for 2 s: this robot could not make it ready (1 times)',)
