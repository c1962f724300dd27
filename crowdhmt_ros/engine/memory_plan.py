# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One arena for all tensors between operators: who lies where (P III-C1).

Several algorithms propose offsets and the lowest arena wins. The plan is checked by a verifier
that shares nothing with them, and stands beside the bound that no plan can beat: the largest set
of tensors that are needed at one moment.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Dict, Mapping, Sequence, Tuple

from crowdhmt_ros.engine.memory.allocation import ALGORITHMS, Algorithm
from crowdhmt_ros.engine.memory.lifetimes import Block, Step, blocks_of, bound_bytes
from crowdhmt_ros.engine.memory.verifier import verify

__all__ = ['ALGORITHMS', 'Block', 'MemoryPlan', 'Step', 'plan_memory']


@dataclass(frozen=True)
class MemoryPlan:
    """
    Where each tensor lies in one arena.

    :param offsets: tensor -> bytes from the start of the arena
    :param arena_bytes: of the arena
    :param bound_bytes: of the largest live set, what no plan can beat
    :param algorithm: name of the one that won
    """

    offsets: Mapping[str, int]
    arena_bytes: int
    bound_bytes: int
    algorithm: str

    @property
    def arena_vs_bound_ratio(self) -> float:
        """The arena over the bound, 1 at best; 1 for a plan without tensors."""
        return self.arena_bytes / self.bound_bytes if self.bound_bytes else 1.0


def plan_memory(steps: Sequence[Step], sizes: Mapping[str, int], *,
                outside: Collection[str] = (), kept: Collection[str] = (),
                algorithms: Mapping[str, Algorithm] = ALGORITHMS) -> MemoryPlan:
    """
    Give every tensor of an order of operators its place in one arena.

    :param steps: in the order in which they run
    :param sizes: tensor -> bytes; a tensor without a size has no place
    :param outside: tensors that lie elsewhere although their size is known
    :param kept: tensors that are needed after the last step
    :param algorithms: to be tried in order, until one reaches the bound
    :raises BackendError: the steps do not make an order, or the verifier refuses the result
    """
    blocks = blocks_of(steps, sizes, outside=outside, kept=kept)
    bound = bound_bytes(blocks)
    arena, name, offsets = _lowest(blocks, bound, algorithms)
    places: Dict[str, int] = {tensor: offset for block, offset in zip(blocks, offsets)
                              for tensor in block.tensors}
    verify(steps, sizes, places, arena, kept=[n for n in kept if n in places])
    return MemoryPlan(places, arena, bound, name)


def _lowest(blocks: Sequence[Block], bound: int, algorithms: Mapping[str, Algorithm]
            ) -> Tuple[int, str, Tuple[int, ...]]:
    found = []
    for name, algorithm in algorithms.items():
        offsets = algorithm(blocks)
        height = max((o + b.size_bytes for o, b in zip(offsets, blocks)), default=0)
        found.append((height, name, offsets))
        if height <= bound:
            break
    return min(found, key=lambda each: each[0])
