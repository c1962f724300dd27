# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Constants in a row: (x + c) + d = x + (c + d) and (x * c) * d = x * (c d), in floating point.

Sub and Div of a constant count as Add and Mul.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import FLOATS, constant_operand, is_kept

NAME = 'constant chains'
KINDS = {'Add': 'Add', 'Sub': 'Add', 'Mul': 'Mul', 'Div': 'Mul'}


def _constant(graph: Graph, operator: Operator) -> Optional[np.ndarray]:
    """Return the constant as summand or factor, None where it is neither."""
    found = constant_operand(graph, operator)
    if found is None or found.value.dtype.name not in FLOATS:
        return None
    value = found.value.astype(np.float64)
    if operator.op_type in ('Sub', 'Div') and found.place == 0:
        return None
    if operator.op_type == 'Sub':
        return -value
    if operator.op_type == 'Div':
        return None if bool(np.any(value == 0.0)) else 1.0 / value
    return value


class MergeConstants(Rule):
    """Two sums, or two products, with constants are one."""

    name = NAME
    op_types = tuple(KINDS)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        found = constant_operand(graph, operator)
        first = None if found is None else graph.producer(found.tensor)
        if first is None or KINDS.get(first.op_type) != KINDS[operator.op_type]:
            return None
        if _constant(graph, operator) is None or _constant(graph, first) is None:
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers and constants that would grow."""
        operator, first = match
        if graph.sole_reader(first.output) is None:
            return '%s has other readers' % first.name
        one, two = _constant(graph, first), _constant(graph, operator)
        assert one is not None
        assert two is not None
        try:
            size = np.broadcast(one, two).size
        except ValueError:
            return 'the two constants have no common shape'
        if size > max(one.size, two.size):
            return 'their common constant would be larger than both'
        return is_kept(graph, *operator.inputs, *first.inputs)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Compute the common constant."""
        operator, first = match
        found, source = constant_operand(graph, operator), constant_operand(graph, first)
        one, two = _constant(graph, first), _constant(graph, operator)
        assert found is not None
        assert source is not None
        assert one is not None
        assert two is not None
        kind = KINDS[operator.op_type]
        value = (one + two if kind == 'Add' else one * two).astype(found.value.dtype)
        name = graph.add_constant(operator.name + '_constant', value)
        graph.update(replace(operator, op_type=kind, inputs=(source.tensor, name)))
        graph.remove(first, 'its constant is merged into that of %s' % operator.name,
                     rule=self.name)


PASS = RulePass(NAME, [MergeConstants()])
