# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.export import export_family, to_onnx
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.graph.family import realise
from crowdhmt_ros.types import Variant

from .networks import NAMES, elastic, image_of, leaves, random_variant


def exported(name, variants, *, half):
    net, image = elastic(name).net, image_of(name)
    statistics = calibrate(net, variants, [image])
    named = {'v%d' % i: v for i, v in enumerate(variants)}
    return export_family(net, named, statistics, image[:1], half=half), statistics


def run(model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image.numpy()})


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_onnx_runtime_answers_as_the_supernet(name):
    made, image = elastic(name), image_of(name)
    variants = [made.net.whole(), *(random_variant(made, seed) for seed in (0, 3))]
    family, statistics = exported(name, variants, half=False)
    for variant, graph in zip(variants, family.graphs):
        wanted = leaves(made.net(image[:1], variant, FixedNorms(statistics))[-1])
        found = run(graph.model, image[:1])
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            assert np.abs(one - other.numpy()).max() <= 1e-4 * max(1.0, other.abs().max().item())


@pytest.mark.parametrize('half', [True, False])
@pytest.mark.parametrize('name', ['resnet18', 'vision_transformer', 'gated', 'token'])
def test_recipes_give_the_initialisers_bit_for_bit(name, half):
    made = elastic(name)
    family, _ = exported(name, [made.net.whole(), random_variant(made, 1)], half=half)
    kinds = {family.tensors[r.tensor].dtype for g in family.graphs for r in g.recipes.values()}
    assert (np.dtype(np.float16) in kinds) is half
    for graph in family.graphs:
        floats = [t for t in graph.model.graph.initializer
                  if t.data_type == onnx.TensorProto.FLOAT]
        assert {t.name for t in floats} == set(graph.recipes)
        for tensor in floats:
            value = realise(graph.recipes[tensor.name], family.tensors)
            assert value.tobytes() == onnx.numpy_helper.to_array(tensor).tobytes()


def test_a_second_variant_shares_the_tensors_of_the_first():
    net = elastic('resnet18').net
    narrow = Variant(((), (), (), (channel(0.5),)), 3)
    one, _ = exported('resnet18', [net.whole()], half=True)
    both, _ = exported('resnet18', [net.whole(), narrow], half=True)
    weights = [sum(t.nbytes for t in f.tensors.values() if t.ndim > 1) for f in (one, both)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize('name', ['vision_transformer', 'detector', 'places'])
def test_files_are_of_the_versions_that_robots_read(name):
    family, _ = exported(name, [elastic(name).net.whole()], half=True)
    model = family.graphs[0].model
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 8
    assert [o.version for o in model.opset_import if o.domain in ('', 'ai.onnx')] == [17]


def test_a_single_answer_is_called_logits():
    model = to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2))
    assert [o.name for o in model.graph.output] == ['logits']
    assert [i.name for i in model.graph.input] == ['image']


def test_a_network_of_several_answers_gives_them_all():
    family, _ = exported('detector', [elastic('detector').net.whole()], half=True)
    assert len(family.graphs[0].model.graph.output) == 4


def test_export_leaves_the_supernet_as_it_was():
    net = elastic('gated').net
    net.train()
    try:
        before = {k: v.clone() for k, v in net.state_dict().items()}
        exported('gated', [net.whole()], half=True)
        assert all(m.training for m in net.modules())
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    finally:
        net.eval()
