# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Work per layer of an ONNX graph: multiply-accumulates and words moved (P III-D1). Offline."""
from __future__ import annotations

import math
from typing import Dict, Mapping, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.types import LayerCost

Shape = Tuple[int, ...]


def _shape(value: onnx.ValueInfoProto) -> Shape:
    kind = value.type.tensor_type
    extents = tuple(d.dim_value for d in kind.shape.dim)
    if not kind.HasField('shape') or any(e <= 0 for e in extents):
        raise ExportError('tensor %s has no fixed shape; export with fixed input extents'
                          % value.name)
    return extents


def shapes_of(model: onnx.ModelProto) -> Dict[str, Shape]:
    """
    Infer the fixed shape of every tensor.

    :param model: with fixed input extents
    :raises ExportError: a shape is not fixed
    """
    graph = inferred(model)
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes.update({t.name: tuple(t.dims) for t in graph.initializer})
    return shapes


def node_macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    """
    Count the multiply-accumulates of one node: convolutions, matrix products, recurrent cells.

    :param shapes: fixed shapes by tensor; where one is lacking the count is 0
    """
    place = 3 if node.op_type.startswith('QLinear') else 1
    named = [name for name in (*node.input[:1], *node.input[place:place + 1],
                               *node.output[:1]) if name in shapes]
    if len(named) < 3:
        return 0
    first, second, output = (shapes[name] for name in named)
    if node.op_type in ('Conv', 'ConvInteger', 'QLinearConv'):
        return math.prod(output) * math.prod(second[1:])
    if node.op_type == 'ConvTranspose':
        return math.prod(first) * math.prod(second[1:])
    if node.op_type == 'Gemm':
        turned = any(a.name == 'transA' and a.i for a in node.attribute)
        return math.prod(output) * first[0 if turned else -1]
    if node.op_type in ('MatMul', 'MatMulInteger', 'QLinearMatMul'):
        return math.prod(output) * first[-1]
    if node.op_type in ('LSTM', 'GRU', 'RNN') and len(node.input) > 2 and node.input[2] in shapes:
        return math.prod(first[:2]) * (math.prod(second) + math.prod(shapes[node.input[2]]))
    return 0


def layer_costs(model: onnx.ModelProto) -> Tuple[LayerCost, ...]:
    """
    Count the work of each node of a graph, in order.

    Multiply-accumulates are counted as `node_macs` says; the rest moves words only.

    :param model: with fixed input extents
    :raises ExportError: a shape is not fixed
    """
    shapes = shapes_of(model)
    initialisers = {t.name for t in model.graph.initializer}
    costs = []
    for node in model.graph.node:
        if node.op_type in ('Constant', 'Identity'):
            continue
        unknown = [n for n in node.output if n and n not in shapes]
        if unknown:
            raise ExportError('the shape of tensor %s, made by a %s, cannot be told beforehand'
                              % (unknown[0], node.op_type))
        weights = [shapes[i] for i in node.input if i in initialisers]
        inputs = [shapes[i] for i in node.input if i and i not in initialisers and i in shapes]
        costs.append(LayerCost(
            node.name or node.output[0], node.op_type, node_macs(node, shapes),
            sum(math.prod(s) for s in inputs), sum(math.prod(s) for s in weights),
            sum(math.prod(shapes[o]) for o in node.output if o)))
    return tuple(costs)
