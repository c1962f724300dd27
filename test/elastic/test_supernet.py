# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from crowdhmt_ros.elastic.stage_shapes import residual_backbone
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.slim_net import Supernet, stages_of
from crowdhmt_ros.elastic.training import recalibrate, uniform
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, Variant

TINY = residual_backbone(3, widths=(16, 16, 16), blocks=2)


def _net() -> Supernet:
    net = Supernet(TINY, seed=1)
    with torch.no_grad():
        for name in net.names():
            if name.endswith('.gain'):
                net.weight(name).uniform_(0.5, 1.5)
    return net


def test_going_to_another_variant_and_back_changes_no_bit():
    net, image = _net(), torch.randn(4, 3, 32, 32)
    large, small = uniform(TINY, 1.0, 2), uniform(TINY, 0.5, 1, 0)
    statistics = recalibrate(net, {'large': large, 'small': small}, [image])
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first = net.extract(large, statistics)(image)
    net.extract(small, statistics)(image)
    assert torch.equal(net.extract(large, statistics)(image), first)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_extracted_network_is_independent_of_the_supernet():
    net, image = _net(), torch.randn(2, 3, 32, 32)
    extracted = net.extract(uniform(TINY, 0.5, 1))
    answer = extracted(image)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    assert torch.equal(extracted(image), answer)


def test_extracted_network_answers_as_the_supernet_on_batch_statistics():
    net, image = _net().eval(), torch.randn(8, 3, 32, 32)
    for variant in (uniform(TINY, 1.0, 2), uniform(TINY, 0.5, 1), uniform(TINY, 0.5, 2, 0)):
        extracted = net.extract(variant)
        for module in extracted.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
        assert torch.allclose(extracted(image), net(image, variant)[-1], atol=1e-5)


def test_operators_shrink_their_stage_only():
    variant = Variant(((channel(0.5),), (), (depth(1),)), 1)
    shapes = [(s.width, s.blocks) for s in stages_of(TINY, variant)]
    assert shapes == [(8, 2), (16, 2), (16, 1)]


def test_equal_beginnings_share_statistics():
    net, image = _net(), torch.randn(4, 3, 32, 32)
    full, early = uniform(TINY, 1.0, 2), uniform(TINY, 1.0, 2, 0)
    alone = recalibrate(net, {'full': full}, [image])
    assert set(recalibrate(net, {'full': full, 'early': early}, [image])) == set(alone)


@pytest.mark.parametrize(('variant', 'hint'), [
    (Variant(((), ()), 1), 'exit 1 runs 3'),
    (Variant(((), (), ()), 7), 'exits 0 to 1'),
    (Variant(((OperatorChoice('melt'),), (), ()), 1), 'choose one of channel, depth'),
    (Variant(((channel(1.5),), (), ()), 1), 'ratio above 0'),
    (Variant(((depth(9),), (), ()), 1), 'has 1 to 2'),
])
def test_unfit_variant_is_one_clear_error(variant, hint):
    with pytest.raises(ExportError, match=hint):
        _net().extract(variant)


def test_missing_statistics_are_named():
    with pytest.raises(ExportError, match='recalibrate'):
        _net().extract(uniform(TINY, 1.0, 2), {})
