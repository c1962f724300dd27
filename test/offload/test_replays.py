# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.offload.replays import BOOTS_KEPT, NONCES_KEPT, WINDOW, Replays


@given(st.lists(st.integers(1, 300), max_size=200))
def test_no_number_is_new_twice_and_the_highest_always_is(numbers):
    replays, seen = Replays(), set()
    for number in numbers:
        new = replays.is_new('vehicle', 'v1', number, b'')
        assert not (new and number in seen)
        if number > max(seen, default=0):
            assert new
        if number not in seen and number > max(seen, default=0) - WINDOW:
            assert new, 'neighbours may be swapped on the way'
        seen.add(number)


def test_boots_and_robots_have_numbers_of_their_own():
    replays = Replays()
    assert all(replays.is_new(peer, boot, 5, b'') for peer in 'ab' for boot in ('1', '2'))
    assert not replays.is_new('a', '1', 5, b'')


def test_a_huge_number_costs_nothing_and_shuts_out_the_smaller_ones():
    replays = Replays()
    assert replays.is_new('a', '1', 2 ** 63 - 1, b'')
    assert not replays.is_new('a', '1', 1, b'')


def test_without_numbers_the_nonce_decides():
    replays = Replays()
    assert replays.is_new('a', '1', 0, b'x' * 16)
    assert not replays.is_new('a', '1', 0, b'x' * 16)
    assert not replays.is_new('a', '2', 0, b'x' * 16), 'whatever boot it names'
    assert replays.is_new('b', '1', 0, b'x' * 16)


def test_what_is_remembered_is_bounded():
    replays = Replays()
    for i in range(NONCES_KEPT + 10):
        replays.is_new('a', '1', 0, i.to_bytes(16, 'big'))
        replays.is_new('a', str(i), 1, b'')
    assert replays.sizes == (BOOTS_KEPT, NONCES_KEPT)
