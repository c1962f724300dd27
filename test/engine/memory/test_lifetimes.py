# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.engine.memory.lifetimes import Step, blocks_of, bound_bytes
from crowdhmt_ros.errors import BackendError

SIZES = {'x': 100, 'y': 100, 'z': 100}
IN_PLACE = [Step('a', (), ('x',)), Step('b', ('x',), ('y',), (('y', 'x'),))]


def test_sizes_are_rounded_up_to_the_alignment():
    (block,) = blocks_of([Step('a', (), ('x',))], {'x': 65})
    assert block.size_bytes == 128


def test_a_result_takes_the_place_of_its_dying_operand():
    (block,) = blocks_of(IN_PLACE, SIZES.fromkeys(['x', 'y'], 100))
    assert block.tensors == ('x', 'y')
    assert bound_bytes([block]) == 128


@pytest.mark.parametrize('change', [
    {'kept': ['x']},
    {'steps': [*IN_PLACE, Step('c', ('x',), ('z',))]},
    {'outside': ['x']}, {'outside': ['y']}, {'sizes': {'x': 100, 'y': 200}}])
def test_nothing_is_written_over_that_is_still_needed_or_too_small(change):
    steps = change.pop('steps', IN_PLACE)
    sizes = change.pop('sizes', SIZES if len(steps) > 2 else {'x': 100, 'y': 100})
    blocks = blocks_of(steps, sizes, **change)
    assert all(len(block.tensors) == 1 for block in blocks)


def test_two_results_do_not_share_one_operand():
    steps = [Step('a', (), ('x',)), Step('b', ('x',), ('y', 'z'), (('y', 'x'), ('z', 'x')))]
    assert sorted(len(b.tensors) for b in blocks_of(steps, SIZES)) == [1, 2]


def test_what_nobody_reads_needs_a_place_while_it_is_written():
    (block,) = blocks_of([Step('a', (), ('x',)), Step('b', (), ())], {'x': 1})
    assert (block.first, block.last) == (0, 0)


def test_the_bound_is_the_fullest_moment():
    steps = [Step('a', (), ('x',)), Step('b', ('x',), ('y',)), Step('c', ('y',), ('z',))]
    assert bound_bytes(blocks_of(steps, SIZES)) == 256


def test_a_negative_size_is_refused():
    with pytest.raises(BackendError, match='cannot be negative'):
        blocks_of([], {'x': -1})
