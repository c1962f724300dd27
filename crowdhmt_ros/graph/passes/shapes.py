# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Shape arithmetic over known extents.

Shape(x) with fixed extents is a constant, and so is what Gather or Slice takes from it when the
extents taken are fixed; Size likewise. Reshape and Expand whose result has a known shape need no
computed shape operand: Reshape(x, s) = Reshape(x, c), one extent of c may be -1.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional

import numpy as np
from onnx import TensorProto, helper

from crowdhmt_ros.graph.model import Array, Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import elements, target_of
from crowdhmt_ros.graph.passes.shape_values import entries_of, reshape_target, shape_entries

NAME = 'shape folding'


class KnownShape(Rule):
    """Shape(x) and Size(x) of a fixed shape are constants."""

    name = NAME
    op_types = ('Shape', 'Size')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operator; a computed input matters for its shape only."""
        del graph
        return (operator,)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse extents that are not fixed."""
        known = graph.type_of(match[0].input(0)).shape
        if known is None:
            return 'the rank of its input is not known'
        found = known if match[0].op_type == 'Size' else shape_entries(graph, match[0]) or ()
        fixed = all(isinstance(e, int) for e in found)
        return None if fixed else 'an extent of its input is not fixed'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Store the shape."""
        operator = match[0]
        shape = graph.type_of(operator.input(0)).fixed
        value: Array
        if operator.op_type == 'Size':
            assert shape is not None
            value = np.asarray(elements(shape), np.int64)
        else:
            value = np.asarray(shape_entries(graph, operator), np.int64)
        graph.remove(operator, 'the extents of %s are fixed' % operator.input(0), rule=self.name)
        graph.make_constant(operator.output, value)


def _taken(graph: Graph, operator: Operator) -> Optional[Array]:
    """Return the entries that an operator takes from a shape, None when one is not known."""
    known = entries_of(graph, operator.output)
    shape = graph.shape(operator.output)
    if known is None or any(not isinstance(e, int) for e in known):
        return None
    if operator.op_type in ('Gather', 'Squeeze') and shape is None:
        return None
    kind = graph.type_of(operator.output).dtype
    if kind not in (TensorProto.INT32, TensorProto.INT64):
        return None
    value = np.asarray(known, helper.tensor_dtype_to_np_dtype(kind))
    return value.reshape(value.shape if shape is None else shape)


class PartOfShape(Rule):
    """Gather(Shape(x), i) is a constant when those extents are fixed, whatever the others are."""

    name = NAME
    op_types = ('Gather', 'Slice')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return an operator that takes entries of a computed shape."""
        computed = operator.input(0) not in graph.constants
        return (operator,) if computed and entries_of(graph, operator.input(0)) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse extents that are not fixed."""
        fixed = _taken(graph, match[0]) is not None
        return None if fixed else 'an extent that it takes is not fixed'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Store the extents."""
        value = _taken(graph, match[0])
        assert value is not None
        graph.remove(match[0], 'the extents that it takes from %s are fixed' % match[0].input(0),
                     rule=self.name)
        graph.make_constant(match[0].output, value)


def _target(graph: Graph, operator: Operator) -> Optional[List[int]]:
    target = target_of(graph.type_of(operator.output).shape)
    if target is None and operator.op_type == 'Reshape':
        return reshape_target(graph, operator)
    return target


class KnownTarget(Rule):
    """Reshape(x, computed) = Reshape(x, constant) when the shape of the result is known."""

    name = NAME
    op_types = ('Reshape', 'Expand')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return a view whose shape operand is computed."""
        return None if operator.input(1) in graph.constants else (operator,)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse when more than one extent is unknown, for Expand when one is."""
        known = graph.type_of(match[0].output)
        if match[0].op_type == 'Expand' and known.fixed is None:
            return 'the shape of its result is not fixed'
        fits = _target(graph, match[0]) is not None
        return None if fits else 'more than one extent of its result is not fixed'

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write the shape as a constant; what computed it may then be dead."""
        operator = match[0]
        target = _target(graph, operator)
        name = graph.add_constant(operator.output + '_shape', np.asarray(target, np.int64))
        inputs = (operator.input(0), name)
        graph.update(replace(operator, inputs=inputs).without_attributes(('allowzero',)))


RULES: Dict[str, Rule] = {'shape': KnownShape(), 'part': PartOfShape(), 'target': KnownTarget()}
PASS = RulePass(NAME, list(RULES.values()))
