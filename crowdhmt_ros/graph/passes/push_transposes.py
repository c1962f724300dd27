# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Transpositions move towards the outputs, where they meet and cancel.

f(T(x)) = T(f(x)) for f element by element; f(T(x), T(y)) = T(f(x, y)) for equal permutations;
f(T(x), c) = T(f(x, c')) with c' the constant in the other order. Concat, Softmax, Pad and
reductions follow with their axes renamed. At least one transposition goes for the one that comes.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import (
    axes_of,
    integers,
    inverse,
    is_kept,
    permutation,
    positive,
)

NAME = 'push transposes'
UNARY = ('Abs', 'Cast', 'Ceil', 'Celu', 'Clip', 'Elu', 'Erf', 'Exp', 'Floor', 'HardSigmoid',
         'HardSwish', 'Identity', 'LeakyRelu', 'Log', 'Neg', 'Not', 'Reciprocal', 'Relu', 'Round',
         'Selu', 'Sigmoid', 'Sign', 'Softplus', 'Softsign', 'Sqrt', 'Tanh', 'ThresholdedRelu')
BROADCAST = ('Add', 'And', 'Div', 'Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual',
             'Max', 'Mean', 'Min', 'Mod', 'Mul', 'Or', 'PRelu', 'Pow', 'Sub', 'Sum', 'Where')
BY_AXIS = ('Softmax', 'LogSoftmax', 'Hardmax', 'ArgMax', 'ArgMin', 'Concat')
REDUCTIONS = ('ReduceL1', 'ReduceL2', 'ReduceLogSumExp', 'ReduceMax', 'ReduceMean', 'ReduceMin',
              'ReduceProd', 'ReduceSum', 'ReduceSumSquare')
NORMALISED_FROM_AXIS = 13  # before that Softmax flattens from its axis on


def _data_inputs(operator: Operator) -> Tuple[str, ...]:
    """Return the operands that have the layout of the result."""
    if operator.op_type in (*BROADCAST, 'Concat'):
        return operator.inputs
    return operator.inputs[:1]


def _transposes(graph: Graph, operator: Operator) -> List[Operator]:
    makers = [graph.producer(t) for t in dict.fromkeys(_data_inputs(operator))]
    return [m for m in makers if m is not None and m.op_type == 'Transpose' and m.standard]


class PushTranspose(Rule):
    """f(T(x)) = T(f'(x))."""

    name = NAME
    op_types = (*UNARY, *BROADCAST, *BY_AXIS, *REDUCTIONS, 'Pad')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operator and the transpositions that it reads."""
        found = _transposes(graph, operator)
        if not found or len(operator.outputs) != 1:
            return None
        return (operator, *found)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse different permutations, other operands, and what would add an operator."""
        operator, transposes = match[0], match[1:]
        perms = {permutation(graph, t) for t in transposes}
        if len(perms) != 1 or None in perms:
            return 'its operands are transposed differently'
        if operator.op_type in REDUCTIONS or operator.op_type in BY_AXIS:
            reason = _axis_refusal(graph, operator)
            if reason is not None:
                return reason
        if operator.op_type == 'Pad' and (
                operator.input(1) not in graph.constants and operator.integers('pads') is None):
            return 'its pads are computed'
        made = {t.output for t in transposes}
        rank = len(next(iter(perms)) or ())
        for tensor in _data_inputs(operator):
            value = graph.value(tensor)
            if tensor not in made and value is None:
                return 'its operand %s is not transposed' % tensor
            if value is not None and operator.op_type == 'Concat' and value.ndim != rank:
                return 'its operand %s has another rank' % tensor
            if value is not None and value.size > 1:
                kept = is_kept(graph, tensor)
                if kept or value.ndim > rank:
                    return kept or 'its operand %s has more axes' % tensor
        if not _gone(graph, operator, transposes):
            return 'the transposition has other readers, one more would be needed'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Compute in the layout of the input and transpose the result."""
        operator, transposes = match[0], match[1:]
        perm = permutation(graph, transposes[0])
        assert perm is not None
        gone = _gone(graph, operator, transposes)
        sources = {t.output: t.input(0) for t in transposes}
        inputs = [sources[i] if i in sources else _moved(graph, operator, i, perm)
                  for i in _data_inputs(operator)]
        rest = operator.inputs[len(inputs):]
        inner = graph.new_name(operator.output + '_moved')
        after = _result_perm(graph, operator, perm)
        changed = _renamed_axes(graph, operator, perm, rest)
        graph.update(replace(changed, inputs=(*inputs, *changed.inputs[len(inputs):]),
                             outputs=(inner,)))
        name = graph.new_name(operator.name + '/transpose')
        graph.add(Operator(name, 'Transpose', (inner,), (operator.output,)).with_attributes(
            {'perm': after}), 'moved behind %s' % operator.name, near=operator, rule=self.name)
        for transpose in gone:
            graph.remove(transpose, 'moved behind %s' % operator.name, rule=self.name)


def _axis_refusal(graph: Graph, operator: Operator) -> Optional[str]:
    if operator.op_type in ('Softmax', 'LogSoftmax', 'Hardmax') and (
            graph.opset < NORMALISED_FROM_AXIS):
        return 'before opset 13 it normalises over several axes'
    if operator.op_type in REDUCTIONS and not axes_of(graph, operator):
        return 'it reduces all axes, or axes that are computed'
    return None


def _gone(graph: Graph, operator: Operator, transposes: Sequence[Operator]) -> List[Operator]:
    return [t for t in transposes if graph.readers(t.output) == [operator]
            and t.output not in graph.outputs and t.output not in operator.captured]


def _moved(graph: Graph, operator: Operator, tensor: str, perm: Sequence[int]) -> str:
    """Return a constant operand in the layout of the input."""
    value = graph.constants[tensor]
    if value.size == 1 and operator.op_type != 'Concat':
        return tensor
    padded = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
    return graph.add_constant(tensor + '_moved', np.ascontiguousarray(
        padded.transpose(inverse(perm))))


def _result_perm(graph: Graph, operator: Operator, perm: Sequence[int]) -> Tuple[int, ...]:
    """Return the permutation of the result, shorter when axes are reduced away."""
    if operator.op_type in REDUCTIONS:
        axes = axes_of(graph, operator) or ()
    elif operator.op_type in ('ArgMax', 'ArgMin'):
        axes = (operator.integer('axis', 0),)
    else:
        return tuple(perm)
    if operator.integer('keepdims', 1):
        return tuple(perm)
    reduced = set(positive(axes, len(perm)))
    left = [axis for place, axis in enumerate(perm) if place not in reduced]
    ranks: Dict[int, int] = {axis: place for place, axis in enumerate(sorted(left))}
    return tuple(ranks[axis] for axis in left)


def _renamed_axes(graph: Graph, operator: Operator, perm: Sequence[int],
                  rest: Sequence[str]) -> Operator:
    """Return the operator with its axes counted in the layout of the input."""
    rank = len(perm)
    if operator.op_type in BY_AXIS:
        default = 0 if operator.op_type in ('ArgMax', 'ArgMin') else -1
        axis = positive([operator.integer('axis', default)], rank)[0]
        return operator.with_attributes({'axis': perm[axis]})
    if operator.op_type in REDUCTIONS:
        axes = sorted(perm[a] for a in positive(axes_of(graph, operator) or (), rank))
        if operator.integers('axes') is not None:
            return operator.with_attributes({'axes': axes})
        name = graph.add_constant(operator.name + '_axes', np.asarray(axes, np.int64))
        return replace(operator, inputs=(operator.inputs[0], name))
    if operator.op_type == 'Pad':
        back = inverse(perm)
        given = operator.integers('pads')
        pads = integers(graph.constants[rest[0]]) if given is None else given
        moved = [pads[a] for a in back] + [pads[rank + a] for a in back]
        if given is not None:
            return operator.with_attributes({'pads': moved})
        name = graph.add_constant(operator.name + '_pads', np.asarray(moved, np.int64))
        return replace(operator, inputs=(operator.inputs[0], name, *rest[1:]))
    return operator


PASS = RulePass(NAME, [PushTranspose()])
