# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Layer normalisation that a converter wrote operator by operator.

c = x - mean(x); c / sqrt(mean(c^2) + eps) * g + b = LayerNormalization(x, g, b), over trailing
axes, from opset 17 on.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator, Shape
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import (
    FLOATS,
    axes_of,
    constant_operand,
    is_kept,
    positive,
    scalar,
)

NAME = 'layer normalisation'
SINCE = 17


def _made_by(graph: Graph, tensor: str, *kinds: str) -> Optional[Operator]:
    maker = graph.producer(tensor)
    return maker if maker is not None and maker.op_type in kinds and maker.standard else None


def _is_mean_of(graph: Graph, mean: Optional[Operator], tensor: str) -> bool:
    return mean is not None and mean.input(0) == tensor and mean.integer('keepdims', 1) == 1


def _spread(graph: Graph, operator: Operator) -> Optional[Tuple[Operator, ...]]:
    """Return sqrt, sum, mean and square of what a Div divides by."""
    root = _made_by(graph, operator.input(1), 'Sqrt')
    total = None if root is None else _made_by(graph, root.input(0), 'Add')
    found = None if total is None else constant_operand(graph, total)
    if root is None or total is None or found is None:
        return None
    if scalar(graph, total.inputs[found.place]) is None:
        return None
    mean = _made_by(graph, found.tensor, 'ReduceMean')
    square = None if mean is None else _made_by(graph, mean.input(0), 'Pow', 'Mul')
    return None if mean is None or square is None else (root, total, mean, square)


def _squares(graph: Graph, square: Operator, tensor: str) -> bool:
    if square.op_type == 'Mul':
        return square.inputs == (tensor, tensor)
    return square.input(0) == tensor and scalar(graph, square.input(1)) == 2.0


def normalised(graph: Graph, first: Operator, second: Operator) -> Optional[Shape]:
    """Return the trailing extents over which both means go, None when they are none."""
    shape = graph.type_of(first.input(0)).shape
    one, two = axes_of(graph, first), axes_of(graph, second)
    if shape is None or not one or not two:
        return None
    rank = len(shape)
    axes = sorted(positive(one, rank))
    if axes != sorted(positive(two, rank)) or axes != list(range(axes[0], rank)):
        return None
    extents = tuple(e for e in shape[axes[0]:] if e is not None)
    return extents if len(extents) == len(axes) else None


class FuseNormalisation(Rule):
    """(x - mean) / sqrt(variance + eps) is LayerNormalization with a gain of one."""

    name = NAME
    op_types = ('Div',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return Div, Sub, its mean, Sqrt, Add, the other mean and the square."""
        centred = _made_by(graph, operator.input(0), 'Sub')
        spread = _spread(graph, operator)
        if centred is None or spread is None:
            return None
        mean = _made_by(graph, centred.input(1), 'ReduceMean')
        fits = (_is_mean_of(graph, mean, centred.input(0))
                and _squares(graph, spread[3], centred.output)
                and spread[2].integer('keepdims', 1) == 1)
        return (operator, centred, mean, *spread) if fits and mean is not None else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse older opsets, axes that are not the last ones, and parts read elsewhere."""
        operator, centred, mean = match[:3]
        if graph.opset < SINCE:
            return 'LayerNormalization is there from opset %d on' % SINCE
        if normalised(graph, mean, match[5]) is None:
            return 'the means are not over the same last axes of known extents'
        own = {o.name for o in match}
        for part in match[1:]:
            if part.output in graph.outputs or any(
                    r.name not in own for r in graph.readers(part.output)):
                return '%s has other readers' % part.name
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write LayerNormalization in the place of Div."""
        operator, centred, mean = match[:3]
        extents = normalised(graph, mean, match[5])
        found = constant_operand(graph, match[4])
        assert extents is not None
        assert found is not None
        epsilon = scalar(graph, match[4].inputs[found.place])
        assert epsilon is not None
        gain = graph.add_constant(operator.name + '_gain', np.ones(extents, found.value.dtype))
        graph.update(replace(
            operator, op_type='LayerNormalization', inputs=(centred.input(0), gain),
            attributes={}).with_attributes({'axis': -len(extents), 'epsilon': epsilon}))
        for part in match[1:]:
            graph.remove(part, 'part of LayerNormalization %s' % operator.name, rule=self.name)


class GainAndShift(Rule):
    """LayerNormalization(x, g, b) * c = LayerNormalization(x, g c, b c); + c adds to b."""

    name = NAME
    op_types = ('Mul', 'Add')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operator and the normalisation before it."""
        found = constant_operand(graph, operator)
        maker = None if found is None else _made_by(graph, found.tensor, 'LayerNormalization')
        return None if maker is None or len(maker.outputs) > 1 else (operator, maker)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers and constants of another shape."""
        operator, norm = match
        if graph.sole_reader(norm.output) is None:
            return '%s has other readers' % norm.name
        kept = is_kept(graph, *operator.inputs, *norm.inputs[1:])
        if kept is not None:
            return kept
        if _widened(graph, operator, norm) is None or len(_constants(graph, norm)) != len(
                norm.inputs) - 1:
            return 'its constant does not have the shape of what is normalised'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write gain and shift."""
        operator, norm = match
        value, constants = _widened(graph, operator, norm), _constants(graph, norm)
        assert value is not None
        gain = constants[0].astype(np.float64)
        shift = constants[1].astype(np.float64) if len(constants) > 1 else np.zeros_like(gain)
        if operator.op_type == 'Mul':
            gain, shift = gain * value, shift * value
        else:
            shift = shift + value
        kind = constants[0].dtype
        names = [graph.add_constant(norm.name + '_gain', gain.astype(kind))]
        if np.any(shift != 0.0):
            names.append(graph.add_constant(norm.name + '_shift', shift.astype(kind)))
        graph.remove(operator, 'folded into LayerNormalization %s' % norm.name, rule=self.name)
        graph.update(replace(norm, inputs=(norm.inputs[0], *names), outputs=operator.outputs))


def _constants(graph: Graph, norm: Operator) -> List[np.ndarray]:
    values = [graph.value(i) for i in norm.inputs[1:]]
    return [v for v in values if v is not None]


def _widened(graph: Graph, operator: Operator, norm: Operator) -> Optional[np.ndarray]:
    """Return an operator's constant in the shape of the gain, None where it does not fit."""
    found, gain = constant_operand(graph, operator), graph.value(norm.input(1))
    if found is None or gain is None or found.value.dtype.name not in FLOATS:
        return None
    extra = found.value.ndim - gain.ndim
    if extra > 0 and (any(e != 1 for e in found.value.shape[:extra])
                      or found.value.ndim > (graph.rank(norm.output) or 0)):
        return None
    value = found.value.reshape(found.value.shape[max(0, extra):])
    try:
        return np.broadcast_to(value, gain.shape).astype(np.float64)
    except ValueError:
        return None


PASS = RulePass(NAME, [FuseNormalisation(), GainAndShift()])
