# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Channel-wise fusion: convolutions that look at one tensor in the same way are one of more channels.

Concat(f(W1 x + b1), f(W2 x + b2)) = f([W1; W2] x + [b1; b2]) for an activation f, or none: the
tensor is read once and nothing is joined. Neighbours in the Concat are merged, wherever they stand
in it.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import bias_of, why_not_linear
from crowdhmt_ros.graph.passes.windows import weights_of, window_of

NAME = 'parallel convolutions'
ACTIVATIONS = ('Relu', 'Clip', 'Sigmoid', 'Tanh', 'HardSigmoid', 'HardSwish', 'LeakyRelu', 'Elu')


class Branch(NamedTuple):
    """A convolution and what follows it up to a join."""

    convolution: Operator
    activation: Optional[Operator]

    @property
    def operators(self) -> Tuple[Operator, ...]:
        """Both, the last first."""
        return tuple(o for o in (self.activation, self.convolution) if o is not None)


def branch_of(graph: Graph, tensor: str) -> Optional[Branch]:
    """Return the convolution and the activation that make a tensor."""
    maker = graph.producer(tensor)
    activation = None
    if maker is not None and maker.op_type in ACTIVATIONS and maker.standard:
        activation, maker = maker, graph.producer(maker.input(0))
    if maker is None or maker.op_type != 'Conv' or not maker.standard:
        return None
    return Branch(maker, activation)


def alike(graph: Graph, one: Branch, two: Branch) -> bool:
    """Whether two branches read the same tensor in the same way."""
    windows = [window_of(graph, b.convolution) for b in (one, two)]
    if None in windows or windows[0] != windows[1]:
        return False
    if one.convolution.input(0) != two.convolution.input(0) or one.convolution is two.convolution:
        return False
    first, second = one.activation, two.activation
    if first is None or second is None:
        return first is second
    return (first.op_type == second.op_type and first.attributes == second.attributes
            and _bounds(graph, first) == _bounds(graph, second))


def _bounds(graph: Graph, activation: Operator) -> List[object]:
    values = [graph.value(t) for t in activation.inputs[1:]]
    return [t if v is None else v.tolist() for t, v in zip(activation.inputs[1:], values)]


class MergeParallel(Rule):
    """Neighbours in a Concat that are alike are one convolution."""

    name = NAME
    op_types = ('Concat',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the Concat and the operators of the first two neighbours that are alike."""
        if operator.integer('axis', 0) != 1:
            return None
        branches = [branch_of(graph, t) for t in operator.inputs]
        for one, two in zip(branches, branches[1:]):
            if one is not None and two is not None and alike(graph, one, two):
                return (operator, *one.operators, *two.operators)
        return None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, groups, weights that vary or must stay."""
        for part in match[1:]:
            if graph.sole_reader(part.output) is None:
                return 'the result of %s has other readers' % part.name
        for convolution in _convolutions(match):
            if convolution.integer('group', 1) != 1:
                return '%s has groups of channels' % convolution.name
            reason = why_not_linear(graph, convolution)
            if reason is not None:
                return reason
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Stack the weights and let the Concat read their common result."""
        operator, (first, second) = match[0], _convolutions(match)
        ends = [match[1].output, match[1 + (len(match) - 1) // 2].output]
        place = next(i for i, pair in enumerate(zip(operator.inputs, operator.inputs[1:]))
                     if list(pair) == ends)
        inputs = [first.input(0), self._stacked(graph, first, second)]
        bias = [bias_of(graph, c) for c in (first, second)]
        if first.input(2) or second.input(2):
            kind = graph.constants[first.inputs[1]].dtype
            inputs.append(graph.add_constant(first.name + '_biases', np.concatenate(
                [b for b in bias if b is not None]).astype(kind)))
        result = made = graph.new_name(first.output + '_merged')
        for part in match[1 + (len(match) - 1) // 2:]:
            graph.remove(part, 'its channels are computed by %s' % first.name, rule=self.name)
        graph.update(replace(first, inputs=tuple(inputs), outputs=(made,)))
        if len(match) == 5:
            result = graph.new_name(match[1].output + '_merged')
            graph.update(replace(match[1], inputs=(made, *match[1].inputs[1:]),
                                 outputs=(result,)))
        graph.update(replace(operator, inputs=(
            *operator.inputs[:place], result, *operator.inputs[place + 2:])))

    @staticmethod
    def _stacked(graph: Graph, first: Operator, second: Operator) -> str:
        kind = graph.constants[first.inputs[1]].dtype
        weights = np.concatenate([weights_of(graph, c) for c in (first, second)]).astype(kind)
        return graph.add_constant(first.inputs[1] + '_merged', weights)


def _convolutions(match: Match) -> Tuple[Operator, Operator]:
    first, second = (o for o in match[1:] if o.op_type == 'Conv')
    return first, second


PASS = RulePass(NAME, [MergeParallel()])
