# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Ways to give blocks their offsets, all of one signature.

Each returns one offset per block, so that blocks that are needed at one moment do not overlap.
All but one are greedy: they differ in the order in which blocks are placed and in the gap that a
block takes. None is best for every graph, so that all are tried. `climbed` starts from an order
that is good already and mends what stands on top.
"""
from __future__ import annotations

import random
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.engine.memory.lifetimes import Block, bound_bytes

Offsets = Tuple[int, ...]
Algorithm = Callable[[Sequence[Block]], Offsets]

CLIMBS = 200
"""Orders that `climbed` tries; each costs about as much as one greedy algorithm."""


def by_size(blocks: Sequence[Block]) -> Offsets:
    """Place the largest first, each as low as it fits."""
    return _placed(blocks, _descending(blocks, lambda b: b.size_bytes))


def by_area(blocks: Sequence[Block]) -> Offsets:
    """Place first what takes most bytes for most steps."""
    return _placed(blocks, _descending(blocks, lambda b: b.size_bytes * (b.last - b.first + 1)))


def by_lifetime(blocks: Sequence[Block]) -> Offsets:
    """Place first what is needed longest."""
    return _placed(blocks, _descending(blocks, lambda b: b.last - b.first))


def by_time(blocks: Sequence[Block]) -> Offsets:
    """Place blocks as they come to be, each as low as it fits."""
    return _placed(blocks, sorted(range(len(blocks)), key=lambda i: blocks[i].first))


def by_time_tightest(blocks: Sequence[Block]) -> Offsets:
    """Place blocks as they come to be, each in the smallest gap that holds it."""
    return _placed(blocks, sorted(range(len(blocks)), key=lambda i: blocks[i].first),
                   tightest=True)


def by_size_tightest(blocks: Sequence[Block]) -> Offsets:
    """Place the largest first, each in the smallest gap that holds it."""
    return _placed(blocks, _descending(blocks, lambda b: b.size_bytes), tightest=True)


def by_breadth(blocks: Sequence[Block]) -> Offsets:
    """Place first what is live at the fullest step, the largest of it first."""
    return _placed(blocks, _breadth_order(blocks))


def climbed(blocks: Sequence[Block]) -> Offsets:
    """
    Start from the best greedy order and move what stands on top, or what it rests on, forward.

    The same blocks give the same offsets: chance is seeded.
    """
    orders = [_breadth_order(blocks), _descending(blocks, lambda b: b.size_bytes),
              _descending(blocks, lambda b: b.size_bytes * (b.last - b.first + 1)),
              _descending(blocks, lambda b: b.last - b.first)]
    best_order = min(orders, key=lambda order: _height(blocks, _placed(blocks, order)))
    best = _placed(blocks, best_order)
    bound, chance = bound_bytes(blocks), random.Random(0)
    order, offsets, neighbours = best_order, best, _neighbours(blocks)
    for _ in range(CLIMBS):
        if _height(blocks, best) <= bound:
            break
        tried = _mended(blocks, order, offsets, chance)
        found = _placed(blocks, tried, neighbours=neighbours)
        # What is not worse is kept as well: from a plateau there are more ways up.
        if _height(blocks, found) <= _height(blocks, offsets):
            order, offsets = tried, found
        if _height(blocks, found) < _height(blocks, best):
            best = found
    return best


ALGORITHMS: Mapping[str, Algorithm] = {
    'size': by_size, 'area': by_area, 'lifetime': by_lifetime, 'time': by_time,
    'time_tightest': by_time_tightest, 'size_tightest': by_size_tightest,
    'breadth': by_breadth, 'climbed': climbed}
"""From the cheapest to the dearest."""


def _descending(blocks: Sequence[Block], weight: Callable[[Block], int]) -> List[int]:
    return sorted(range(len(blocks)), key=lambda i: (-weight(blocks[i]), blocks[i].first))


def _breadth_order(blocks: Sequence[Block]) -> List[int]:
    live: Dict[int, List[int]] = {}
    for index, block in enumerate(blocks):
        for step in range(block.first, block.last + 1):
            live.setdefault(step, []).append(index)
    fullest = sorted(live, key=lambda s: (-sum(blocks[i].size_bytes for i in live[s]), s))
    order: Dict[int, None] = {}
    for step in fullest:
        for index in sorted(live[step], key=lambda i: -blocks[i].size_bytes):
            order.setdefault(index)
    return list(order)


def _neighbours(blocks: Sequence[Block]) -> List[List[int]]:
    """Return for each block those that are needed at one moment with it."""
    return [[i for i, other in enumerate(blocks) if other is not block and other.meets(block)]
            for block in blocks]


def _placed(blocks: Sequence[Block], order: Sequence[int], *, tightest: bool = False,
            neighbours: Optional[Sequence[Sequence[int]]] = None) -> Offsets:
    """Place blocks one after another among those that are placed and needed meanwhile."""
    offsets = [-1] * len(blocks)
    sizes = [block.size_bytes for block in blocks]
    beside = _neighbours(blocks) if neighbours is None else neighbours
    for index in order:
        taken = sorted((offsets[i], offsets[i] + sizes[i]) for i in beside[index]
                       if offsets[i] >= 0)
        offsets[index] = _gap(taken, sizes[index], tightest)
    return tuple(offsets)


def _gap(taken: Sequence[Tuple[int, int]], size: int, tightest: bool) -> int:
    end, best, best_room = 0, -1, 0
    for start, stop in taken:
        room = start - end
        if room >= size and (best < 0 or room < best_room):
            if not tightest:
                return end
            best, best_room = end, room
        end = max(end, stop)
    return end if best < 0 else best


def _height(blocks: Sequence[Block], offsets: Offsets) -> int:
    return max((o + b.size_bytes for o, b in zip(offsets, blocks)), default=0)


def _mended(blocks: Sequence[Block], order: Sequence[int], offsets: Offsets,
            chance: random.Random) -> List[int]:
    """Return another order: a block of the highest pile goes before one of its neighbours."""
    height = _height(blocks, offsets)
    top = next(i for i in order if offsets[i] + blocks[i].size_bytes == height)
    pile = [i for i in order if i == top or blocks[i].meets(blocks[top])]
    moved = top if chance.random() < 0.5 else chance.choice(pile)
    changed = [i for i in order if i != moved]
    changed.insert(chance.randrange(order.index(moved) + 1), moved)
    return changed
