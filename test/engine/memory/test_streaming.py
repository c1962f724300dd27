# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.engine.memory.streaming import plan_stream


def laid_out(sizes):
    """Return one range per piece, behind each other in the file."""
    ranges, start = [], 0
    for size in sizes:
        ranges.append([(start, start + size)] if size else [])
        start += size
    return ranges


def most_there(sizes, plan, runs=3):
    """Run a plan whose parts must be there in time; return the most bytes at one time."""
    parts = [sum(stop - start for start, stop in ranges) for ranges in plan.streamed]
    there = {i for turn, now in enumerate(plan.fetched) for i in now if i < turn}
    most = 0
    for _ in range(runs):
        for turn, now in enumerate(plan.fetched):
            assert not there & set(now), 'fetched twice'
            there |= set(now)
            assert turn in there or not parts[turn]
            most = max(most, plan.resident_bytes + sum(parts[i] for i in there))
            there.discard(turn)
    return most


def test_what_fits_stays():
    plan = plan_stream(laid_out([30, 50, 20]), 100)
    assert plan.streamed == ((), (), ())
    assert plan.resident_bytes == 100


def test_without_a_room_everything_goes_behind_its_piece():
    ranges = laid_out([30, 50, 20])
    plan = plan_stream(ranges, None)
    assert plan.streamed == tuple(map(tuple, ranges))
    assert plan.fetched == ((), (), ())
    assert plan.resident_bytes == 0
    assert plan.window_bytes == 50


def test_a_little_of_many_streams_rather_than_all_of_a_few():
    plan = plan_stream(laid_out([100] * 10), 900)
    parts = [sum(b - a for a, b in ranges) for ranges in plan.streamed]
    assert len(set(parts)) == 1
    assert 0 < parts[0] <= 13
    assert most_there([100] * 10, plan) <= 900


def test_with_too_little_room_for_the_next_piece_one_at_a_time_is_there():
    plan = plan_stream(laid_out([10, 40, 40, 10]), 45)
    assert most_there([10, 40, 40, 10], plan) <= 45


def test_what_never_fits_streams_whole():
    plan = plan_stream(laid_out([10, 40, 10]), 20)
    assert plan.resident_bytes == 0
    assert sum(b - a for ranges in plan.streamed for a, b in ranges) == 60


def test_before_the_first_run_all_comes_that_the_schedule_counts_on():
    ranges = laid_out([30, 100, 80, 100])
    plan = plan_stream(ranges, 280)
    there = {byte for start, stop in plan.first(ranges) for byte in range(start, stop)}
    streamed = {byte for part in plan.streamed for start, stop in part
                for byte in range(start, stop)}
    assert set(range(310)) - streamed <= there
    ahead = {i for turn, now in enumerate(plan.fetched) for i in now if i < turn}
    for index, part in enumerate(plan.streamed):
        for start, stop in part:
            assert set(range(start, stop)).isdisjoint(there) == (index not in ahead)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=12),
       share=st.floats(0.0, 1.2))
def test_no_plan_takes_more_than_the_room_or_the_largest_piece(sizes, share):
    room = int(share * sum(sizes))
    plan = plan_stream(laid_out(sizes), room)
    assert most_there(sizes, plan) <= max(room, max(sizes))
    streamed = sum(b - a for ranges in plan.streamed for a, b in ranges)
    assert plan.resident_bytes + streamed == sum(sizes)


@pytest.mark.parametrize('room', [None, 0, 5])
def test_pieces_without_weights_stream_nothing(room):
    plan = plan_stream([[], []], room)
    assert plan.streamed == ((), ())
    assert plan.resident_bytes == 0
