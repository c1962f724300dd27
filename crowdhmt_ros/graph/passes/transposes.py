# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Transpositions in a row: Transpose(Transpose(x, p), q) = Transpose(x, p[q]).

When p[q] moves nothing, nothing is left: the pair that converters put around each operator of the
other memory layout.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional, Tuple

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import permutation

NAME = 'transpose pairs'


def combined(graph: Graph, first: Operator, second: Operator) -> Tuple[int, ...]:
    """Return the permutation of two transpositions in a row."""
    one, two = permutation(graph, first), permutation(graph, second)
    assert one is not None
    assert two is not None
    return tuple(one[axis] for axis in two)


def _cancels(graph: Graph, match: Match) -> bool:
    perm = combined(graph, match[1], match[0])
    return perm == tuple(range(len(perm)))


class MergeTransposes(Rule):
    """Two transpositions are one or none."""

    name = NAME
    op_types = ('Transpose',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        first = graph.producer(operator.input(0))
        if first is None or first.op_type != 'Transpose' or not first.standard:
            return None
        known = None not in (permutation(graph, first), permutation(graph, operator))
        return (operator, first) if known else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse what would only move the work: no cancelling, and the first read elsewhere."""
        operator, first = match
        if _cancels(graph, match):
            return graph.why_not_bypass(operator.output, first.input(0))
        if graph.sole_reader(first.output) is None:
            return 'the two do not cancel and %s has other readers' % first.name
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Cancel or merge."""
        operator, first = match
        perm = combined(graph, first, operator)
        if not _cancels(graph, match):
            graph.update(replace(operator, inputs=first.inputs).with_attributes({'perm': perm}))
            graph.remove(first, 'merged with %s' % operator.name, rule=self.name)
            return
        graph.bypass(operator, first.input(0), 'it undoes %s' % first.name, rule=self.name)
        if first in graph and not graph.uses(first.output):
            graph.remove(first, '%s undid it' % operator.name, rule=self.name)


PASS = RulePass(NAME, [MergeTransposes()])
