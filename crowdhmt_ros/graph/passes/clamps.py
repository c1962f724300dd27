# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Clamps in a row: min(max(x, l), h) for Relu, Clip, Min and Max with a constant.

clamp(clamp(x, l1, h1), l2, h2) = clamp(x, clamp(l1, l2, h2), clamp(h1, l2, h2)) for l1 <= h1.
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Optional

import numpy as np
from onnx import helper

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import constant_operand, is_kept, scalar

NAME = 'clamps'
INFINITE = float('inf')
LARGEST = 3.4028234663852886e+38  # what Clip before opset 11 means by no bound
BOUNDS_AS_INPUTS = 11


class Clamp(NamedTuple):
    """Operand and bounds of a clamp."""

    tensor: str
    low: float
    high: float

    def of(self, value: float) -> float:
        """Clamp a number."""
        return min(max(value, self.low), self.high)


def clamp_of(graph: Graph, operator: Operator) -> Optional[Clamp]:
    """Return what an operator clamps, None when it is no clamp with constant bounds."""
    tensor = operator.input(0)
    if operator.op_type == 'Relu':
        return Clamp(tensor, 0.0, INFINITE)
    if operator.op_type == 'Clip':
        low: Optional[float] = -INFINITE
        high: Optional[float] = INFINITE
        if graph.opset < BOUNDS_AS_INPUTS:
            low, high = operator.number('min', -LARGEST), operator.number('max', LARGEST)
            low = -INFINITE if low <= -LARGEST else low
            high = INFINITE if high >= LARGEST else high
        if operator.input(1):
            low = scalar(graph, operator.input(1))
        if operator.input(2):
            high = scalar(graph, operator.input(2))
        return None if low is None or high is None else Clamp(tensor, low, high)
    found = constant_operand(graph, operator)
    bound = None if found is None else scalar(graph, operator.inputs[found.place])
    if found is None or bound is None or found.value.ndim > (graph.rank(found.tensor) or 0):
        return None
    if operator.op_type == 'Max':
        return Clamp(found.tensor, bound, INFINITE)
    return Clamp(found.tensor, -INFINITE, bound)


class MergeClamps(Rule):
    """Two clamps are one."""

    name = NAME
    op_types = ('Relu', 'Clip', 'Min', 'Max')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        outer = clamp_of(graph, operator)
        first = None if outer is None else graph.producer(outer.tensor)
        if first is None or first.op_type not in self.op_types or clamp_of(graph, first) is None:
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse crossed bounds, other readers, and numbers of other types."""
        operator, first = match
        inner = clamp_of(graph, first)
        assert inner is not None
        if not inner.low <= inner.high:
            return 'the bounds of %s are crossed' % first.name
        if graph.sole_reader(first.output) is None:
            return '%s has other readers' % first.name
        kept = is_kept(graph, *operator.inputs, *first.inputs)
        if kept is not None:
            return kept
        kind = graph.type_of(inner.tensor).dtype
        floats = kind and helper.tensor_dtype_to_np_dtype(kind) in (np.float16, np.float32,
                                                                    np.float64)
        return None if floats else 'its numbers are not known to be floating-point'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write Relu or Clip."""
        operator, first = match
        outer, inner = clamp_of(graph, operator), clamp_of(graph, first)
        assert outer is not None
        assert inner is not None
        both = Clamp(inner.tensor, outer.of(inner.low), outer.of(inner.high))
        graph.update(write_clamp(graph, operator, both))
        graph.remove(first, 'merged with %s: both clamp' % operator.name, rule=self.name)


def write_clamp(graph: Graph, operator: Operator, clamp: Clamp) -> Operator:
    """Return an operator in the place of another that clamps."""
    plain = replace(operator, inputs=(clamp.tensor,), attributes={})
    if clamp.low == 0.0 and clamp.high == INFINITE:
        return replace(plain, op_type='Relu')
    bounds = {'min': clamp.low, 'max': clamp.high}
    finite = {n: v for n, v in bounds.items() if np.isfinite(v)}
    if graph.opset < BOUNDS_AS_INPUTS:
        return replace(plain, op_type='Clip').with_attributes(finite)
    dtype = helper.tensor_dtype_to_np_dtype(graph.type_of(clamp.tensor).dtype)
    names = [graph.add_constant('%s_%s' % (operator.name, n), np.asarray(v, dtype))
             if n in finite else '' for n, v in bounds.items()]
    while names and not names[-1]:
        names.pop()
    return replace(plain, op_type='Clip', inputs=(clamp.tensor, *names))


PASS = RulePass(NAME, [MergeClamps()])
