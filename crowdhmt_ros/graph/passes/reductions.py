# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A reduction and the view that puts its axes back, or takes them away, are one reduction.

Unsqueeze(Reduce(x, axes, keepdims=0), axes) = Reduce(x, axes, keepdims=1), and the other way.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator, PartialShape
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import axes_of, positive, same_extents
from crowdhmt_ros.graph.passes.push_transposes import REDUCTIONS
from crowdhmt_ros.graph.passes.views import VIEWS

NAME = 'reductions'


def reduced_shape(graph: Graph, operator: Operator, keep: bool) -> Optional[PartialShape]:
    """Return the shape of a reduction that keeps its axes or not."""
    shape = graph.type_of(operator.input(0)).shape
    axes = ((operator.integer('axis', 0),) if operator.op_type in ('ArgMax', 'ArgMin')
            else axes_of(graph, operator))
    if shape is None or not axes:
        return None
    gone = positive(axes, len(shape))
    return tuple(1 if i in gone else e for i, e in enumerate(shape) if keep or i not in gone)


class AbsorbView(Rule):
    """The view becomes the reduction's keepdims."""

    name = NAME
    op_types = VIEWS

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the view and the reduction, when the other keepdims gives the view's shape."""
        maker = graph.producer(operator.input(0))
        if maker is None or maker.op_type not in (*REDUCTIONS, 'ArgMax', 'ArgMin'):
            return None
        other = reduced_shape(graph, maker, not maker.integer('keepdims', 1))
        same = same_extents(other, graph.type_of(operator.output).shape)
        return (operator, maker) if same else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse when others read the reduction."""
        alone = graph.sole_reader(match[1].output) is not None
        return None if alone else '%s has other readers' % match[1].name

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Turn keepdims round."""
        operator, maker = match
        graph.remove(operator, '%s gives that shape itself' % maker.name, rule=self.name)
        keep = 1 - maker.integer('keepdims', 1)
        graph.update(replace(maker, outputs=operator.outputs).with_attributes({'keepdims': keep}))


PASS = RulePass(NAME, [AbsorbView()])
