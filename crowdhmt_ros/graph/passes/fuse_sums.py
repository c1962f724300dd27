# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Channel-wise fusion: a sum of convolutions of one tensor is a convolution.

W1 * x + W2 * x + a x + c = (W1 + W2 + diag(a)) * x + c: the smaller kernel stands in the middle of
the larger one, a shortcut or a normalisation of the tensor itself is a single place (RepVGG, Ding
et al. 2021).
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.affine import AFFINE, data_operand
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import affine_of, bias_of, trains, why_not_linear
from crowdhmt_ros.graph.passes.operands import is_kept
from crowdhmt_ros.graph.passes.windows import Window, slid, weights_of, window_of

NAME = 'sums of convolutions'
Doubles = NDArray[np.float64]


class Term(NamedTuple):
    """
    One summand: weights * x + bias.

    :param operator: what computes it, None for x itself
    """

    operator: Optional[Operator]
    weights: Doubles
    bias: Doubles
    window: Window


def term_of(graph: Graph, tensor: str, source: str, axes: int) -> Optional[Term]:
    """
    Return a tensor as a convolution of another one, None when it is none.

    :param axes: spatial ones
    """
    shape, maker = graph.shape(source), graph.producer(tensor)
    if shape is None or len(shape) != axes + 2:
        return None
    single = Window((1,) * axes, (1,) * axes, (0,) * (2 * axes), (1,) * axes)
    eye: Doubles = np.eye(shape[1]).reshape(shape[1], shape[1], *single.kernel)
    if tensor == source:
        return Term(None, eye, np.zeros(shape[1]), single)
    if maker is None or not maker.standard:
        return None
    if maker.op_type == 'Conv' and maker.input(0) == source:
        window, bias = window_of(graph, maker), bias_of(graph, maker)
        if window is None or bias is None or window.group != 1:
            return None
        return Term(maker, weights_of(graph, maker), bias, window)
    if maker.op_type in AFFINE and data_operand(graph, maker) == source:
        affine = affine_of(graph, maker, rank=len(shape), axis=1, channels=shape[1])
        if affine is None or trains(maker):
            return None
        scale = affine.scale.reshape(-1, 1, *single.kernel)
        return Term(maker, eye * scale, affine.shift, single)
    return None


def margin_of(small: Window, large: Window) -> Optional[Tuple[int, ...]]:
    """Return where the smaller window lies within the larger one, None when it does not."""
    if small.strides != large.strides or any(d != 1 for d in large.dilations):
        return None
    before = []
    for axis, (k, wide) in enumerate(zip(small.kernel, large.kernel)):
        ahead = large.around(axis)[0] - small.around(axis)[0]
        behind = large.around(axis)[1] - small.around(axis)[1]
        if ahead < 0 or behind < 0 or ahead + k + behind != wide:
            return None
        before.append(ahead)
    return tuple(before)


class SumOfConvolutions(Rule):
    """Conv(x) + Conv'(x) = Conv(x)."""

    name = NAME
    op_types = ('Add',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the sum and its summands that are operators, the larger convolution first."""
        terms = terms_of(graph, operator)
        if terms is None:
            return None
        return (operator, *(t.operator for t in terms if t.operator is not None))

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, weights that vary or must stay, windows that do not nest."""
        for part in match[1:]:
            if graph.sole_reader(part.output) is None:
                return 'the result of %s has other readers' % part.name
            reason = (why_not_linear(graph, part) if part.op_type == 'Conv'
                      else is_kept(graph, *part.inputs))
            if reason is not None:
                return reason
        terms = terms_of(graph, match[0])
        assert terms is not None
        large, small = terms
        if large.weights.shape[:2] != small.weights.shape[:2]:
            return 'their channels differ'
        if margin_of(small.window, large.window) is None:
            return 'the smaller window does not lie within the larger one'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Add the weights."""
        terms = terms_of(graph, match[0])
        assert terms is not None
        large, small = terms
        margin = margin_of(small.window, large.window)
        assert large.operator is not None
        assert margin is not None
        weights = large.weights.copy()
        inner = (slice(None), slice(None), *(
            slice(m, m + k) for m, k in zip(margin, small.window.kernel)))
        weights[inner] += small.weights
        kind = graph.constants[large.operator.inputs[1]].dtype
        inputs = [large.operator.input(0), graph.add_constant(
            large.operator.inputs[1] + '_summed', weights.astype(kind))]
        bias = large.bias + small.bias
        if bool(np.any(bias)):
            inputs.append(graph.add_constant(large.operator.name + '_bias', bias.astype(kind)))
        reason = 'summed in the weights of %s' % large.operator.name
        for part in match[2:]:
            graph.remove(part, reason, rule=self.name)
        graph.remove(match[0], reason, rule=self.name)
        graph.update(slid(replace(large.operator, inputs=tuple(inputs),
                                  outputs=match[0].outputs), large.window))


def terms_of(graph: Graph, operator: Operator) -> Optional[Tuple[Term, Term]]:
    """Return the summands of an Add as convolutions of one tensor, the larger window first."""
    if len(set(operator.inputs)) != 2 or operator.output in operator.inputs:
        return None
    for tensor in operator.inputs:
        maker = graph.producer(tensor)
        if maker is None or maker.op_type != 'Conv' or not maker.standard:
            continue
        axes = (graph.rank(tensor) or 2) - 2
        terms = [term_of(graph, t, maker.input(0), axes) for t in operator.inputs]
        found = [t for t in terms if t is not None]
        if len(found) == 2:
            convolutions = sorted(found, key=lambda t: (
                t.operator is not None and t.operator.op_type == 'Conv',
                math.prod(t.window.kernel)), reverse=True)
            return convolutions[0], convolutions[1]
    return None


PASS = RulePass(NAME, [SumOfConvolutions()])
