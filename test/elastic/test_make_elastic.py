# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

from .networks import NAMES, STRANGERS, Around, conv_norm, elastic, image_of, lively, network

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def baked() -> nn.Module:
    """Build a network that writes the width down in a view."""
    return lively(Around(lambda net, x: net.more(x.view(x.shape[0], 16, 16, 16)),
                         more=conv_norm(16, 32), between=32))


@pytest.mark.parametrize('name', ['resnet18', 'vgg16', 'mobilenet_v2', 'spectrogram_cnn'])
def test_every_operator_applies_to_images(name):
    made = elastic(name)
    missing = set(OPERATORS) - set(made.operators())
    assert len({OPERATORS[o].eta for o in made.operators()}) == 6, missing


@pytest.mark.parametrize('name', ['vision_transformer', 'motion_cnn'])
def test_what_applies_nowhere_is_said(name):
    made = elastic(name)
    assert {'channel', 'depth', 'svd'} <= set(made.operators())
    for operator in set(OPERATORS) - set(made.operators()):
        assert '%s: nowhere' % operator in made.report()
        assert any(a.what == operator and a.reason for a in made.left_alone)


@pytest.mark.parametrize('name', NAMES)
def test_what_is_said_to_be_left_alone_is_left_alone(name):
    made = elastic(name)
    net = made.net
    units = {u.name: u for u in net.structure.units}
    narrow = net.plan(Variant(((channel(0.5),),) * len(net.structure.stages),
                              len(net.structure.exits) - 1))
    for left in made.left_alone:
        unit = units.get(left.layer)
        if left.what == 'width':
            assert narrow.programs[unit.node][-1].weight.shape[0] == unit.outputs
        elif left.what in FORMS and unit is not None:
            assert not any('%s.%s.' % (unit.name, left.what) in n for n in net.names())
        elif left.what == 'all':
            assert net.kept_layer(left.layer) is not None
        elif left.layer.startswith('stage '):
            assert not made.choices(left.what)[int(left.layer.split()[1])]


def test_a_width_that_fails_on_trial_is_fixed_with_the_reason():
    made = make_elastic(baked(), IMAGE)
    units = {u.name: u for u in made.net.structure.units}
    fixed = made.net.structure.groups[units['first.0'].out_group].fixed
    assert 'shape' in fixed
    assert any(a.layer == 'first.0' and a.what == 'width' and a.reason == fixed
               for a in made.left_alone)
    assert not made.net.structure.groups[units['more.0'].out_group].fixed
    narrow = Variant(((channel(0.5),),) * len(made.net.structure.stages),
                     len(made.net.structure.exits) - 1)
    assert made.net(IMAGE, narrow)[-1].shape == (2, 3)


def test_widths_that_are_bound_are_fixed_together():
    own = Around(lambda net, x: net.body(x).view(x.shape[0], 16, 16, 16),
                 body=nn.Sequential(conv_norm(16, 16), conv_norm(16, 16)))
    groups = make_elastic(own, IMAGE).net.structure.groups.values()
    for one in groups:
        for other in groups:
            assert one.peers != other.peers or bool(one.fixed) == bool(other.fixed)


@pytest.mark.parametrize('name', ['motion_cnn', 'vision_transformer', *STRANGERS])
def test_the_users_network_stays_untouched(name):
    own = network(name).train()
    before = {k: v.clone() for k, v in own.state_dict().items()}
    made = make_elastic(own, image_of(name))
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(1.0)
    assert own.training
    assert all(m.training for m in own.modules())
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    assert all(p.grad is None for p in own.parameters())


def test_the_seed_draws_the_exits():
    own = network('motion_cnn')
    one, again, other = (make_elastic(own, image_of('motion_cnn'), seed=s).net for s in (0, 0, 1))
    weight = [net.tensor('exits.0.weight') for net in (one, again, other)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])


def test_the_report_counts_layers_stages_and_exits():
    lines = elastic('resnet18').report().splitlines()
    assert lines[0] == '21 layers, 4 stages, 4 exits, traced by torch.fx'
    assert 'classifier is left alone by width: it is what the network gives' in lines


def test_networks_without_layers_are_refused():
    with pytest.raises(ExportError, match='no convolution and no linear layer'):
        make_elastic(nn.Sequential(nn.ReLU(), nn.Flatten()), IMAGE)
