# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Small tensors of whole numbers that are known in part, as shape arithmetic makes them.

An entry is a number, or an extent of some tensor that is not fixed, or not known at all.
"""
from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Union

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.operands import integers

LONGEST = 64  # entries of a tensor that is followed
DEEPEST = 64  # operators behind one another that are followed


class Extent(NamedTuple):
    """An extent that is not fixed."""

    tensor: str
    axis: int


Entry = Union[int, Extent, None]
Entries = Optional[List[Entry]]


def entries_of(graph: Graph, tensor: str, depth: int = 0) -> Entries:
    """Return the entries of a tensor of at most one axis, in order, None when it is none."""
    value = graph.value(tensor)
    if value is not None:
        whole = value.dtype.kind in 'iu' and value.ndim <= 1 and value.size <= LONGEST
        return list(integers(value)) if whole else None
    maker = graph.producer(tensor)
    if maker is None or depth > DEEPEST or not maker.standard or maker.op_type not in RULES:
        return None
    return RULES[maker.op_type](graph, maker, depth + 1)


def shape_entries(graph: Graph, operator: Operator) -> Entries:
    """Return what a Shape operator gives."""
    source = operator.input(0)
    shape = graph.type_of(source).shape
    if shape is None:
        return None
    found: List[Entry] = [Extent(source, axis) if e is None else e
                          for axis, e in enumerate(shape)]
    return found[operator.integer('start', 0):operator.integer('end', len(shape))]


def slice_of(graph: Graph, operator: Operator) -> Optional[slice]:
    """Return what a Slice takes along the first axis, None when it is computed."""
    if graph.opset < 10:
        starts, ends = operator.integers('starts'), operator.integers('ends')
        return slice(starts[0], ends[0]) if starts and ends and len(starts) == 1 else None
    bounds = [graph.value(operator.input(i)) for i in (1, 2)]
    step = graph.value(operator.input(4)) if operator.input(4) else None
    if any(b is None or b.size != 1 for b in bounds) or (operator.input(4) and step is None):
        return None
    start, end = (integers(b)[0] for b in bounds if b is not None)
    return slice(start, end, 1 if step is None else integers(step)[0])


def _gathered(graph: Graph, operator: Operator, depth: int) -> Entries:
    known = entries_of(graph, operator.input(0), depth)
    index = graph.value(operator.input(1))
    if known is None or index is None or index.ndim > 1:
        return None
    places = integers(index)
    inside = all(-len(known) <= i < len(known) for i in places)
    return [known[i] for i in places] if inside else None


def _sliced(graph: Graph, operator: Operator, depth: int) -> Entries:
    known, taken = entries_of(graph, operator.input(0), depth), slice_of(graph, operator)
    return None if known is None or taken is None else known[taken]


def _joined(graph: Graph, operator: Operator, depth: int) -> Entries:
    found: List[Entry] = []
    for tensor in operator.inputs:
        part = entries_of(graph, tensor, depth)
        if part is None:
            rank_one = graph.shape(tensor)
            if rank_one is None or len(rank_one) != 1 or rank_one[0] > LONGEST:
                return None
            part = [None] * rank_one[0]
        found += part
    return found


def _same(graph: Graph, operator: Operator, depth: int) -> Entries:
    return entries_of(graph, operator.input(0), depth)


def _arithmetic(graph: Graph, operator: Operator, depth: int) -> Entries:
    one, two = (entries_of(graph, t, depth) for t in operator.inputs)
    if one is None or two is None or (len(one) != len(two) and 1 not in (len(one), len(two))):
        return None
    length = max(len(one), len(two)) if one and two else 0
    pairs = zip(one * (length if len(one) == 1 else 1), two * (length if len(two) == 1 else 1))
    return [_number(operator.op_type, a, b) for a, b in pairs]


def _number(op_type: str, one: Entry, two: Entry) -> Entry:
    if not isinstance(one, int) or not isinstance(two, int):
        neutral = two == {'Add': 0, 'Sub': 0, 'Mul': 1, 'Div': 1}[op_type]
        return one if neutral and isinstance(one, Extent) else None
    if op_type == 'Div':
        return one // two if one >= 0 and two > 0 else None
    return {'Add': one + two, 'Sub': one - two, 'Mul': one * two}[op_type]


def _cast(graph: Graph, operator: Operator, depth: int) -> Entries:
    whole = operator.integer('to', 0) in (6, 7)  # int32, int64
    return entries_of(graph, operator.input(0), depth) if whole else None


RULES: Dict[str, Callable[[Graph, Operator, int], Entries]] = {
    'Shape': lambda graph, operator, depth: shape_entries(graph, operator),
    'Gather': _gathered, 'Slice': _sliced, 'Concat': _joined, 'Unsqueeze': _same,
    'Squeeze': _same, 'Identity': _same, 'Cast': _cast, 'Add': _arithmetic, 'Sub': _arithmetic,
    'Mul': _arithmetic, 'Div': _arithmetic}


def reshape_target(graph: Graph, operator: Operator) -> Optional[List[int]]:
    """
    Return the constant that a Reshape may take in the place of a computed shape.

    An extent at its own place is written as 0, one other that is not known as -1.
    """
    known = entries_of(graph, operator.input(1))
    if known is None or operator.integer('allowzero', 0):
        return None
    target: List[int] = []
    for place, entry in enumerate(known):
        if entry == Extent(operator.input(0), place):
            target.append(0)
        else:
            target.append(entry if isinstance(entry, int) else -1)
    return target if target.count(-1) <= 1 else None
