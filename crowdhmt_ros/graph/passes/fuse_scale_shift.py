# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Element-wise fusion: a product and a sum with one constant per channel are one operator.

(x * a) + c and (x + c) * a are a BatchNormalization of mean 0 and variance 1, which walks over the
tensor once. Where a convolution stands beside them they go into its weights instead, see
`passes.affine`.
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Optional

import numpy as np
from onnx import TensorProto

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.affine import data_operand
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import LINEAR, Doubles, affine_of, trains
from crowdhmt_ros.graph.passes.operands import is_kept

NAME = 'scale and shift'
STEPS = ('Mul', 'Div', 'Add', 'Sub', 'BatchNormalization')


class Both(NamedTuple):
    """scale * x + shift of two affine operators in a row."""

    tensor: str
    scale: Doubles
    shift: Doubles


def both_of(graph: Graph, operator: Operator, first: Operator) -> Optional[Both]:
    """Return what two operators do together to the channels along the second axis."""
    tensor = data_operand(graph, first)
    shape = None if tensor is None else graph.type_of(tensor).shape
    if tensor is None or shape is None or len(shape) < 2 or shape[1] is None:
        return None
    if graph.rank(operator.output) != len(shape):
        return None
    one, two = (affine_of(graph, o, rank=len(shape), axis=1, channels=shape[1])
                for o in (first, operator))
    if one is None or two is None:
        return None
    return Both(tensor, two.scale * one.scale, two.scale * one.shift + two.shift)


class ScaleAndShift(Rule):
    """Two affine operators are one BatchNormalization."""

    name = NAME
    op_types = STEPS

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first, of different kinds."""
        tensor = data_operand(graph, operator)
        first = None if tensor is None else graph.producer(tensor)
        if first is None or first.op_type not in STEPS or not first.standard:
            return None
        if data_operand(graph, first) is None or both_of(graph, operator, first) is None:
            return None
        return operator, first

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, training, other types, and what belongs into weights."""
        operator, first = match
        if any(o.op_type == 'BatchNormalization' and trains(o) for o in match):
            return 'it normalises by the batch'
        if graph.sole_reader(first.output) is None:
            return '%s has other readers' % first.name
        both = both_of(graph, operator, first)
        assert both is not None
        if graph.type_of(both.tensor).dtype != TensorProto.FLOAT:
            return 'its numbers are not known to be float32'
        linear = graph.producer(both.tensor)
        if linear is not None and linear.op_type in LINEAR and graph.sole_reader(both.tensor):
            return 'it belongs into the weights of %s' % linear.name
        if not bool(np.any(both.shift)) or bool(np.all(both.scale == 1.0)):
            return 'it only scales, or only shifts: constants in a row'
        return is_kept(graph, *operator.inputs, *first.inputs)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write BatchNormalization."""
        operator, first = match
        both = both_of(graph, operator, first)
        assert both is not None
        values = {'scale': both.scale, 'shift': both.shift,
                  'mean': np.zeros(len(both.scale)), 'variance': np.ones(len(both.scale))}
        names = [graph.add_constant('%s_%s' % (operator.name, n), v.astype(np.float32))
                 for n, v in values.items()]
        graph.remove(first, 'scales or shifts within %s' % operator.name, rule=self.name)
        plain = replace(operator, op_type='BatchNormalization', inputs=(both.tensor, *names),
                        outputs=operator.outputs[:1], attributes={})
        graph.update(plain.with_attributes({'epsilon': 0.0}))


PASS = RulePass(NAME, [ScaleAndShift()])
