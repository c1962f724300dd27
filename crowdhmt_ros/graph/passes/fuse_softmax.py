# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Reduction fusion: softmax that a converter wrote out.

exp(x - max(x)) / sum(exp(x - max(x))) = Softmax(x) along one axis, from opset 13 on; also without
the maximum, where Softmax is the safer way to the same numbers.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.fuse_gates import made_by
from crowdhmt_ros.graph.passes.fuse_means import reduced_axes
from crowdhmt_ros.graph.passes.gemm import FLOAT_TYPES

NAME = 'softmax'
SINCE = 13  # before that Softmax flattens from its axis on


class WrittenSoftmax(Rule):
    """Exp over its own sum."""

    name = NAME
    op_types = ('Div',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the quotient, the sum, Exp, and the difference and the maximum if any."""
        total = made_by(graph, operator.input(1), 'ReduceSum')
        power = made_by(graph, operator.input(0), 'Exp')
        if (total is None or power is None or total.input(0) != power.output
                or not total.integer('keepdims', 1)):
            return None
        axes = reduced_axes(graph, total)
        if axes is None or len(axes) != 1:
            return None
        apart = made_by(graph, power.input(0), 'Sub')
        most = None if apart is None else made_by(graph, apart.input(1), 'ReduceMax')
        if (apart is not None and most is not None and most.input(0) == apart.input(0)
                and most.integer('keepdims', 1) and reduced_axes(graph, most) == axes):
            return operator, total, power, apart, most
        return operator, total, power

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse older opsets, other types, and parts that are read elsewhere."""
        if graph.opset < SINCE:
            return 'Softmax flattens before opset %d' % SINCE
        if graph.type_of(match[0].output).dtype not in FLOAT_TYPES:
            return 'its numbers are not known to be floating-point'
        own = {o.name for o in match}
        for part in match[1:]:
            if part.output in graph.outputs or any(
                    r.name not in own for r in graph.readers(part.output)):
                return '%s has other readers' % part.name
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write Softmax."""
        operator, axes = match[0], reduced_axes(graph, match[1])
        assert axes is not None
        source = match[3].input(0) if len(match) > 3 else match[2].input(0)
        for part in match[1:]:
            graph.remove(part, 'a step of Softmax %s' % operator.name, rule=self.name)
        graph.update(replace(operator, op_type='Softmax', inputs=(source,), attributes={}
                             ).with_attributes({'axis': axes[0]}))


PASS = RulePass(NAME, [WrittenSoftmax()])
