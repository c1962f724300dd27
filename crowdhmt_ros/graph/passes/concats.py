# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Concatenations: Concat(a, Concat(b, c)) = Concat(a, b, c) along one axis; Concat(Split(x)) = x.

A constant without elements adds nothing.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import positive

NAME = 'concats'


def _axis(graph: Graph, operator: Operator) -> Optional[int]:
    rank = graph.rank(operator.output)
    axis = operator.integer('axis', 0)
    return axis if axis >= 0 else None if rank is None else positive([axis], rank)[0]


def _parts(graph: Graph, operator: Operator) -> Tuple[str, ...]:
    """Return the operands with those of inner concatenations in their place."""
    found: List[str] = []
    for tensor in operator.inputs:
        inner = graph.producer(tensor)
        if inner is not None and _nests(graph, operator, inner):
            found.extend(inner.inputs)
        else:
            found.append(tensor)
    empty = [t for t in found if t in graph.constants and graph.constants[t].size == 0]
    return tuple(t for t in found if t not in empty) if len(empty) < len(found) else tuple(found)


def _nests(graph: Graph, operator: Operator, inner: Operator) -> bool:
    return (inner.op_type == 'Concat' and inner.standard
            and _axis(graph, inner) is not None and _axis(graph, inner) == _axis(graph, operator))


class FlattenConcats(Rule):
    """A concatenation of concatenations along the same axis is one."""

    name = NAME
    op_types = ('Concat',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the outer one and the inner ones."""
        if _parts(graph, operator) == operator.inputs:
            return None
        makers = {m.name: m for m in map(graph.producer, operator.inputs)
                  if m is not None and _nests(graph, operator, m)}
        return (operator, *makers.values())

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse inner ones that stay because others read them."""
        for inner in match[1:]:
            if inner.output in graph.outputs or any(
                    not _nests(graph, r, inner) for r in graph.readers(inner.output)):
                return '%s has readers of other kinds' % inner.name
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write all operands into the outer one."""
        operator = match[0]
        graph.update(replace(operator, inputs=_parts(graph, operator)))
        for inner in match[1:]:
            if not graph.uses(inner.output):
                graph.remove(inner, 'its operands moved into %s' % operator.name, rule=self.name)


class JoinSplit(Rule):
    """Concat(Split(x)) = x."""

    name = NAME
    op_types = ('Concat',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the Concat and the Split all of whose parts it joins in order."""
        maker = graph.producer(operator.input(0))
        if maker is None or maker.op_type != 'Split' or maker.outputs != operator.inputs:
            return None
        axis, rank = maker.integer('axis', 0), graph.rank(operator.output)
        if axis < 0 and rank is not None:
            axis += rank
        return (operator, maker) if axis == _axis(graph, operator) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse where both tensors are known by name outside."""
        return graph.why_not_bypass(match[0].output, match[1].input(0))

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Read what was split; the Split may then be dead."""
        graph.bypass(match[0], match[1].input(0), 'it joins what %s split' % match[1].name,
                     rule=self.name)


PASS = RulePass(NAME, [FlattenConcats(), JoinSplit()])
