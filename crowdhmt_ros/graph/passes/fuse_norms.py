# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Convolution-normalisation fusion beyond neighbours: through what joins or pools channels.

BN(Concat(W1 x, W2 y)) = Concat((a1 W1) x + c1, (a2 W2) y + c2), and BN(pool(W x + b)) =
pool((a W) x + (a b + c)) where pooling keeps sums of parts that add up to one, or maxima while a
is positive. The same for Mul, Div, Add and Sub with one constant per channel.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.affine import AFFINE, data_operand
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import (
    Affine,
    affine_of,
    output_channels,
    trains,
    why_not_linear,
    with_affine,
)
from crowdhmt_ros.graph.passes.operands import is_kept
from crowdhmt_ros.graph.passes.windows import window_of

NAME = 'norms through joins'
LINEAR = ('Conv', 'ConvTranspose', 'Gemm')
AVERAGES = ('AveragePool', 'GlobalAveragePool')
BETWEEN = ('Concat', 'MaxPool', *AVERAGES)


def averages_exactly(graph: Graph, pool: Operator) -> bool:
    """Whether a pool of equal numbers gives that number: it counts no padding."""
    if pool.op_type == 'GlobalAveragePool':
        return True
    window = window_of(graph, pool)
    return pool.op_type == 'AveragePool' and window is not None and not pool.integer(
        'ceil_mode', 0) and (not window.padded or not pool.integer('count_include_pad', 0))


class NormThroughJoin(Rule):
    """An affine operator behind Concat or a pool goes into the weights before it."""

    name = NAME
    op_types = AFFINE

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the affine operator, what is between, and the linear ones."""
        tensor = data_operand(graph, operator)
        between = None if tensor is None else graph.producer(tensor)
        if between is None or between.op_type not in BETWEEN or not between.standard:
            return None
        if between.op_type == 'Concat' and between.integer('axis', 0) != 1:
            return None
        makers: List[Operator] = []
        for tensor in between.inputs:
            maker = graph.producer(tensor)
            if maker is None or maker.op_type not in LINEAR or not maker.standard:
                return None
            makers.append(maker)
        return (operator, between, *makers)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, training, weights that vary or must stay, pools that differ."""
        operator, between, makers = match[0], match[1], match[2:]
        if operator.op_type == 'BatchNormalization' and trains(operator):
            return 'it normalises by the batch'
        for part in match[1:]:
            if graph.sole_reader(part.output) is None or any(part.outputs[1:]):
                return '%s has other readers' % part.name
        for reason in (why_not_linear(graph, m) for m in makers):
            if reason is not None:
                return reason
        affine = _affine(graph, match)
        if affine is None:
            return 'its constants are not one per channel'
        if between.op_type == 'MaxPool' and bool(np.any(affine.scale <= 0.0)):
            return 'a factor that is not positive would turn the maxima of %s' % between.name
        if between.op_type in AVERAGES and not averages_exactly(graph, between):
            return '%s counts its padding' % between.name
        refusal = is_kept(graph, *operator.inputs)
        return refusal or graph.why_not_bypass(operator.output, between.output)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write the weights and the biases; tensors between get new names."""
        operator, between, makers = match[0], match[1], match[2:]
        affine = _affine(graph, match)
        assert affine is not None
        start, made = 0, []
        for maker in makers:
            stop = start + (output_channels(graph, maker) or 0)
            part = Affine('', affine.scale[start:stop], affine.shift[start:stop])
            name = graph.new_name(maker.output + '_normed')
            graph.types[name] = graph.type_of(maker.output)
            graph.update(replace(with_affine(graph, maker, part), outputs=(name,)))
            made.append(name)
            start = stop
        graph.remove(operator, 'folded into the weights before %s' % between.name,
                     rule=self.name)
        graph.update(replace(between, inputs=tuple(made), outputs=(operator.output,)))



def _affine(graph: Graph, match: Match) -> Optional[Affine]:
    operator, between, makers = match[0], match[1], match[2:]
    channels = [output_channels(graph, m) for m in makers]
    rank = graph.rank(between.output)
    if None in channels or rank is None:
        return None
    return affine_of(graph, operator, rank=rank, axis=1, channels=sum(c or 0 for c in channels))


PASS = RulePass(NAME, [NormThroughJoin()])
