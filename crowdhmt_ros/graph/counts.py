# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Work per layer of an ONNX graph: multiply-accumulates and words moved (P III-D1). Offline."""
from __future__ import annotations

import math
from typing import Dict, Mapping, Sequence, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import LayerCost

Shape = Tuple[int, ...]


def _shape(value: onnx.ValueInfoProto) -> Shape:
    extents = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    if any(e <= 0 for e in extents):
        raise ExportError('tensor %s has no fixed shape; export with fixed input extents'
                          % value.name)
    return extents


def shapes_of(model: onnx.ModelProto) -> Dict[str, Shape]:
    """
    Infer the fixed shape of every tensor.

    :param model: with fixed input extents
    :raises ExportError: a shape is not fixed
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes.update({t.name: tuple(t.dims) for t in graph.initializer})
    return shapes


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape], weights: Sequence[Shape]) -> int:
    output = math.prod(shapes[node.output[0]])
    if node.op_type == 'Conv':
        return output * math.prod(weights[0][1:])
    if node.op_type in ('Gemm', 'MatMul'):
        depth = shapes[node.input[0]][-1]
        return output * depth
    return 0


def layer_costs(model: onnx.ModelProto) -> Tuple[LayerCost, ...]:
    """
    Count the work of each node of a graph, in order.

    Multiply-accumulates are counted for convolutions and matrix products; the rest moves words
    only.

    :param model: with fixed input extents
    :raises ExportError: a shape is not fixed
    """
    shapes = shapes_of(model)
    initialisers = {t.name for t in model.graph.initializer}
    costs = []
    for node in model.graph.node:
        if node.op_type in ('Constant', 'Identity'):
            continue
        weights = [shapes[i] for i in node.input if i in initialisers]
        inputs = [shapes[i] for i in node.input if i and i not in initialisers and i in shapes]
        costs.append(LayerCost(
            node.name or node.output[0], node.op_type, _macs(node, shapes, weights),
            sum(math.prod(s) for s in inputs), sum(math.prod(s) for s in weights),
            sum(math.prod(shapes[o]) for o in node.output if o)))
    return tuple(costs)
