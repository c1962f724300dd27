# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Types and shapes of a model's tensors, inferred without moving its weights about. Offline."""
from __future__ import annotations

import math

import onnx

from crowdhmt_ros.errors import ExportError

SHOWN_ELEMENTS = 4096
"""Initialisers up to this size are shown to the inference by value: they may be shapes."""


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """
    Return a model whose large initialisers are inputs of their type and shape.

    :param model: it is not changed
    """
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import,
                           functions=model.functions)
    graph = bare.graph
    graph.name = model.graph.name or 'graph'
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    known = {v.name for v in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SHOWN_ELEMENTS:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(
                tensor.name, tensor.data_type, tensor.dims))
    return bare


def inferred(model: onnx.ModelProto, *, strict: bool = True) -> onnx.GraphProto:
    """
    Infer the type of every tensor: it stands in the result's `value_info`, `input` or `output`.

    :param model: it is not changed
    :param strict: refuse operators whose inputs do not fit
    :returns: of the skeleton, so large initialisers are among its inputs
    :raises ExportError: shapes do not fit together
    """
    try:
        return onnx.shape_inference.infer_shapes(
            skeleton(model), strict_mode=strict, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ExportError('the shapes of the graph do not fit together (%s)'
                          % (lines[0] if lines else type(error).__name__)[:160]) from error
