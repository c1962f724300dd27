# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How long each tensor is needed, from the order in which operators run (P III-C1).

Tensors that may share their place - an element-wise result on its dying operand, a view - make
one block. A block is what gets an offset in the arena.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Dict, List, Mapping, Sequence, Tuple

from crowdhmt_ros.errors import BackendError

ALIGNMENT_BYTES = 64
"""Of every offset: one cache line, and the widest vector register."""


@dataclass(frozen=True)
class Step:
    """
    One operator in the order in which it runs.

    :param name: for messages
    :param reads: tensors that it reads; what no step gives and no size is known of is left out
    :param gives: tensors that it writes
    :param in_place: (given, read): the result may be written over that operand if it dies here
    """

    name: str
    reads: Tuple[str, ...]
    gives: Tuple[str, ...]
    in_place: Tuple[Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Block:
    """
    Tensors that share one place.

    :param tensors: in the order in which they come to be
    :param size_bytes: of the largest, rounded up to the alignment
    :param first: step that gives the first, -1 where it is there before
    :param last: last step that needs the place, inclusive
    """

    tensors: Tuple[str, ...]
    size_bytes: int
    first: int
    last: int

    def meets(self, other: Block) -> bool:
        """Tell whether both are needed at one moment."""
        return self.first <= other.last and other.first <= self.last


def blocks_of(steps: Sequence[Step], sizes: Mapping[str, int], *,
              outside: Collection[str] = (), kept: Collection[str] = ()) -> Tuple[Block, ...]:
    """
    Return what needs a place in the arena, in the order in which it comes to be.

    :param steps: in the order in which they run
    :param sizes: tensor -> bytes, of all that lie in the arena; one without a size does not
    :param outside: tensors that lie elsewhere although their size is known
    :param kept: tensors that are needed after the last step
    :raises BackendError: two steps give the same tensor, one is read before it is given, or a
        size is negative
    """
    placed = {name: _aligned(name, size) for name, size in sizes.items() if name not in outside}
    first, last = _lifetimes(steps, placed, kept)
    groups = _groups(steps, placed, first, last)
    blocks = [Block(tuple(names), max(placed[n] for n in names),
                    min(first[n] for n in names), max(last[n] for n in names))
              for names in groups]
    return tuple(sorted(blocks, key=lambda b: (b.first, b.tensors)))


def bound_bytes(blocks: Sequence[Block]) -> int:
    """Return the bytes of the largest live set: no arena for this order can be smaller."""
    change: Dict[int, int] = {}
    for block in blocks:
        change[block.first] = change.get(block.first, 0) + block.size_bytes
        change[block.last + 1] = change.get(block.last + 1, 0) - block.size_bytes
    most = live = 0
    for step in sorted(change):
        live += change[step]
        most = max(most, live)
    return most


def _aligned(name: str, size: int) -> int:
    if size < 0:
        raise BackendError('tensor %s has %d bytes, a size cannot be negative' % (name, size))
    return max(1, -(-size // ALIGNMENT_BYTES)) * ALIGNMENT_BYTES


def _lifetimes(steps: Sequence[Step], placed: Mapping[str, int], kept: Collection[str]
               ) -> Tuple[Dict[str, int], Dict[str, int]]:
    given = {name for step in steps for name in step.gives}
    first = {name: -1 for name in placed if name not in given}
    last = dict(first)
    for index, step in enumerate(steps):
        for name in step.reads:
            if name in placed:
                if name not in first:
                    raise BackendError('step %s reads %s before it is given' % (step.name, name))
                last[name] = index
        for name in step.gives:
            if name in first:
                raise BackendError('step %s gives %s a second time' % (step.name, name))
            if name in placed:
                first[name] = last[name] = index
    for name in kept:
        if name in last:
            last[name] = len(steps)
    return first, last


def _groups(steps: Sequence[Step], placed: Mapping[str, int], first: Mapping[str, int],
            last: Mapping[str, int]) -> List[List[str]]:
    """Join what may share a place; a tensor is written over at most once."""
    group: Dict[str, List[str]] = {name: [name] for name in placed}
    for index, step in enumerate(steps):
        overwritten = set()
        for result, operand in step.in_place:
            fits = (result in placed and operand in placed and last[operand] == index
                    and first[operand] < index and placed[result] <= placed[operand]
                    and operand in step.reads and operand not in overwritten
                    and len(group[result]) == 1)
            if fits:
                overwritten.add(operand)
                joined = group[operand]
                joined.append(result)
                group[result] = joined
    unique = {id(names): names for names in group.values()}
    return list(unique.values())
