# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which weights stay in memory and which come and go with every run, under a limit.

Least-recently-used, which is what the kernel does under a limit, is the worst there is for
weights: every run reads them in the same order, so that what is dropped is always what comes next.
Here a fixed part of the weights stays; the rest is fetched ahead of its operator and dropped
behind it. Of each piece the same number of bytes streams, as far as it has so many: a part of
many pieces streams in smaller steps than the whole of a few, so less of it is there at one time.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from crowdhmt_ros.engine.memory.release import Range


@dataclass(frozen=True)
class StreamPlan:
    """
    What of a weight file streams.

    :param streamed: of each piece, in bytes of the file
    :param fetched: before each piece: the pieces whose streamed part is asked for now
    :param resident_bytes: what stays
    :param window_bytes: of streamed parts that are there at one time
    """

    streamed: Tuple[Tuple[Range, ...], ...]
    fetched: Tuple[Tuple[int, ...], ...]
    resident_bytes: int
    window_bytes: int

    def first(self, weights: Sequence[Sequence[Range]]) -> Tuple[Range, ...]:
        """Return what has to be there before the first run: what stays, and what is fetched."""
        ahead = {i for turn, now in enumerate(self.fetched) for i in now if i < turn}
        found: List[Range] = []
        for index, (whole, part) in enumerate(zip(weights, self.streamed)):
            gone = () if index in ahead else part
            found += [(start, min([stop, *(f for f, _ in gone if start <= f < stop)]))
                      for start, stop in whole]
        return tuple(each for each in found if each[0] < each[1])


def plan_stream(weights: Sequence[Sequence[Range]], room_bytes: Optional[int]) -> StreamPlan:
    """
    Choose what streams, so that no more than the room is taken at one time.

    :param weights: of each piece, in the order in which pieces run
    :param room_bytes: for weights; None to keep nothing and fetch nothing ahead: the least memory
    """
    sizes = [sum(stop - start for start, stop in ranges) for ranges in weights]
    if room_bytes is None:
        return StreamPlan(tuple(tuple(r) for r in weights), tuple(() for _ in weights), 0,
                          max(sizes, default=0))
    share, most = _share_bytes(sizes, room_bytes)
    streamed = tuple(_behind(ranges, share) for ranges in weights)
    parts = [min(size, share) for size in sizes]
    resident = sum(sizes) - sum(parts)
    window = max(room_bytes - resident, most)
    return StreamPlan(streamed, _schedule(parts, window), resident, window)


def _share_bytes(sizes: Sequence[int], room_bytes: int) -> Tuple[int, int]:
    """
    Return the bytes of each piece that stream, and the most that are there at one time.

    As few stream as fit with the next piece fetched while one computes; with too little room for
    that, as fit piece by piece.
    """
    for together in (_pair, max):
        def taken(share: int, together: Callable[[Sequence[int]], int] = together) -> int:
            parts = [min(size, share) for size in sizes]
            return sum(sizes) - sum(parts) + together(parts)
        shares = sorted({0, *sizes})
        for low, high in zip(shares, shares[1:]):
            # Between two sizes what is taken goes in a straight line.
            if taken(low) <= room_bytes:
                return low, together([min(size, low) for size in sizes])
            if taken(high) <= room_bytes:
                part = (taken(low) - room_bytes) / (taken(low) - taken(high))
                share = low + math.ceil((high - low) * part)
                return share, together([min(size, share) for size in sizes])
        if taken(shares[-1]) <= room_bytes:
            return shares[-1], together(sizes)
    return max(sizes), max(sizes)


def _pair(parts: Sequence[int]) -> int:
    """Return the most that one piece and the next one stream; behind the last is the first."""
    if len(parts) < 2:
        return sum(parts)
    return max(a + b for a, b in zip(parts, [*parts[1:], parts[0]]))


def _behind(ranges: Sequence[Range], size: int) -> Tuple[Range, ...]:
    """Return the last bytes of some ranges."""
    found: List[Range] = []
    for start, stop in reversed(ranges):
        first = max(start, stop - size)
        if size > 0 and first < stop:
            found.append((first, stop))
        size -= stop - first
    return tuple(reversed(found))


def _schedule(parts: Sequence[int], window_bytes: int) -> Tuple[Tuple[int, ...], ...]:
    """Return before which piece each part is asked for: as early as the window lets it."""
    count = len(parts)
    order: List[Tuple[int, ...]] = []
    following = present = 0
    for turn in range(2 * count):  # the second round is how it goes on
        now: List[int] = []
        while following < turn + count and (
                following <= turn or present + parts[following % count] <= window_bytes):
            present += parts[following % count]
            now.append(following % count)
            following += 1
        order.append(tuple(i for i in now if parts[i]))
        present -= parts[turn % count]
    return tuple(order[count:])
