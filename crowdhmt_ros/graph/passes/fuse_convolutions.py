# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Linear fusion: two convolutions with nothing between are one, where one is cheaper.

W2 * (W1 * x + b1) + b2 = (W2 o W1) * x + (sum W2 b1 + b2). Along each axis one of the two kernels
holds a single place, so that their composition is no larger than the larger one (a separable or
low-rank pair multiplied again). Zeros that the second one pads with must be what the first one
gives there: then b1 is zero. Depthwise lines stay apart: as one they would take more products.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator, Shape
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import bias_of, why_not_linear
from crowdhmt_ros.graph.passes.windows import (
    Window,
    convolution_cost,
    slid,
    weights_of,
    window_of,
)

NAME = 'compose convolutions'
Doubles = NDArray[np.float64]


def composed_window(first: Window, second: Window) -> Optional[Window]:
    """Return the window of two convolutions in a row, None where both look around."""
    axes: List[Tuple[int, int, Tuple[int, int], int]] = []
    for axis in range(len(first.kernel)):
        if second.kernel[axis] == 1 and not any(second.around(axis)):
            axes.append((first.kernel[axis], first.strides[axis] * second.strides[axis],
                         first.around(axis), first.dilations[axis]))
        elif (first.kernel[axis] == 1 and first.strides[axis] == 1
              and not any(first.around(axis))):
            axes.append((second.kernel[axis], second.strides[axis], second.around(axis),
                         second.dilations[axis]))
        else:
            return None
    kernel, strides, around, dilations = zip(*axes)
    pads = (*(a for a, _ in around), *(b for _, b in around))
    return Window(tuple(kernel), tuple(strides), pads, tuple(dilations))


def composed_weights(first: Doubles, second: Doubles) -> Doubles:
    """
    Return the weights of two convolutions in a row.

    :param first: (middle, inputs, ...)
    :param second: (outputs, middle, ...), of one place wherever the first has several
    """
    axes = 'abc'[:first.ndim - 2]
    spread: Doubles = np.einsum('mi%s,om%s->oi%s%s' % (axes, axes.upper(), axes, axes.upper()),
                                first, second)
    shape = [a * b for a, b in zip(first.shape[2:], second.shape[2:])]
    order = [0, 1, *(2 + i + j * len(shape) for i in range(len(shape)) for j in (0, 1))]
    joined: Doubles = spread.transpose(order).reshape(*spread.shape[:2], *shape)
    return joined


class ComposeConvolutions(Rule):
    """Conv(Conv(x)) = Conv(x)."""

    name = NAME
    op_types = ('Conv',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        first = graph.producer(operator.input(0))
        if first is None or first.op_type != 'Conv' or not first.standard:
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, groups, kernels that grow, borders, and what costs more."""
        operator, first = match
        if graph.sole_reader(first.output) is None:
            return 'the result of %s has other readers' % first.name
        reason = why_not_linear(graph, operator) or why_not_linear(graph, first)
        if reason is not None:
            return reason
        one, two = window_of(graph, first), window_of(graph, operator)
        if one is None or two is None:
            return 'one of the two chooses its padding itself'
        if one.group != 1 or two.group != 1:
            return 'one of the two has groups of channels'
        if composed_window(one, two) is None:
            return 'both look at several places along one axis'
        bias = bias_of(graph, first)
        if two.padded and (bias is None or bool(np.any(bias))):
            return 'the bias of %s does not reach the zeros that it pads with' % first.name
        return _dearer(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Multiply the weights."""
        operator, first = match
        one, two = window_of(graph, first), window_of(graph, operator)
        bias = [bias_of(graph, o) for o in (first, operator)]
        assert one is not None
        assert two is not None
        assert bias[0] is not None
        assert bias[1] is not None
        window = composed_window(one, two)
        assert window is not None
        second = weights_of(graph, operator)
        weights = composed_weights(weights_of(graph, first), second)
        moved = second.sum(axis=tuple(range(2, second.ndim))) @ bias[0] + bias[1]
        kind = graph.constants[operator.inputs[1]].dtype
        inputs = [first.input(0), graph.add_constant(operator.inputs[1] + '_composed',
                                                     weights.astype(kind))]
        if bool(np.any(moved)):
            inputs.append(graph.add_constant(operator.name + '_bias', moved.astype(kind)))
        graph.remove(first, 'multiplied into the weights of %s' % operator.name, rule=self.name)
        graph.update(slid(replace(operator, inputs=tuple(inputs)), window))


def _dearer(graph: Graph, match: Match) -> Optional[str]:
    operator, first = match
    source, middle, result = (graph.shape(t) for t in (
        first.input(0), first.output, operator.output))
    if source is None or middle is None or result is None:
        return 'the extents of the tensors are not known'
    one, two = graph.constants[first.inputs[1]].shape, graph.constants[operator.inputs[1]].shape
    taps: Shape = tuple(max(a, b) for a, b in zip(one[2:], two[2:]))
    before = convolution_cost(middle, one, source) + convolution_cost(result, two, middle)
    after = convolution_cost(result, (two[0], one[1], *taps), source)
    return None if after <= before else (
        'as one it would take %.1f times as long' % (after / before))


PASS = RulePass(NAME, [ComposeConvolutions()])
