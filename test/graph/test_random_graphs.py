# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Properties of the transformation that hold for any graph."""
from __future__ import annotations

import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.graph.model import read_graph  # noqa: E402
from crowdhmt_ros.graph.transform import transform  # noqa: E402
from test.graph.random_graphs import random_graph  # noqa: E402


def opened(model):
    """Leave the length of the first input axis, and all lengths of the outputs, open."""
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = 'batch'
    for value in model.graph.output:
        for axis, extent in enumerate(value.type.tensor_type.shape.dim):
            extent.dim_param = '%s_%d' % (value.name, axis)
    return model


@pytest.mark.parametrize('seed', range(40))
def test_a_random_graph_computes_the_same_with_no_more_operators(seed):
    model = random_graph(seed)
    done = transform(model)
    assert done.report.max_abs_diff <= 1e-5
    assert done.report.nodes_after <= done.report.nodes_before
    left = {o.name for o in read_graph(done.model).operators}
    told = {r.node for r in done.report.removed if r.reason}
    assert {n.name for n in model.graph.node} <= left | told


@pytest.mark.parametrize('seed', range(100, 120))
def test_a_random_graph_with_an_open_batch_computes_the_same(seed):
    model = random_graph(seed)
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2:
        assert transform(opened(model)).report.max_abs_diff <= 1e-5
    else:
        assert transform(model).report.max_abs_diff <= 1e-5


@pytest.mark.parametrize('seed', range(200, 220))
def test_constants_to_keep_keep_their_values_in_any_graph(seed):
    model = random_graph(seed)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    keep = set(list(values)[::3])
    done = transform(model, keep=keep)
    assert done.report.max_abs_diff <= 1e-5
    for tensor in done.model.graph.initializer:
        if tensor.name in keep:
            assert onnx.numpy_helper.to_array(tensor).tobytes() == values[tensor.name].tobytes()
