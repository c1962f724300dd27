# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic or constant (P III-B2, second stage): what does not depend on an input is computed here.

An operator is constant when all its operands are, when it draws no random numbers and runs no
subgraph. Its size is known before it is computed: one that would blow the model up stays in the
graph, and one that no device could hold is an error.
"""
from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.model import Array, Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Pass, PassResult, Refusal
from crowdhmt_ros.graph.passes.operands import elements

RANDOM = ('RandomNormal', 'RandomNormalLike', 'RandomUniform', 'RandomUniformLike', 'Bernoulli',
          'Multinomial', 'Dropout')
BOUNDED = ('NonZero', 'Unique', 'Compress')  # outputs no larger than rank times the input
GROWTH_BYTES = 1 << 20  # a folded result may be this much larger than its operands
LARGEST_BYTES = 1 << 30  # a constant that no robot could hold


def classify(graph: Graph) -> Mapping[str, bool]:
    """Return for each operator whether it is constant (else dynamic)."""
    constant = set(graph.constants)
    found: Dict[str, bool] = {}
    for operator in graph.operators:
        found[operator.name] = (
            operator.standard and operator.op_type not in RANDOM and not operator.captured
            and bool(operator.inputs) and all(not i or i in constant for i in operator.inputs)
            and not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                        for a in operator.attributes.values()))
        if found[operator.name]:
            constant.update(operator.outputs)
    return found


def _bytes(graph: Graph, tensor: str) -> Optional[int]:
    known = graph.type_of(tensor)
    if known.dtype == 0 or known.fixed is None:
        return None
    try:
        width = helper.tensor_dtype_to_np_dtype(known.dtype).itemsize
    except KeyError:
        return None
    return elements(known.fixed) * int(width)


def why_not(graph: Graph, operator: Operator) -> Optional[str]:
    """
    Return why a constant operator is not computed, None if it is.

    :raises ExportError: its result is larger than any device can hold
    """
    for tensor in operator.inputs:
        if tensor in graph.keep:
            return 'the constant %s must stay as it is' % tensor
    given = sum(graph.constants[i].nbytes for i in operator.inputs if i)
    sizes = [_bytes(graph, o) for o in operator.outputs if o]
    if None in sizes:
        return None if operator.op_type in BOUNDED else 'the size of its result is not known'
    size = sum(s for s in sizes if s is not None)
    if size > LARGEST_BYTES:
        raise ExportError('%s %s makes a constant of %.0f MiB, more than the %d MiB that a robot '
                          'may hold; export the model with a smaller shape'
                          % (operator.op_type, operator.name, size / 2**20,
                             LARGEST_BYTES >> 20))
    if size > given + GROWTH_BYTES:
        return 'its result of %d bytes would make the model larger' % size
    return None


def compute(graph: Graph, operators: List[Operator]) -> Dict[str, Array]:
    """
    Compute operators whose operands are all constants.

    :returns: output -> value
    :raises ExportError: ONNX Runtime refuses
    """
    from crowdhmt_ros.graph.compare import run_model
    model = onnx.ModelProto(ir_version=graph.header.ir_version,
                            opset_import=graph.header.opset_import)
    model.graph.name = 'constants'
    for operator in operators:
        model.graph.node.append(onnx.NodeProto(
            op_type=operator.op_type, name=operator.name, input=operator.inputs,
            output=operator.outputs, attribute=operator.attributes.values()))
        model.graph.output.extend(onnx.ValueInfoProto(name=o) for o in operator.outputs if o)
    for name in sorted({i for o in operators for i in o.inputs if i}):
        model.graph.initializer.append(numpy_helper.from_array(graph.constants[name], name))
    return {n: np.asarray(v) for n, v in run_model(model, {}, optimise=False).items()}


class FoldConstants(Pass):
    """Computes the constant operators, in the order in which their operands become known."""

    def call(self, graph: Graph) -> PassResult:
        """Fold the operators all of whose operands are known, until none is left."""
        work = graph.copy()
        refused: Dict[str, Refusal] = {}
        while True:
            work.refresh()
            ready = self._ready(work, refused)
            if not ready:
                break
            self._fold(work, ready, refused)
        changed = bool(work.removals)
        return PassResult(work if changed else graph, changed, tuple(work.removals),
                          refused=tuple(refused.values()))

    def _ready(self, work: Graph, refused: Dict[str, Refusal]) -> List[Operator]:
        constant, ready = classify(work), []
        for operator in work.operators:
            if (not constant[operator.name] or operator.name in refused
                    or any(i and i not in work.constants for i in operator.inputs)):
                continue
            reason = why_not(work, operator)
            if reason is None:
                ready.append(operator)
            else:
                self._refuse(operator, reason, refused)
        return ready

    def _refuse(self, operator: Operator, reason: str, refused: Dict[str, Refusal]) -> None:
        refused[operator.name] = Refusal(operator.name, operator.op_type, self.name, reason)

    def _fold(self, work: Graph, ready: List[Operator], refused: Dict[str, Refusal]) -> None:
        try:
            values = compute(work, ready)
        except ExportError as error:
            if len(ready) == 1:
                self._refuse(ready[0], 'it cannot be computed here: %s' % error, refused)
                return
            for operator in ready:
                self._fold(work, [operator], refused)
            return
        for operator in ready:
            work.remove(operator, 'its operands are constant: its result is stored',
                        rule=self.name)
            for tensor in operator.outputs:
                if tensor:
                    work.make_constant(tensor, values[tensor])


def counts(graph: Graph) -> Tuple[int, int]:
    """Return how many operators are constant and how many dynamic."""
    found = list(classify(graph).values())
    return sum(found), len(found) - sum(found)


PASS = FoldConstants('constant folding')
