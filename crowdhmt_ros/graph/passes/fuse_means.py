# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Reduction fusion: means and maxima over all places are one pool; reductions in a row are one.

ReduceMean(x, spatial axes) = GlobalAveragePool(x), ReduceMax = GlobalMaxPool, AveragePool over
everything = GlobalAveragePool. Mean(Mean(x, a), b) = Mean(x, a and b); the same for sums, maxima
and minima. Sum(x) / n = Mean(x).
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.fuse_gates import factor_of, made_by, why_not_inner
from crowdhmt_ros.graph.passes.fuse_norms import averages_exactly
from crowdhmt_ros.graph.passes.gemm import FLOAT_TYPES
from crowdhmt_ros.graph.passes.operands import axes_of, positive
from crowdhmt_ros.graph.passes.windows import window_of

NAME = 'reductions in one'
POOLS = {'ReduceMean': 'GlobalAveragePool', 'ReduceMax': 'GlobalMaxPool',
         'AveragePool': 'GlobalAveragePool', 'MaxPool': 'GlobalMaxPool'}
NESTING = ('ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin')
AXES_AS_INPUT = {'ReduceSum': 13}
CLOSE = 1e-6


def reduced_axes(graph: Graph, operator: Operator) -> Optional[Tuple[int, ...]]:
    """Return the axes that a reduction takes together, from the front, None if they vary."""
    rank, axes = graph.rank(operator.input(0)), axes_of(graph, operator)
    if rank is None or operator.integer('noop_with_empty_axes', 0):
        return None
    if axes is None and operator.input(1):
        return None
    return tuple(sorted(positive(axes, rank))) if axes else tuple(range(rank))


def with_axes(graph: Graph, operator: Operator, axes: Tuple[int, ...]) -> Operator:
    """Return a reduction over other axes."""
    if graph.opset < AXES_AS_INPUT.get(operator.op_type, math.inf):
        return replace(operator, inputs=operator.inputs[:1]).with_attributes({'axes': axes})
    name = graph.add_constant(operator.name + '_axes', np.asarray(axes, np.int64))
    return replace(operator, inputs=(operator.inputs[0], name)).without_attributes(('axes',))


class ReductionsInARow(Rule):
    """R(R(x, a), b) = R(x, a and b)."""

    name = NAME
    op_types = NESTING

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first of the same kind."""
        first = made_by(graph, operator.input(0), operator.op_type)
        if first is None or None in (reduced_axes(graph, first), reduced_axes(graph, operator)):
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers and shapes that no single reduction gives."""
        if match[0].integer('keepdims', 1) != match[1].integer('keepdims', 1):
            return 'one keeps its axes and the other does not'
        return why_not_inner(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Take the axes together."""
        operator, first = match
        one, two = reduced_axes(graph, first), reduced_axes(graph, operator)
        rank = graph.rank(first.input(0)) or 0
        assert one is not None
        assert two is not None
        if not first.integer('keepdims', 1):
            left = [axis for axis in range(rank) if axis not in one]
            two = tuple(left[axis] for axis in two)
        graph.remove(first, 'reduced together with %s' % operator.name, rule=self.name)
        graph.update(with_axes(graph, replace(operator, inputs=(
            first.input(0), *operator.inputs[1:])), tuple(sorted({*one, *two}))))


class SumToMean(Rule):
    """Sum(x) times one n-th is the mean."""

    name = NAME
    op_types = ('Mul', 'Div')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the factor and the sum of n elements each."""
        found = factor_of(graph, operator)
        total = None if found is None else made_by(graph, found[0], 'ReduceSum')
        shape = None if total is None else graph.shape(total.input(0))
        axes = None if total is None else reduced_axes(graph, total)
        if found is None or total is None or shape is None or axes is None:
            return None
        count = math.prod(shape[a] for a in axes)
        return (operator, total) if abs(found[1] * count - 1.0) <= CLOSE else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers and constants that must stay."""
        return why_not_inner(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write ReduceMean."""
        operator, total = match
        axes = reduced_axes(graph, total)
        assert axes is not None
        graph.remove(total, 'divided by its count: a mean', rule=self.name)
        graph.update(with_axes(graph, replace(
            operator, op_type='ReduceMean', inputs=(total.input(0),), attributes={}
        ).with_attributes({'keepdims': total.integer('keepdims', 1)}), axes))


class GlobalPool(Rule):
    """A reduction over all places that keeps them as single ones is a global pool."""

    name = NAME
    op_types = tuple(POOLS)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return a reduction over all axes but the first two, or a pool over everything."""
        shape = graph.shape(operator.input(0))
        if shape is None or len(shape) < 3 or len(operator.outputs) > 1:
            return None
        if operator.op_type in ('AveragePool', 'MaxPool'):
            window = window_of(graph, operator)
            whole = (window is not None and window.kernel == shape[2:] and not window.padded
                     and not operator.integer('ceil_mode', 0)
                     and all(d == 1 for d in window.dilations))
            return (operator,) if whole else None
        spatial = reduced_axes(graph, operator) == tuple(range(2, len(shape)))
        return (operator,) if spatial and operator.integer('keepdims', 1) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse numbers of other types."""
        known = graph.type_of(match[0].input(0)).dtype in FLOAT_TYPES
        return None if known else 'its numbers are not known to be floating-point'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write the global pool."""
        operator = match[0]
        graph.update(replace(operator, op_type=POOLS[operator.op_type],
                             inputs=operator.inputs[:1], attributes={}))


class MeanOfMeans(Rule):
    """The mean over everything of means over equal parts is the mean."""

    name = NAME
    op_types = ('GlobalAveragePool',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the global pool and a pool before it whose windows tile its input."""
        pool = made_by(graph, operator.input(0), 'AveragePool')
        window = None if pool is None else window_of(graph, pool)
        shape = None if pool is None else graph.shape(pool.input(0))
        if pool is None or window is None or shape is None or not averages_exactly(graph, pool):
            return None
        tiles = (window.kernel == window.strides and not window.padded
                 and all(e % k == 0 for e, k in zip(shape[2:], window.kernel)))
        return (operator, pool) if tiles else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers."""
        return why_not_inner(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Pool what the first one pooled."""
        operator, pool = match
        graph.remove(pool, '%s takes the mean of everything' % operator.name, rule=self.name)
        graph.update(replace(operator, inputs=(pool.input(0),)))


PASS = RulePass(NAME, [ReductionsInARow(), SumToMean(), GlobalPool(), MeanOfMeans()])
