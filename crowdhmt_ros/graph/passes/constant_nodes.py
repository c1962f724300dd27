# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A Constant node is an initialiser written as an operator: c() = value."""
from __future__ import annotations

from typing import Optional

import numpy as np
from onnx import AttributeProto, numpy_helper

from crowdhmt_ros.graph.model import Array, Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass

NAME = 'constant node'


def value_of(operator: Operator) -> Optional[Array]:
    """Return what a Constant node holds, None for sparse tensors and text."""
    if len(operator.attributes) != 1:
        return None
    attribute: AttributeProto = next(iter(operator.attributes.values()))
    if attribute.name == 'value':
        return numpy_helper.to_array(attribute.t)
    if attribute.name in ('value_float', 'value_floats'):
        value = attribute.f if attribute.name == 'value_float' else list(attribute.floats)
        return np.asarray(value, np.float32)
    if attribute.name in ('value_int', 'value_ints'):
        number = attribute.i if attribute.name == 'value_int' else list(attribute.ints)
        return np.asarray(number, np.int64)
    return None


class ConstantNode(Rule):
    """The value of a Constant node becomes an initialiser of the same name."""

    name = NAME
    op_types = ('Constant',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the node."""
        del graph
        return (operator,)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse sparse tensors and text."""
        del graph
        return None if value_of(match[0]) is not None else 'it holds no dense numeric tensor'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Make the initialiser."""
        value = value_of(match[0])
        assert value is not None
        graph.remove(match[0], 'its value is stored as an initialiser', rule=self.name)
        graph.make_constant(match[0].output, value)


PASS = RulePass(NAME, [ConstantNode()])
