# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Views: operators that give the same elements in the same order under another shape.

Reshape, Flatten, Squeeze, Unsqueeze, and Transpose when only axes of one element move. A view of a
view is a view of the first input: v2(v1(x)) = Reshape(x, shape of v2). So is a longer chain of
views and transpositions that brings every element back to its place.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import elements, permutation, target_of

NAME = 'views'
VIEWS = ('Reshape', 'Flatten', 'Squeeze', 'Unsqueeze')
DEPTH = 8  # operators of a chain that are looked at
SIMULATED = 1 << 20  # elements of a tensor whose order is followed


def is_view(graph: Graph, operator: Optional[Operator]) -> bool:
    """Whether an operator keeps all elements in order."""
    if operator is None or not operator.standard:
        return False
    if operator.op_type in VIEWS:
        return True
    if operator.op_type != 'Transpose':
        return False
    shape, perm = graph.type_of(operator.input(0)).shape, permutation(graph, operator)
    if shape is None or perm is None:
        return False
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def write_view(graph: Graph, operator: Operator, source: str) -> None:
    """Let an operator be the Reshape of `source` to the shape that it has."""
    target = target_of(graph.type_of(operator.output).shape)
    assert target is not None
    name = graph.add_constant(operator.output + '_shape', np.asarray(target, np.int64))
    graph.update(replace(operator, op_type='Reshape', inputs=(source, name), attributes={}))


def why_not_view(graph: Graph, operator: Operator) -> Optional[str]:
    """Return why an operator cannot be written as Reshape, None when it can."""
    if target_of(graph.type_of(operator.output).shape) is None:
        return 'more than one extent of its result is not fixed'
    return None


class MergeViews(Rule):
    """v2(v1(x)) = Reshape(x): v1 is removed when v2 was its only reader."""

    name = NAME
    op_types = (*VIEWS, 'Transpose')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return two views in a row."""
        first = graph.producer(operator.input(0))
        if first is None or not is_view(graph, operator) or not is_view(graph, first):
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse results of unknown shape."""
        return why_not_view(graph, match[0])

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Read what the first one reads."""
        operator, first = match
        write_view(graph, operator, first.input(0))
        if not graph.uses(first.output):
            graph.remove(first, 'merged with %s: both only change the shape' % operator.name,
                         rule=self.name)


def chain_up(graph: Graph, operator: Operator) -> List[Operator]:
    """Return the views and transpositions that end in an operator, the last one first."""
    chain = [operator]
    while len(chain) < DEPTH:
        maker = graph.producer(chain[-1].input(0))
        if maker is None or maker.op_type not in (*VIEWS, 'Transpose'):
            break
        if graph.sole_reader(maker.output) is None:
            break
        chain.append(maker)
    return chain


def keeps_order(graph: Graph, chain: List[Operator]) -> bool:
    """Whether a chain, the last operator first, brings all elements back into order."""
    shape = graph.shape(chain[-1].input(0))
    if shape is None or elements(shape) > SIMULATED:
        return False
    places = np.arange(elements(shape)).reshape(shape)
    for operator in reversed(chain):
        result = graph.shape(operator.output)
        perm = permutation(graph, operator) if operator.op_type == 'Transpose' else None
        if result is None or (operator.op_type == 'Transpose' and perm is None):
            return False
        places = places.reshape(result) if perm is None else places.transpose(perm)
    flat = places.reshape(-1)
    return bool(np.array_equal(flat, np.arange(flat.size)))


def longest(graph: Graph, operator: Operator) -> Optional[Tuple[Operator, ...]]:
    """Return the longest chain that ends in an operator and keeps all elements in order."""
    chain = chain_up(graph, operator)
    if sum(o.op_type == 'Transpose' for o in chain) < 2:
        return None
    for length in range(len(chain), 1, -1):
        part = chain[:length]
        if any(o.op_type == 'Transpose' for o in part) and keeps_order(graph, part):
            return tuple(part)
    return None


class CancelChain(Rule):
    """Transpose(Reshape(Transpose(x))) = Reshape(x) when the elements end where they began."""

    name = NAME
    op_types = ('Transpose', *VIEWS)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the chain."""
        return longest(graph, operator)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse results of unknown shape."""
        return why_not_view(graph, match[0])

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write one Reshape."""
        write_view(graph, match[0], match[-1].input(0))
        for operator in match[1:]:
            graph.remove(operator, 'merged with %s: the elements end where they began'
                         % match[0].name, rule=self.name)


PASS = RulePass(NAME, [MergeViews(), CancelChain()])
