# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is affine per channel disappears in the weights beside it.

After: a (W x + b) + c = (a W) x + (a b + c), for BatchNormalization with running statistics
(a = gain / sqrt(var + eps), c = offset - a mean), Mul, Div, Add and Sub with constants.
Before: W (a x + c) + b = (W a) x + (W c + b); where W pads with zeros, c must be zero.
Through views and additions of constants a single factor moves up to the weights.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.engine_patterns import ends_gelu
from crowdhmt_ros.graph.passes.linear import (
    LINEAR,
    Affine,
    affine_of,
    channel_axis,
    output_channels,
    result_rank,
    trains,
    why_not_linear,
    with_affine,
)
from crowdhmt_ros.graph.passes.operands import constant_operand, is_kept, scalar
from crowdhmt_ros.graph.passes.views import VIEWS

NAME = 'affine into weights'
AFFINE = ('BatchNormalization', 'Mul', 'Div', 'Add', 'Sub')
SUMS = ('Add', 'Sub')


def data_operand(graph: Graph, operator: Operator) -> Optional[str]:
    """Return the operand of an affine operator that is not constant."""
    if operator.op_type == 'BatchNormalization':
        return operator.input(0)
    found = constant_operand(graph, operator)
    return None if found is None else found.tensor


def after_linear(graph: Graph, linear: Operator, operator: Operator) -> Optional[Affine]:
    """Return what an operator does to the channels of a linear one's result."""
    channels, axis = output_channels(graph, linear), channel_axis(graph, linear)
    rank = result_rank(graph, linear)
    if channels is None or axis is None or rank is None:
        return None
    return affine_of(graph, operator, rank=rank, axis=axis, channels=channels)


class AffineAfter(Rule):
    """a (W x + b) + c is linear."""

    name = NAME
    op_types = AFFINE

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the affine operator and the linear one before it."""
        tensor = data_operand(graph, operator)
        maker = None if tensor is None else graph.producer(tensor)
        if maker is None or maker.op_type not in LINEAR or not maker.standard:
            return None
        return operator, maker

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, training, weights that vary or must stay."""
        operator, linear = match
        if operator.op_type == 'BatchNormalization' and trains(operator):
            return 'it normalises by the batch'
        if graph.sole_reader(linear.output) is None:
            return 'the result of %s has other readers' % linear.name
        reason = why_not_linear(graph, linear) or is_kept(graph, *operator.inputs)
        if reason is not None:
            return reason
        affine = after_linear(graph, linear, operator)
        if affine is None:
            return 'its constants are not one per channel'
        if linear.op_type == 'MatMul' and np.any(affine.shift) and result_rank(
                graph, linear) != 2:
            return 'MatMul has no bias and more than two axes'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write the weights and the bias."""
        operator, linear = match
        affine = after_linear(graph, linear, operator)
        assert affine is not None
        graph.remove(operator, 'folded into the weights of %s' % linear.name, rule=self.name)
        graph.update(replace(with_affine(graph, linear, affine), outputs=operator.outputs[:1]))


class AffineBefore(Rule):
    """W (a x + c) + b is linear in x."""

    name = NAME
    op_types = ('Conv', 'Gemm', 'MatMul')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the linear operator and the affine one before it."""
        maker = graph.producer(operator.input(0))
        if maker is None or maker.op_type not in AFFINE or not maker.standard:
            return None
        return (operator, maker) if data_operand(graph, maker) is not None else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, borders, weights that vary or must stay."""
        linear, operator = match
        if operator.op_type == 'BatchNormalization' and trains(operator):
            return '%s normalises by the batch' % operator.name
        if graph.sole_reader(operator.output) is None:
            return 'the result of %s has other readers' % operator.name
        if ends_gelu(graph, operator):
            return '%s ends a GELU, which engines compute at once' % operator.name
        reason = why_not_linear(graph, linear) or is_kept(graph, *operator.inputs)
        if reason is not None:
            return reason
        affine = _before(graph, linear, operator)
        if affine is None:
            return 'the constants of %s are not one per channel' % operator.name
        if np.any(affine.shift):
            if linear.op_type == 'Conv' and _pads(linear):
                return 'the shift of %s would reach the zeros that it pads with' % operator.name
            if linear.op_type == 'MatMul' and result_rank(graph, linear) != 2:
                return 'MatMul has no bias and more than two axes'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write the weights and the bias."""
        linear, operator = match
        affine = _before(graph, linear, operator)
        assert affine is not None
        weights = graph.constants[linear.inputs[1]].astype(np.float64)
        kind = graph.constants[linear.inputs[1]].dtype
        factor, shift = _input_factors(linear, weights.shape, affine)
        over = tuple(range(1, weights.ndim)) if linear.op_type == 'Conv' else (
            1 if linear.integer('transB', 0) else 0)
        added = np.sum(weights * shift, axis=over) * linear.number('alpha', 1.0)
        channels = output_channels(graph, linear) or 0
        name = graph.add_constant(linear.inputs[1] + '_folded', (weights * factor).astype(kind))
        graph.remove(operator, 'folded into the weights of %s' % linear.name, rule=self.name)
        moved = with_affine(graph, linear, Affine(affine.tensor, np.ones(channels), added))
        graph.update(replace(moved, inputs=(affine.tensor, name, *moved.inputs[2:])))


def _before(graph: Graph, linear: Operator, operator: Operator) -> Optional[Affine]:
    rank = result_rank(graph, linear)
    weights = graph.value(linear.input(1))
    axis = channel_axis(graph, linear)
    tensor = data_operand(graph, operator)
    if rank is None or weights is None or axis is None or tensor is None:
        return None
    if graph.rank(tensor) != rank:
        return None
    if linear.op_type == 'Conv':
        channels = int(weights.shape[1]) * linear.integer('group', 1)
    else:
        channels = int(weights.shape[1 if linear.integer('transB', 0) else 0])
    known = graph.type_of(tensor).shape
    if known is None or known[axis] != channels:
        return None
    return affine_of(graph, operator, rank=rank, axis=axis, channels=channels)


def _pads(linear: Operator) -> bool:
    return (any(linear.integers('pads') or ())
            or linear.text('auto_pad', 'NOTSET') not in ('NOTSET', 'VALID'))


def _input_factors(linear: Operator, shape: Tuple[int, ...], affine: Affine
                   ) -> Tuple[np.ndarray, np.ndarray]:
    """Return scale and shift in the shape in which they multiply the weights."""
    found = []
    for values in (affine.scale, affine.shift):
        if linear.op_type == 'Conv':
            group = linear.integer('group', 1)
            rows = np.repeat(values.reshape(group, -1), shape[0] // group, axis=0)
            found.append(rows.reshape(rows.shape + (1,) * (len(shape) - 2)))
        else:
            found.append(values.reshape((1, -1) if linear.integer('transB', 0) else (-1, 1)))
    return found[0], found[1]


def path_to_weights(graph: Graph, operator: Operator) -> Optional[List[Operator]]:
    """Return the views, transpositions and sums from an operator up to a linear one."""
    tensor, path = data_operand(graph, operator), []
    while tensor is not None and graph.sole_reader(tensor) is not None:
        maker = graph.producer(tensor)
        if maker is None or not maker.standard:
            return None
        path.append(maker)
        if maker.op_type in LINEAR:
            return path
        if maker.op_type in (*VIEWS, 'Transpose'):
            tensor = maker.input(0)
        elif maker.op_type in SUMS:
            tensor = data_operand(graph, maker)
        else:
            return None
    return None


class ScaleThrough(Rule):
    """a T(W x + b) = T((a W) x + a b) for a single factor a and a view or transposition T."""

    name = NAME
    op_types = ('Mul', 'Div')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the factor and the way up to the weights, one step at least between them."""
        path = path_to_weights(graph, operator)
        found = constant_operand(graph, operator)
        if path is None or len(path) < 2 or found is None:
            return None
        factor = scalar(graph, operator.inputs[found.place])
        if factor is None or (operator.op_type == 'Div' and (found.place == 0 or factor == 0.0)):
            return None
        return (operator, *path)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse weights that vary or must stay, and a factor that adds axes."""
        operator, linear = match[0], match[-1]
        tensor = data_operand(graph, operator)
        if tensor is None or graph.rank(tensor) != graph.rank(operator.output):
            return 'its constant adds axes'
        kept = is_kept(graph, *(i for o in match[:-1] for i in o.inputs))
        return why_not_linear(graph, linear) or kept or graph.why_not_bypass(
            operator.output, tensor)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Scale the weights, the bias and the constants on the way."""
        operator, linear = match[0], match[-1]
        found = constant_operand(graph, operator)
        assert found is not None
        number = scalar(graph, operator.inputs[found.place])
        assert number is not None
        factor = 1.0 / number if operator.op_type == 'Div' else number
        for step in match[1:-1]:
            if step.op_type in SUMS:
                _scale_constant(graph, step, factor)
        channels = output_channels(graph, linear) or 0
        affine = Affine('', np.full(channels, factor), np.zeros(channels))
        graph.update(with_affine(graph, linear, affine))
        graph.bypass(operator, found.tensor, 'its factor is folded into the weights of %s'
                     % linear.name, rule=self.name)


def _scale_constant(graph: Graph, operator: Operator, factor: float) -> None:
    found = constant_operand(graph, operator)
    assert found is not None
    value = (found.value.astype(np.float64) * factor).astype(found.value.dtype)
    name = graph.add_constant(operator.inputs[found.place] + '_folded', value)
    inputs = tuple(name if i == found.place else t for i, t in enumerate(operator.inputs))
    graph.update(replace(operator, inputs=inputs))


class ScaleSum(Rule):
    """(W x + b) a = (a W) x + a b where W x and b are two operators: MatMul and Add."""

    name = NAME
    op_types = ('Mul', 'Div')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the factor, the sum and the MatMul."""
        tensor = data_operand(graph, operator)
        total = None if tensor is None else graph.producer(tensor)
        if total is None or total.op_type != 'Add' or graph.sole_reader(total.output) is None:
            return None
        below = data_operand(graph, total)
        linear = None if below is None else graph.producer(below)
        if linear is None or linear.op_type != 'MatMul':
            return None
        return operator, total, linear

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse weights that vary or must stay, and constants that are not per channel."""
        operator, total, linear = match
        if graph.sole_reader(linear.output) is None:
            return 'the result of %s has other readers' % linear.name
        reason = why_not_linear(graph, linear) or is_kept(graph, *operator.inputs, *total.inputs)
        if reason is not None:
            return reason
        if None in (after_linear(graph, linear, operator), after_linear(graph, linear, total)):
            return 'its constants are not one per channel'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Scale the weights and the constant of the sum."""
        operator, total, linear = match
        scaling, sum_ = (after_linear(graph, linear, o) for o in (operator, total))
        assert scaling is not None
        assert sum_ is not None
        kind = graph.constants[linear.inputs[1]].dtype
        graph.update(with_affine(graph, linear, scaling))
        shift = (sum_.shift * scaling.scale).astype(kind)
        name = graph.add_constant(total.name + '_folded', shift)
        graph.remove(operator, 'folded into the weights of %s' % linear.name, rule=self.name)
        graph.update(replace(total, inputs=(linear.output, name), outputs=operator.outputs))


PASS = RulePass(NAME, [AffineAfter(), ScaleSum(), ScaleThrough(), AffineBefore()])
