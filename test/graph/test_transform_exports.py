# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks exported by PyTorch in every mode, transformed."""
from __future__ import annotations

import functools

import pytest

onnx = pytest.importorskip('onnx', reason='exporting networks needs the extra train')
torch = pytest.importorskip('torch', reason='exporting networks needs the extra train')
pytest.importorskip('onnxruntime')
onnxslim = pytest.importorskip('onnxslim', reason='the yardstick is not installed')

from benchmarks._elastic_transform import unexplained  # noqa: E402
from benchmarks._elastic_transform_torch import (  # noqa: E402
    MODES,
    Detector,
    PackedAttention,
    Shuffle,
    export,
    settle,
)
from crowdhmt_ros.graph.transform import transform  # noqa: E402

NETWORKS = {'detector': (Detector, (1, 3, 64, 64)), 'attention': (PackedAttention, (1, 3, 32, 32)),
            'shuffle': (Shuffle, (2, 3, 32, 32))}


@functools.cache
def written(name, mode, dynamic):
    torch.manual_seed(3)
    build, shape = NETWORKS[name]
    example = torch.zeros(shape)
    model = export(settle(build(), example), example, mode, dynamic=dynamic)
    return model.SerializeToString()


def exported(name, mode, dynamic=False):
    return onnx.load_model_from_string(written(name, mode, dynamic))


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', NETWORKS)
def test_no_more_operators_than_the_yardstick_leaves(name, mode):
    model = exported(name, mode)
    done = transform(model)
    assert done.report.nodes_after <= len(onnxslim.slim(exported(name, mode)).graph.node)
    assert done.report.max_abs_diff <= 1e-5
    assert unexplained(model, done) == 0


@pytest.mark.parametrize('name', NETWORKS)
def test_training_and_inference_exports_come_out_alike(name):
    kinds = {mode: transform(exported(name, mode), verify=False).report.operators
             for mode in MODES}
    assert kinds['training'] == kinds['preserve'] == kinds['inference']


@pytest.mark.parametrize('name', NETWORKS)
def test_an_open_batch_stays_open(name):
    done = transform(exported(name, 'inference', dynamic=True))
    assert done.report.max_abs_diff <= 1e-5
    assert done.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == 'batch'


def test_several_outputs_keep_their_order():
    model = exported('detector', 'preserve')
    after = transform(model).model
    assert [o.name for o in after.graph.output] == [o.name for o in model.graph.output]
    assert len(after.graph.output) == 3
