# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Operators that give what they take: f(x) = x.

Identity, Dropout in inference, Cast to the same type, Transpose that moves nothing, views to the
same shape, Pad by nothing, Concat of one, Slice of everything, x * 1, x / 1, x + 0, x - 0, x ** 1,
reductions and pools over single elements.
"""
from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import (
    axes_of,
    constant_operand,
    integers,
    permutation,
    same_extents,
)
from crowdhmt_ros.graph.passes.views import is_view

NAME = 'identity'
NEUTRAL = {'Mul': 1, 'Div': 1, 'Add': 0, 'Sub': 0, 'Pow': 1}
RIGHT_ONLY = ('Div', 'Sub', 'Pow')


def _always(graph: Graph, operator: Operator) -> Optional[str]:
    del graph, operator
    return 'it copies its input'


def _dropout(graph: Graph, operator: Operator) -> Optional[str]:
    if any(graph.uses(o) for o in operator.outputs[1:] if o):
        return None
    training = graph.value(operator.input(2))
    if operator.input(2) and (training is None or bool(training.any())):
        return None
    return 'outside training Dropout passes its input on'


def _cast(graph: Graph, operator: Operator) -> Optional[str]:
    same = graph.type_of(operator.input(0)).dtype == operator.integer('to', 0)
    return 'its input is of that type already' if same else None


def _transpose(graph: Graph, operator: Operator) -> Optional[str]:
    perm = permutation(graph, operator)
    if perm is not None and perm == tuple(range(len(perm))):
        return 'its permutation moves no axis'
    single = is_view(graph, operator) and _view(graph, operator) is not None
    return 'its permutation moves axes of one element only' if single else None


def _view(graph: Graph, operator: Operator) -> Optional[str]:
    same = same_extents(graph.type_of(operator.input(0)).shape,
                        graph.type_of(operator.output).shape)
    return 'its input has that shape already' if same else None


def _fixed_same(graph: Graph, operator: Operator) -> bool:
    shape = graph.shape(operator.input(0))
    return shape is not None and shape == graph.shape(operator.output)


def _grow(graph: Graph, operator: Operator) -> Optional[str]:
    return 'its input has that shape already' if _fixed_same(graph, operator) else None


def _reduce(graph: Graph, operator: Operator) -> Optional[str]:
    if operator.op_type == 'ReduceSum' and axes_of(graph, operator) is None:
        return None
    return 'each group has a single element' if _fixed_same(graph, operator) else None


def _pool(graph: Graph, operator: Operator) -> Optional[str]:
    window = operator.integers('kernel_shape')
    if len(operator.outputs) > 1 or window is None or any(k != 1 for k in window):
        return None
    if any(operator.integers('pads') or ()) or any(s != 1 for s in
                                                   operator.integers('strides') or ()):
        return None
    return 'its window holds a single element'


def _pad(graph: Graph, operator: Operator) -> Optional[str]:
    value = graph.value(operator.input(1))
    pads = operator.integers('pads') if value is None else integers(value)
    return 'it pads by nothing' if pads is not None and not any(pads) else None


def _single(graph: Graph, operator: Operator) -> Optional[str]:
    del graph
    return 'it has a single operand' if len(operator.inputs) == 1 else None


def _split(graph: Graph, operator: Operator) -> Optional[str]:
    single = len(operator.outputs) == 1 and _fixed_same(graph, operator)
    return 'it splits into one part' if single else None


def _slice(graph: Graph, operator: Operator) -> Optional[str]:
    if operator.input(4):
        steps = graph.value(operator.input(4))
        if steps is None or min(integers(steps), default=1) < 1:
            return None
    return 'it takes everything' if _fixed_same(graph, operator) else None


def _resize(graph: Graph, operator: Operator) -> Optional[str]:
    if operator.text('coordinate_transformation_mode', '') == 'tf_crop_and_resize':
        return None
    return 'its input has that size already' if _fixed_same(graph, operator) else None


def _neutral(graph: Graph, operator: Operator) -> Optional[str]:
    found = constant_operand(graph, operator)
    if found is None or (operator.op_type in RIGHT_ONLY and found.place == 0):
        return None
    if found.value.size == 0 or not bool(np.all(found.value == NEUTRAL[operator.op_type])):
        return None
    rank = graph.rank(found.tensor)
    shape = graph.shape(found.tensor)
    small = found.value.size == 1 and rank is not None and found.value.ndim <= rank
    if not small and (shape is None or shape != graph.shape(operator.output)):
        return None
    return 'its constant operand %s is neutral' % operator.inputs[found.place]


TESTS: Dict[str, Callable[[Graph, Operator], Optional[str]]] = {
    'Identity': _always, 'Dropout': _dropout, 'Cast': _cast, 'Transpose': _transpose,
    'Reshape': _view, 'Flatten': _view, 'Squeeze': _view, 'Unsqueeze': _view,
    'Expand': _grow, 'Tile': _grow, 'Pad': _pad, 'Concat': _single, 'Sum': _single,
    'Max': _single, 'Min': _single, 'Mean': _single, 'Slice': _slice, 'Split': _split,
    'AveragePool': _pool, 'MaxPool': _pool, 'Resize': _resize, 'Upsample': _resize,
    'GlobalAveragePool': _reduce, 'GlobalMaxPool': _reduce, 'ReduceMean': _reduce,
    'ReduceSum': _reduce, 'ReduceMax': _reduce, 'ReduceMin': _reduce,
    **{op_type: _neutral for op_type in NEUTRAL}}


def source_of(graph: Graph, operator: Operator) -> str:
    """Return the input that the operator passes on."""
    if operator.op_type in NEUTRAL:
        found = constant_operand(graph, operator)
        if found is not None:
            return found.tensor
    return operator.input(0)


class RemoveIdentity(Rule):
    """f(x) = x: the readers of f read x."""

    name = NAME
    op_types = tuple(TESTS)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operator if it changes nothing."""
        return (operator,) if TESTS[operator.op_type](graph, operator) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse where both tensors are known by name outside."""
        return graph.why_not_bypass(match[0].output, source_of(graph, match[0]))

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Let the readers read the input."""
        operator = match[0]
        reason = TESTS[operator.op_type](graph, operator)
        assert reason is not None
        graph.bypass(operator, source_of(graph, operator), reason, rule=self.name)


PASS = RulePass(NAME, [RemoveIdentity()])
