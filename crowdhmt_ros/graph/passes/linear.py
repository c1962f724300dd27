# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Operators that are linear in their data operand, with constant weights: y = W x + b.

Conv, ConvTranspose, Gemm and MatMul, seen as weights with one axis per output channel and one per
input channel. Arithmetic on them is done in double precision and rounded once.
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Array, Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.operands import FLOATS, along_axis, is_kept

Doubles = NDArray[np.float64]
LINEAR = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


class Affine(NamedTuple):
    """y = scale * x + shift, per channel."""

    tensor: str
    scale: Doubles
    shift: Doubles


def output_channels(graph: Graph, operator: Operator) -> Optional[int]:
    """Return the number of output channels, None without constant weights."""
    weights = graph.value(operator.input(1))
    if weights is None or weights.dtype.name not in FLOATS or weights.ndim < 2:
        return None
    if operator.op_type == 'Conv':
        return int(weights.shape[0])
    if operator.op_type == 'ConvTranspose':
        return int(weights.shape[1]) * operator.integer('group', 1)
    if weights.ndim != 2 or operator.integer('transA', 0):
        return None
    return int(weights.shape[0 if operator.integer('transB', 0) else 1])


def channel_axis(graph: Graph, operator: Operator) -> Optional[int]:
    """Return the axis of the result along which the output channels run."""
    if operator.op_type == 'MatMul':
        rank = graph.rank(operator.input(0))
        return rank - 1 if rank is not None and rank >= 2 else None
    return 1


def result_rank(graph: Graph, operator: Operator) -> Optional[int]:
    """Return the number of axes of the result."""
    if operator.op_type == 'MatMul':
        return graph.rank(operator.input(0))
    weights = graph.value(operator.input(1))
    return None if weights is None else weights.ndim


def why_not_linear(graph: Graph, operator: Operator) -> Optional[str]:
    """Return why the weights of a linear operator may not change, None when they may."""
    channels = output_channels(graph, operator)
    if channels is None or channel_axis(graph, operator) is None:
        return 'the weights of %s are not constant' % operator.name
    kept = is_kept(graph, *operator.inputs[1:])
    if kept is not None:
        return kept
    if operator.input(2) and bias_of(graph, operator) is None:
        return 'the bias of %s is not constant per channel' % operator.name
    return None


def bias_of(graph: Graph, operator: Operator) -> Optional[Doubles]:
    """Return the constant bias per output channel, None when it is none."""
    channels = output_channels(graph, operator)
    if channels is None:
        return None
    if not operator.input(2):
        return np.zeros(channels)
    value = graph.value(operator.input(2))
    if value is None:
        return None
    if operator.op_type == 'Gemm':
        bias = along_axis(value, 2, 1, channels)
        return None if bias is None else bias * operator.number('beta', 1.0)
    return value.astype(np.float64)


def shaped_for_outputs(operator: Operator, weights: Array, factor: Doubles) -> Doubles:
    """Return a factor per output channel in the shape in which it multiplies the weights."""
    if operator.op_type == 'Conv':
        return factor.reshape((-1,) + (1,) * (weights.ndim - 1))
    if operator.op_type == 'ConvTranspose':
        group = operator.integer('group', 1)
        rows = np.repeat(factor.reshape(group, -1), weights.shape[0] // group, axis=0)
        return rows.reshape(rows.shape + (1,) * (weights.ndim - 2))
    return factor.reshape((-1, 1) if operator.integer('transB', 0) else (1, -1))


def with_affine(graph: Graph, operator: Operator, affine: Affine) -> Operator:
    """
    Return a linear operator that computes scale * y + shift, under the same names.

    MatMul gets a bias by becoming Gemm, which needs two axes.
    """
    weights = graph.constants[operator.inputs[1]]
    bias = bias_of(graph, operator)
    assert bias is not None
    scaled = weights.astype(np.float64) * shaped_for_outputs(operator, weights, affine.scale)
    moved = affine.scale * bias + affine.shift
    inputs = [operator.inputs[0], operator.inputs[1]]
    if not bool(np.all(affine.scale == 1.0)):
        inputs[1] = graph.add_constant(operator.inputs[1] + '_folded',
                                       scaled.astype(weights.dtype))
    if operator.input(2) or bool(np.any(moved != 0.0)):
        inputs.append(graph.add_constant(operator.name + '_bias', moved.astype(weights.dtype)))
    result = replace(operator, inputs=tuple(inputs)).without_attributes(('beta',))
    if operator.op_type == 'MatMul' and len(inputs) == 3:
        return replace(result, op_type='Gemm')
    return result


def affine_of(graph: Graph, operator: Operator, *, rank: int, axis: int, channels: int
              ) -> Optional[Affine]:
    """
    Return what an operator does per channel, None when it is not affine with constants.

    :param rank: axes of its data operand
    :param axis: the axis along which the channels run
    """
    if operator.op_type == 'BatchNormalization':
        return _normalisation(graph, operator) if axis == 1 else None
    values = [graph.value(i) for i in operator.inputs]
    if len(values) != 2 or (values[0] is None) == (values[1] is None):
        return None
    index = 1 if values[0] is None else 0
    value = values[index]
    assert value is not None
    number = along_axis(value, rank, axis, channels)
    if number is None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    tensor = operator.inputs[1 - index]
    if operator.op_type == 'Mul':
        return Affine(tensor, number, zero)
    if operator.op_type == 'Div':
        usable = index == 1 and bool(np.all(number != 0.0))
        return Affine(tensor, 1.0 / number, zero) if usable else None
    if operator.op_type == 'Add':
        return Affine(tensor, one, number)
    return Affine(tensor, one, -number) if index == 1 else Affine(tensor, -one, number)


def _normalisation(graph: Graph, operator: Operator) -> Optional[Affine]:
    values = [graph.value(i) for i in operator.inputs[1:5]]
    if len(values) != 4 or any(v is None for v in values):
        return None
    gain, offset, mean, variance = (v.astype(np.float64) for v in values if v is not None)
    spread = variance + operator.number('epsilon', 1e-5)
    if bool(np.any(spread <= 0.0)):
        return None
    scale = gain / np.sqrt(spread)
    return Affine(operator.input(0), scale, offset - scale * mean)


def trains(operator: Operator) -> bool:
    """Whether a BatchNormalization normalises by the batch."""
    return bool(operator.integer('training_mode', 0)) or any(operator.outputs[1:])
