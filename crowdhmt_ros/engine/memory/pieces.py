# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which operators of a graph run as one piece, and where what flows between pieces lies.

A piece is a run of operators that an engine executes at once; the tensors between pieces lie in
one planned arena. Few operators a piece put more tensors under the plan and let weights go
sooner; many save the cost of a call. So operators are joined while what stays hidden inside is
small beside the arena.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from crowdhmt_ros.engine.memory.lifetimes import blocks_of, bound_bytes
from crowdhmt_ros.engine.memory.wire import WireGraph, WireNode
from crowdhmt_ros.engine.memory_plan import MemoryPlan, Step, plan_memory
from crowdhmt_ros.types import TensorSpec

HIDDEN_SHARE = 1 / 8
"""Of the largest live set: what the tensors inside one piece may take at once."""
NCHWC = 'com.microsoft.nchwc'
ROWS = 'crowdhmt.rows'
"""Domain of copies of rows: no engine runs them, so that they are pieces of their own."""
_SUM = 3
"""Input of a convolution in NCHWc layout that is added to its result, in place if it may be."""
VIEWS = frozenset(('Identity', 'Dropout', 'Flatten', 'Reshape', 'Squeeze', 'Unsqueeze'))
"""Their results may be the very memory of their first operand."""
ELEMENT_WISE = VIEWS | frozenset((
    'Relu', 'LeakyRelu', 'Sigmoid', 'Tanh', 'Clip', 'HardSwish', 'HardSigmoid', 'Elu', 'Selu',
    'Softplus', 'Neg', 'Abs', 'Sqrt', 'Exp', 'Add', 'Sub', 'Mul', 'Div'))


@dataclass(frozen=True)
class Piece:
    """
    Operators that run as one.

    :param nodes: in order
    :param inputs: tensors from before it
    :param outputs: tensors that are read behind it
    :param weight_bytes: of its initialisers
    """

    nodes: Tuple[WireNode, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    weight_bytes: int


@dataclass(frozen=True)
class PiecePlan:
    """
    Pieces in order and the arena between them.

    :param pieces: in the order in which they run
    :param memory: where each tensor between pieces lies
    :param hidden_bytes: the most that tensors inside a piece take at once
    """

    pieces: Tuple[Piece, ...]
    memory: MemoryPlan
    hidden_bytes: int = 0


def plan_pieces(graph: WireGraph, tensors: Mapping[str, TensorSpec], *,
                hidden_share_ratio: float = HIDDEN_SHARE,
                most_weight_bytes: Optional[int] = None) -> PiecePlan:
    """
    Cut a graph into pieces and plan the arena between them.

    :param graph: in the order in which it runs
    :param tensors: of all that flows between operators; without them there is one piece
    :param hidden_share_ratio: of the largest live set that may lie hidden in one piece at once
    :param most_weight_bytes: of one piece of more than one operator, None without a limit
    """
    if not tensors:
        return PiecePlan(_pieces(graph, [(0, len(graph.nodes))]), MemoryPlan({}, 0, 0, 'none'))
    sizes = {name: bytes_of(spec) for name, spec in tensors.items()}
    apart = plan_operators(graph, tensors)
    ranges = _joined(graph, sizes, hidden_share_ratio * apart.bound_bytes, apart.bound_bytes,
                     most_weight_bytes)
    pieces = _pieces(graph, ranges)
    hidden = max(_most_at_once(p.nodes, {
        name: sizes[name] for node in p.nodes for name in node.outputs
        if name in sizes and name not in p.outputs}) for p in pieces)
    return PiecePlan(pieces, _plan(graph, pieces, tensors, sizes), hidden)


def plan_operators(graph: WireGraph, tensors: Mapping[str, TensorSpec]) -> MemoryPlan:
    """Plan the arena of a graph whose operators run one by one."""
    sizes = {name: bytes_of(spec) for name, spec in tensors.items()}
    alone = [(index, index + 1) for index in range(len(graph.nodes))]
    return _plan(graph, _pieces(graph, alone), tensors, sizes)


def live_bytes(graph: WireGraph, tensors: Mapping[str, TensorSpec]) -> int:
    """Return the largest live set of a graph whose operators run one by one."""
    pieces = _pieces(graph, [(index, index + 1) for index in range(len(graph.nodes))])
    sizes = {name: bytes_of(spec) for name, spec in tensors.items()}
    return bound_bytes(blocks_of(steps_of(pieces, tensors), sizes,
                                 outside=(*graph.inputs, *graph.outputs)))


def steps_of(pieces: Sequence[Piece], tensors: Mapping[str, TensorSpec]) -> Tuple[Step, ...]:
    """Return pieces as steps of a memory plan."""
    return tuple(Step(p.nodes[0].name, p.inputs, p.outputs, _in_place(p, tensors)) for p in pieces)


def _plan(graph: WireGraph, pieces: Sequence[Piece], tensors: Mapping[str, TensorSpec],
          sizes: Mapping[str, int]) -> MemoryPlan:
    between = {name for p in pieces for name in p.outputs}
    return plan_memory(steps_of(pieces, tensors), {n: sizes[n] for n in between if n in sizes},
                       outside=(*graph.inputs, *graph.outputs))


def _in_place(found: Piece, tensors: Mapping[str, TensorSpec]) -> Tuple[Tuple[str, str], ...]:
    """Return (result, operand) of a piece where the one may be written over the other."""
    return tuple((node.outputs[0], name) for node in found.nodes
                 for name in dict.fromkeys(_operands(node, tensors))
                 if name in found.inputs and node.outputs[0] in found.outputs
                 and _reads_last(found.nodes, node, name))


def _operands(node: WireNode, tensors: Mapping[str, TensorSpec]) -> List[str]:
    """Return what an operator may write its result over: of its very size and type."""
    if node.domain == NCHWC and node.operator == 'Conv':
        operands = tuple(n for n in node.inputs[_SUM:_SUM + 1] if n not in node.inputs[:_SUM])
    elif not node.domain and node.operator in ELEMENT_WISE:
        operands = node.inputs
    else:
        return []
    result = node.outputs[0]
    return [name for name in operands
            if name in tensors and result in tensors
            and bytes_of(tensors[name]) == bytes_of(tensors[result])
            and tensors[name].dtype == tensors[result].dtype]


def _reads_last(nodes: Sequence[WireNode], last: WireNode, name: str) -> bool:
    """Tell whether all others that read a tensor have run before one, whatever the order."""
    before, same = set(last.inputs), {name}
    for node in reversed(nodes):
        if before.intersection(node.outputs):
            before.update(node.inputs)
    for node in nodes:
        if (node is not last and not node.domain and node.operator in VIEWS
                and same.intersection(node.inputs)):
            same.update(node.outputs)
    return all(before.intersection(node.outputs) for node in nodes
               if node is not last and same.intersection(node.inputs))


def _joined(graph: WireGraph, sizes: Mapping[str, int], most_hidden_bytes: float,
            most_live_bytes: int, most_weight_bytes: Optional[int]) -> List[Tuple[int, int]]:
    """
    Return the pieces as (first, behind the last): each takes operators while it may.

    All that a piece reads and gives lies in the arena while it runs, so that joining operators
    can need more of it than one after another.
    """
    last = _last_readers(graph)
    ranges: List[Tuple[int, int]] = []
    start = 0
    for index in range(1, len(graph.nodes)):
        nodes = graph.nodes[start:index + 1]
        given = {name for node in nodes for name in node.outputs if name in sizes}
        hidden = {name for name in given if last.get(name, index) <= index}
        before = {name for node in graph.nodes[:start] for name in node.outputs
                  if name in sizes and last.get(name, -1) >= start}
        visible = (before | given) - hidden - set(graph.outputs)
        fits = (ROWS not in (nodes[0].domain, nodes[-1].domain)
                and _most_at_once(nodes, {n: sizes[n] for n in hidden}) <= most_hidden_bytes
                and sum(sizes[n] for n in visible) <= most_live_bytes
                and (most_weight_bytes is None
                     or sum(graph.weight_bytes(n) for n in nodes) <= most_weight_bytes))
        if not fits:
            ranges.append((start, index))
            start = index
    return [*ranges, (start, len(graph.nodes))]


def _most_at_once(nodes: Sequence[WireNode], hidden: Mapping[str, int]) -> int:
    """Return the most that tensors inside a piece take while its operators run in order."""
    last = {name: node for node in nodes for name in node.inputs}
    most = live = 0
    for node in nodes:
        live += sum(hidden.get(name, 0) for name in dict.fromkeys(node.outputs))
        most = max(most, live)
        live -= sum(hidden.get(name, 0) for name in dict.fromkeys((*node.inputs, *node.outputs))
                    if last.get(name, node) is node)
    return most


def _last_readers(graph: WireGraph) -> Dict[str, int]:
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last.update({name: len(graph.nodes) for name in graph.outputs})
    return last


def _pieces(graph: WireGraph, ranges: Sequence[Tuple[int, int]]) -> Tuple[Piece, ...]:
    last = _last_readers(graph)
    found = []
    for start, stop in ranges:
        nodes = graph.nodes[start:stop]
        given = [name for node in nodes for name in node.outputs if name]
        inside: Set[str] = {'', *given, *graph.initialisers}
        read = dict.fromkeys(n for node in nodes for n in node.inputs if n not in inside)
        found.append(Piece(nodes, tuple(read),
                           tuple(name for name in given if last.get(name, -1) >= stop),
                           sum(graph.weight_bytes(node) for node in nodes)))
    return tuple(found)


def bytes_of(spec: TensorSpec) -> int:
    """Return the bytes of a tensor."""
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
