# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crowdhmt_ros.elastic.ties import Ties
from crowdhmt_ros.elastic.trace import trace

from .networks import Around, backbone, conv_norm, example, lively

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def ties_of(module, image=IMAGE):
    """Label a network; return its ties and the node of each layer by path."""
    traced = trace(module, image)
    nodes = {str(n.target): n.name for n in traced.module.graph.nodes if n.op == 'call_module'}
    return Ties(traced), nodes


def group(ties, nodes, path, axis=1):
    """Return the group that a layer makes."""
    label = ties.label(nodes[path], axis)
    return None if label is None else label.group


def reason(ties, nodes, path, axis=1):
    """Return why the width of what a layer makes is fixed, '' where it is not."""
    return ties.fixed.get(group(ties, nodes, path, axis), '')


def makers(own, image):
    """Sort the layers that make channels by the group that they make, fixed ones apart."""
    ties, nodes = ties_of(own, image)
    found = {}
    for path, layer in own.named_modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            at = group(ties, nodes, path, -1 if isinstance(layer, nn.Linear) else 1)
            if at is not None and at not in ties.fixed:
                found.setdefault(at, set()).add(path)
    return {frozenset(paths) for paths in found.values()}


def makers_of_oracle(own, image):
    """Sort the same layers by the dependency graph of torch-pruning."""
    pruning = pytest.importorskip('torch_pruning', reason='the oracle is not installed')
    graph = pruning.DependencyGraph().build_dependency(own, example_inputs=image)
    names = {layer: path for path, layer in own.named_modules()}
    found = set()
    for layer, path in names.items():
        if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)) or 'classifier.1' in path:
            continue
        function = (pruning.prune_conv_out_channels if not isinstance(layer, nn.Linear)
                    else pruning.prune_linear_out_channels)
        if getattr(layer, 'groups', 1) > 1:
            function = pruning.prune_depthwise_conv_out_channels
        tied = graph.get_pruning_group(layer, function, idxs=[0])
        found.add(frozenset(
            names[d.target.module] for d, _ in tied
            if isinstance(d.target.module, (nn.Conv1d, nn.Conv2d, nn.Linear))
            and graph.is_out_channel_pruning_fn(d.handler)))
    return found


@pytest.mark.parametrize('name', ['resnet18', 'vgg16', 'mobilenet_v2', 'motion_cnn'])
def test_groups_are_those_of_torch_pruning(name):
    own, image = backbone(name), example(name)
    ours, theirs = makers(own, image), makers_of_oracle(own, image)
    ends = {n for n, m in own.named_modules() if isinstance(m, nn.Linear) and m.out_features == 5}
    assert len(ours) > 5
    assert ours == {g for g in theirs if not g & ends}


def test_what_is_added_scales_together():
    ties, nodes = ties_of(Around(lambda net, x: x + net.middle(x), middle=conv_norm(16, 16)))
    assert group(ties, nodes, 'first.0') == group(ties, nodes, 'middle.0')
    assert not reason(ties, nodes, 'first.0')


def test_a_depthwise_convolution_follows_what_it_reads():
    ties, nodes = ties_of(Around(lambda net, x: net.deep(x), deep=conv_norm(16, 16, groups=16)))
    assert group(ties, nodes, 'first.0') == group(ties, nodes, 'deep.0')
    assert not reason(ties, nodes, 'first.0')


def test_squeeze_and_excitation_scales_with_its_features():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(),
                         nn.Conv2d(8, 16, 1), nn.Sigmoid())
    ties, nodes = ties_of(Around(lambda net, x: x * net.gate(x), gate=gate))
    assert group(ties, nodes, 'first.0') == group(ties, nodes, 'gate.3')
    assert group(ties, nodes, 'gate.1') != group(ties, nodes, 'gate.3')
    assert not reason(ties, nodes, 'first.0')
    assert not reason(ties, nodes, 'gate.1')


@pytest.mark.parametrize(('function', 'between', 'modules', 'hint'), [
    (lambda net, x: torch.cat([x, net.middle(x)], 1), 32, {'middle': conv_norm(16, 16)},
     'concatenated'),
    (lambda net, x: net.shuffle(x), 16, {'shuffle': nn.ChannelShuffle(2)}, 'kept whole'),
    (lambda net, x: x.reshape(x.shape[0], 2, 8, 16, 16).transpose(1, 2).flatten(1, 2), 16, {},
     'pass through reshape'),
    (lambda net, x: net.group(x), 16, {'group': conv_norm(16, 16, groups=4)},
     'grouped convolution group.0'),
    (lambda net, x: net.norm(x), 16, {'norm': nn.GroupNorm(4, 16)}, 'GroupNorm, which is kept'),
    (lambda net, x: net.norm(x), 16, {'norm': nn.GroupNorm(4, 16, affine=False)}, 'kept whole'),
    (lambda net, x: net.act(x), 16, {'act': nn.PReLU(16)}, 'PReLU, which is kept whole'),
    (lambda net, x: net.up(x), 16, {'up': nn.ConvTranspose2d(16, 16, 2, 2)}, 'ConvTranspose2d'),
    (lambda net, x: net.up(x), 4, {'up': nn.PixelShuffle(2)}, 'pass through up'),
    (lambda net, x: torch.chunk(x, 2, 1)[0], 8, {}, 'pass through chunk'),
    (lambda net, x: x[:, :8], 8, {}, 'only some of its channels'),
    (lambda net, x: torch.flip(x, [1]), 16, {}, 'order of its channels matters to flip'),
    (lambda net, x: F.group_norm(x, 4), 16, {}, 'order of its channels matters to group_norm'),
    (lambda net, x: net.mirror(x), 16,
     {'mirror': nn.Conv2d(16, 16, 3, padding=1, padding_mode='reflect')}, 'kept whole'),
])
def test_what_cannot_be_followed_fixes_a_width_and_says_why(function, between, modules, hint):
    ties, nodes = ties_of(Around(function, between=between, **modules))
    assert hint in reason(ties, nodes, 'first.0')
    assert not reason(ties, nodes, 'last.0')


def test_a_constant_of_one_value_for_each_channel_fixes_the_width():
    net = Around(lambda net, x: x * net.scale)
    net.register_buffer('scale', torch.rand(16, 1, 1))
    ties, nodes = ties_of(net)
    assert 'meet others of fixed number in mul' in reason(ties, nodes, 'first.0')


def test_grouped_convolution_fixes_both_its_sides():
    ties, nodes = ties_of(Around(lambda net, x: net.group(x), group=conv_norm(16, 16, groups=4)))
    assert 'comes from the grouped convolution' in reason(ties, nodes, 'group.0')


@pytest.mark.parametrize('flatten', [
    lambda net, x: x.flatten(1), lambda net, x: torch.flatten(x, 1),
    lambda net, x: x.view(x.size(0), -1), lambda net, x: x.reshape(x.shape[0], -1)])
def test_a_flattened_map_has_several_places_for_each_channel(flatten):
    net = nn.Sequential(conv_norm(3, 16), nn.AdaptiveAvgPool2d(4))
    own = Around(lambda n, x: n.head1(flatten(n, n.pool(x)))[:, :, None, None],
                 between=8, pool=net[1], head1=nn.Linear(256, 8))
    ties, nodes = ties_of(own)
    source = ties.traced.node(nodes['head1']).all_input_nodes[0]
    assert ties.label(source.name, 1).repeat == 16
    assert ties.label(source.name, 1).group == group(ties, nodes, 'first.0')
    assert not reason(ties, nodes, 'first.0')


def test_channels_flattened_behind_tokens_are_fixed():
    own = nn.Sequential(nn.Linear(6, 8), nn.Flatten(), nn.Linear(40, 3))
    ties, nodes = ties_of(own, torch.randn(2, 5, 6))
    assert 'flattened behind another axis' in reason(ties, nodes, '0', -1)


def test_attention_is_a_whole_number_of_heads():
    ties, nodes = ties_of(backbone('vision_transformer'), example('vision_transformer'))
    blocks = [path for path in nodes if path.endswith('.q')]
    assert len(blocks) == 4
    for path in blocks:
        found = {group(ties, nodes, path[:-1] + x, -1) for x in 'qkv'}
        assert len(found) == 1
        assert ties.granularity[found.pop()] == 16


def test_position_embedding_and_layer_norm_follow_the_width():
    ties, nodes = ties_of(backbone('vision_transformer'), example('vision_transformer'))
    graph = ties.traced.module.graph
    (parameter,) = [n for n in graph.nodes if n.op == 'get_attr']
    norms = [n.name for n in graph.nodes if isinstance(ties.traced.layer(n), nn.LayerNorm)]
    residual = ties.label(parameter.name, 2).group
    assert ties.label(parameter.name, 1).group in ties.fixed  # places
    assert residual not in ties.fixed
    assert {ties.label(n, -1).group for n in norms} == {residual}


@pytest.mark.parametrize('moved', [
    lambda x: x.permute(0, 2, 3, 1), lambda x: torch.permute(x, dims=(0, 2, 3, 1)),
    lambda x: x.movedim(1, -1), lambda x: x.transpose(1, 2).transpose(2, 3),
    lambda x: x.swapaxes(1, -1).transpose(dim0=1, dim1=2)])
def test_channels_are_followed_to_other_axes(moved):
    own = Around(lambda net, x: net.mix(moved(x)).permute(0, 3, 1, 2), mix=nn.Linear(16, 16))
    ties, nodes = ties_of(own, torch.randn(2, 3, 16, 16))
    source = ties.traced.node(nodes['mix']).all_input_nodes[0].name
    assert ties.label(source, -1).group == group(ties, nodes, 'first.0')
    assert ties.label(source, 1) is None
    assert not reason(ties, nodes, 'first.0')
    assert not reason(ties, nodes, 'mix', -1)


def test_channels_laid_out_as_places_are_fixed():
    own = Around(lambda net, x: x * net.along(
        x.mean((2, 3)).unsqueeze(-1).transpose(1, 2)).transpose(1, 2).unsqueeze(-1).sigmoid(),
        along=nn.Conv1d(1, 1, 3, padding=1))
    ties, nodes = ties_of(own)
    assert 'places of the convolution along' in reason(ties, nodes, 'first.0')


def test_a_parameter_in_front_follows_the_channels():
    class Scaled(Around):
        def __init__(self, function):
            super().__init__(function)
            self.gain = nn.Parameter(torch.rand(16, 1, 1))
            self.flat = nn.Parameter(torch.rand(16))

    for function in (lambda net, x: x * net.gain, lambda net, x: net.gain * x,
                     lambda net, x: x * net.flat.reshape(1, -1, 1, 1)):
        ties, nodes = ties_of(Scaled(function))
        (gain,) = [n.name for n in ties.traced.module.graph.nodes if n.op == 'get_attr']
        assert ties.label(gain, 0).group == group(ties, nodes, 'first.0')
        assert not reason(ties, nodes, 'first.0')


def test_a_layer_used_twice_has_one_width():
    middle = conv_norm(16, 16)
    ties, _ = ties_of(Around(lambda net, x: net.middle(net.middle(x)), middle=middle))
    calls = [n.name for n in ties.traced.module.graph.nodes if n.target == 'middle.0']
    assert len(calls) == 2
    assert len({ties.label(n, 1).group for n in calls}) == 1


def test_what_the_network_gives_is_fixed():
    ties, nodes = ties_of(lively(Around(lambda net, x: x)))
    assert reason(ties, nodes, 'head') == 'it is what the network gives'
