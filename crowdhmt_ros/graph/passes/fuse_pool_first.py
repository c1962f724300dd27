# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Reduction fusion: averages come before what treats every place alike.

pool(W x + b) = W pool(x) + b for a pointwise convolution and an average that counts no padding:
the convolution then sees as many places fewer as the pool takes together.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.fuse_norms import AVERAGES, averages_exactly
from crowdhmt_ros.graph.passes.linear import why_not_linear
from crowdhmt_ros.graph.passes.operands import elements
from crowdhmt_ros.graph.passes.windows import WORD_MACS, convolution_cost, window_of

NAME = 'averages first'


class AverageFirst(Rule):
    """pool(Conv(x)) = Conv(pool(x))."""

    name = NAME
    op_types = AVERAGES

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the pool and the pointwise convolution before it."""
        first = graph.producer(operator.input(0))
        if first is None or first.op_type != 'Conv' or not first.standard:
            return None
        window = window_of(graph, first)
        if window is None or not window.pointwise or any(s != 1 for s in window.strides):
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, zeros that count, and what costs more."""
        operator, first = match
        if graph.sole_reader(first.output) is None:
            return 'the result of %s has other readers' % first.name
        if not averages_exactly(graph, operator):
            return 'it counts its padding'
        return why_not_linear(graph, first) or _dearer(graph, operator, first)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Let both change places; the pool's result has a new name."""
        operator, first = match
        made = graph.new_name(operator.output + '_before')
        graph.remove(first, 'computed behind %s, where places are fewer' % operator.name,
                     rule=self.name)
        graph.update(replace(operator, inputs=(first.input(0),), outputs=(made,)))
        graph.add(replace(first, name=graph.new_name(first.name + '/behind'),
                          inputs=(made, *first.inputs[1:]), outputs=operator.outputs),
                  'what %s computed' % first.name, near=operator, rule=self.name)


def _dearer(graph: Graph, operator: Operator, first: Operator) -> Optional[str]:
    source, middle, result = (graph.shape(t) for t in (
        first.input(0), first.output, operator.output))
    if source is None or middle is None or result is None:
        return 'the extents of the tensors are not known'
    weights = graph.constants[first.inputs[1]].shape
    pooled = (*source[:2], *result[2:])
    before = convolution_cost(middle, weights, source) + WORD_MACS * (
        elements(middle) + elements(result))
    after = convolution_cost(result, weights, pooled) + WORD_MACS * (
        elements(source) + elements(pooled))
    return None if after < before else 'the other way round it would take as long'


PASS = RulePass(NAME, [AverageFirst()])
