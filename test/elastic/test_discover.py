# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.discover import discover
from crowdhmt_ros.elastic.trace import trace
from crowdhmt_ros.errors import ExportError

from .networks import Around, backbone, conv_norm, example, lively

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def structure_of(module, image=IMAGE, exits=None):
    return discover(trace(module, image), exits)


def unit(structure, name):
    (found,) = [u for u in structure.units if u.name == name]
    return found


@pytest.mark.parametrize(('name', 'blocks', 'least'), [
    ('resnet18', [3, 2, 2, 2], [1, 1, 1, 1]),  # the stem counts as a block
    ('vgg16', [2, 2, 3, 3, 3], [1, 1, 1, 1, 1]),
    ('mobilenet_v2', [4, 3, 7, 5], [1, 1, 2, 3]),
    ('motion_cnn', [3, 2, 2], [1, 1, 1]),
    ('spectrogram_cnn', [3, 2, 2, 2], [1, 1, 1, 1]),
    ('vision_transformer', [2, 2, 3, 2], [1, 0, 0, 0]),
])
def test_stages_and_blocks_of_the_reference_backbones(name, blocks, least):
    structure = structure_of(backbone(name), example(name))
    assert [len(s.blocks) for s in structure.stages] == blocks
    assert structure.exits == tuple(range(1, len(blocks) + 1))
    assert structure.classes == 5
    fixed = [sum(not b.droppable for b in s.blocks) for s in structure.stages]
    if name == 'vision_transformer':  # patches, then 4 attentions and 4 feed-forward blocks
        assert sum(fixed) <= 2
        assert {s.axis for s in structure.stages} == {2}
    else:
        assert [s.least_blocks for s in structure.stages] == least
        assert {s.axis for s in structure.stages} == {1}


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'motion_cnn', 'vision_transformer'])
def test_every_layer_lies_in_a_stage_and_a_block(name):
    own = backbone(name)
    structure = structure_of(own, example(name))
    layers = {n for n, m in own.named_modules()
              if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))}
    assert {u.name for u in structure.units} == layers
    for u in structure.units:
        assert 0 <= u.stage < len(structure.stages)
        assert 0 <= u.block < len(structure.stages[u.stage].blocks)
    assert structure.units[-1].stage == len(structure.stages) - 1
    stages = [u.stage for u in structure.units]
    assert stages == sorted(stages)


def test_normalisations_belong_to_the_layer_in_front():
    structure = structure_of(backbone('mobilenet_v2'), example('mobilenet_v2'))
    assert all(u.norm and u.norm_node for u in structure.units if u.kind == 'conv')
    assert not any(u.kind == 'norm' for u in structure.units)


def test_a_bottleneck_is_one_block():
    structure = structure_of(backbone('mobilenet_v2'), example('mobilenet_v2'))
    parts = {}
    for u in structure.units:
        parts.setdefault((u.stage, u.block), []).append(u)
    inner = parts[2, 1]
    assert [u.is_depthwise for u in inner] == [False, True, False]


def test_blocks_between_which_nothing_changes_shape_may_go():
    own = residual(3, widths=(16, 32), blocks=3, edge=64)
    structure = structure_of(own, torch.zeros(2, 3, 32, 32))
    assert [[b.droppable for b in s.blocks] for s in structure.stages] == [
        [False, True, True, True], [False, True, True]]


def test_groups_between_which_a_block_may_go_are_bound():
    own = nn.Sequential(*(conv_norm(16, 16) for _ in range(3)), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(16, 3))
    structure = structure_of(own, torch.zeros(2, 16, 8, 8))
    groups = [structure.groups[unit(structure, '%d.0' % i).out_group] for i in range(3)]
    assert len({g.index for g in groups}) == 3
    assert len({g.peers for g in groups}) == 1


def test_a_network_of_one_resolution_is_parted():
    own = Around(lambda net, x: net.body(x),
                 body=nn.Sequential(*(conv_norm(16, 16) for _ in range(8))))
    structure = structure_of(own)
    assert len(structure.stages) == 4
    assert {s.extent for s in structure.stages} == {(16, 16)}


def test_a_network_of_vectors_is_one_stage():
    own = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
                        nn.Linear(16, 3))
    structure = structure_of(own, torch.zeros(2, 8))
    assert len(structure.stages) == 1
    assert structure.exits == (1,)
    assert not structure.groups[unit(structure, '0').out_group].fixed


def test_extents_read_in_front_do_not_hide_borders():
    class Sized(Around):
        def forward(self, x):
            batch = x.shape[0]
            return self.head(self.function(self, self.first(x)).mean((2, 3)).view(batch, -1))

    own = Sized(lambda net, x: net.last(x))
    assert len(structure_of(own).stages[0].blocks) == 2


def test_a_network_read_by_torch_export_has_the_same_stages(monkeypatch):
    own = lively(residual(3, widths=(8, 16), blocks=2, edge=64))
    image = torch.zeros(2, 3, 32, 32)
    by_fx = structure_of(own, image)
    monkeypatch.setattr('crowdhmt_ros.elastic.trace._Tracer.trace', lambda *a: 1 / 0)
    by_export = structure_of(own, image)
    for one, other in zip(by_fx.stages, by_export.stages):
        assert [b.droppable for b in one.blocks] == [b.droppable for b in other.blocks]
        assert (one.extent, one.channels, one.axis) == (other.extent, other.channels, other.axis)
    assert len(by_fx.units) == len(by_export.units)
    fixed = [[bool(s.groups[u.out_group].fixed) for u in s.units] for s in (by_fx, by_export)]
    assert fixed[0] == fixed[1]


@pytest.mark.parametrize(('wanted', 'exits'), [
    (None, (1, 2, 3, 4)), ((), (4,)), ((2,), (2, 4)), ((4, 1, 1), (1, 4))])
def test_exits_lie_where_they_are_wanted(wanted, exits):
    assert structure_of(backbone('resnet18'), example('resnet18'), wanted).exits == exits


def test_an_exit_behind_no_stage_is_an_error():
    with pytest.raises(ExportError, match='after stage 9; this network has stages 1 to 4'):
        structure_of(backbone('resnet18'), example('resnet18'), (9,))


def test_a_network_of_several_outputs_has_one_exit_only():
    class Detector(Around):
        def forward(self, x):
            y = self.first(x)
            return {'maps': [self.last(y), y.mean(1, keepdim=True)],
                    'scores': self.head(y.mean((2, 3)))}

    structure = structure_of(Detector(None))
    assert structure.classes == 0
    assert structure.exits == (len(structure.stages),)
    assert structure.groups[unit(structure, 'last.0').out_group].fixed
    assert not structure.groups[unit(structure, 'first.0').out_group].fixed


def test_a_normalisation_of_tokens_behind_a_linear_layer_stands_alone():
    own = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(5), nn.Linear(8, 3))
    structure = structure_of(own, torch.randn(2, 5, 6))
    assert unit(structure, '0').norm == ''
    assert unit(structure, '1').kind == 'norm'
    assert not structure.groups[unit(structure, '0').out_group].fixed


def test_a_preactivation_normalisation_follows_the_channels_it_reads():
    own = Around(lambda net, x: x + net.conv(net.norm(x).relu()),
                 norm=nn.BatchNorm2d(16), conv=nn.Conv2d(16, 16, 3, padding=1))
    structure = structure_of(own)
    norm = unit(structure, 'norm')
    assert norm.kind == 'norm'
    assert norm.out_group == norm.in_group == unit(structure, 'first.0').out_group


def test_a_network_without_layers_is_an_error():
    with pytest.raises(ExportError, match='no convolution and no linear layer'):
        structure_of(nn.ReLU())


def test_layers_that_are_kept_are_named_with_the_reason():
    own = Around(lambda net, x: net.up(net.norm(x)), norm=nn.GroupNorm(4, 16),
                 up=nn.ConvTranspose2d(16, 16, 2, 2))
    left = {(a.layer, a.what): a.reason for a in structure_of(own).left_alone}
    assert left['norm', 'all'] == 'GroupNorm is kept whole'
    assert left['up', 'all'] == 'ConvTranspose2d is kept whole'
    assert 'GroupNorm, which is kept whole' in left['first.0', 'width']


def test_a_norm_over_several_axes_is_kept_whole():
    own = Around(lambda net, x: net.norm(x), norm=nn.LayerNorm((16, 16, 16)))
    structure = structure_of(own)
    assert not structure.cuttables
    assert structure.groups[unit(structure, 'first.0').out_group].fixed
