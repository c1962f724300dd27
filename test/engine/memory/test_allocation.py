# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

from crowdhmt_ros.engine.memory.allocation import ALGORITHMS, climbed
from crowdhmt_ros.engine.memory.lifetimes import blocks_of, bound_bytes


def height(blocks, offsets):
    return max(o + b.size_bytes for o, b in zip(offsets, blocks))


@pytest.mark.parametrize('name', sorted(ALGORITHMS))
@pytest.mark.parametrize('seed', range(5))
def test_no_two_blocks_of_one_moment_overlap(random_dag, name, seed):
    blocks = blocks_of(*random_dag(seed))
    offsets = ALGORITHMS[name](blocks)
    placed = list(zip(blocks, offsets))
    for (a, at), (b, bt) in itertools.combinations(placed, 2):
        assert not a.meets(b) or at + a.size_bytes <= bt or bt + b.size_bytes <= at
    assert bound_bytes(blocks) <= height(blocks, offsets) <= sum(b.size_bytes for b in blocks)


@pytest.mark.parametrize('seed', range(5))
def test_climbing_is_no_worse_than_where_it_starts_and_gives_the_same_again(random_dag, seed):
    blocks = blocks_of(*random_dag(seed))
    found = climbed(blocks)
    assert found == climbed(blocks)
    starts = [ALGORITHMS[n](blocks) for n in ('size', 'area', 'lifetime', 'breadth')]
    assert height(blocks, found) <= min(height(blocks, s) for s in starts)


@pytest.mark.parametrize('name', sorted(ALGORITHMS))
def test_no_blocks_need_no_offsets(name):
    assert ALGORITHMS[name](()) == ()
