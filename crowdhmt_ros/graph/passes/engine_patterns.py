# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Groups of operators that engines know and compute at once: fusion leaves them whole. Offline.

GELU, 0.5 x (1 + erf(x / sqrt 2)), has no operator before opset 20; ONNX Runtime and OpenVINO find
its five operators and replace them. With the 0.5 in the weights behind they would not.
"""
from __future__ import annotations

from typing import Optional

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.operands import constant_operand, scalar


def _made_by(graph: Graph, tensor: str, kind: str) -> Optional[Operator]:
    maker = graph.producer(tensor)
    return maker if maker is not None and maker.op_type == kind and maker.standard else None


def ends_gelu(graph: Graph, operator: Operator) -> bool:
    """Whether an operator is the factor 0.5 at the end of a GELU."""
    found = constant_operand(graph, operator)
    if operator.op_type != 'Mul' or found is None or scalar(
            graph, operator.inputs[found.place]) != 0.5:
        return False
    product = _made_by(graph, found.tensor, 'Mul')
    for tensor in () if product is None else product.inputs:
        total = _made_by(graph, tensor, 'Add')
        if total is not None and any(_made_by(graph, t, 'Erf') for t in total.inputs):
            return True
    return False
