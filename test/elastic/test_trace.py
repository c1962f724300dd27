# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from crowdhmt_ros.elastic.trace import trace
from crowdhmt_ros.errors import ExportError

from .networks import OPTIONS, Around, backbone, conv_norm, example, lively

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def layers(traced, kind):
    return [n for n in traced.module.graph.nodes if isinstance(traced.layer(n), kind)]


class BranchOnShape(nn.Module):
    """torch.fx cannot follow the condition, torch.export evaluates it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = conv_norm(3, 8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.body(x)
        if y.shape[2] > 4:
            y = F.max_pool2d(y, 2)
        return self.head(y.mean((2, 3)))


class BranchOnData(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Functions(nn.Module):
    """All layers called as functions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.tokens = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        y = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
        y = F.batch_norm(y, self.norm.running_mean, self.norm.running_var, self.norm.weight,
                         self.norm.bias, self.training, eps=1e-3)
        y = F.layer_norm(F.relu(y).mean((2, 3)), (8,), self.tokens.weight, self.tokens.bias)
        return F.linear(y, self.head.weight, self.head.bias)


class NormWithActivation(nn.BatchNorm2d):
    """As timm writes them."""

    def forward(self, x):
        training = self.training or (self.running_mean is None and self.running_var is None)
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training,
                         0.1, self.eps)
        return F.silu(y)


def test_a_traced_network_answers_as_before():
    for name in OPTIONS:
        own, image = backbone(name), example(name)
        traced = trace(own, image)
        assert traced.method == 'torch.fx'
        assert torch.equal(traced.module(image), own(image))


def test_torch_export_reads_what_torch_fx_cannot():
    own = lively(BranchOnShape())
    traced = trace(own, IMAGE)
    assert traced.method == 'torch.export'
    assert torch.allclose(traced.module(IMAGE), own(IMAGE), atol=1e-6)
    assert [len(layers(traced, k)) for k in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)] == [1, 1, 1]


def test_both_ways_find_the_same_layers_and_values(monkeypatch):
    own = lively(Around(lambda net, x: x + net.middle(x), middle=conv_norm(16, 16)))
    by_fx = trace(own, IMAGE)
    monkeypatch.setattr('crowdhmt_ros.elastic.trace._Tracer.trace', lambda *a: 1 / 0)
    by_export = trace(own, IMAGE)
    assert (by_fx.method, by_export.method) == ('torch.fx', 'torch.export')
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    assert [[by_fx.shapes[n.name] for n in layers(by_fx, k)] for k in kinds] == [
        [by_export.shapes[n.name] for n in layers(by_export, k)] for k in kinds]
    assert torch.allclose(by_fx.module(IMAGE), by_export.module(IMAGE), atol=1e-6)


def test_calls_of_functions_become_layers():
    own = lively(Functions())
    traced = trace(own, IMAGE)
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.Linear):
        assert len(layers(traced, kind)) == 1, kind
    assert traced.layer(layers(traced, nn.BatchNorm2d)[0]).eps == 1e-3
    assert torch.allclose(traced.module(IMAGE), own(IMAGE), atol=1e-6)


def test_normalisation_of_vectors_without_gain_becomes_a_layer():
    class Vectors(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4, affine=False)

        def forward(self, x):
            return F.batch_norm(self.linear(x), self.norm.running_mean, self.norm.running_var)

    own, x = lively(Vectors()), torch.randn(2, 6)
    traced = trace(own, x)
    assert len(layers(traced, nn.BatchNorm1d)) == 1
    assert torch.equal(traced.module(x), own(x))


def test_a_normalisation_with_its_activation_inside_is_looked_into():
    own = lively(nn.Sequential(nn.Conv2d(3, 8, 3), NormWithActivation(8), nn.Flatten()))
    traced = trace(own, IMAGE)
    norms = layers(traced, nn.BatchNorm2d)
    assert [type(traced.layer(n)) for n in norms] == [nn.BatchNorm2d]
    assert [u.target for u in norms[0].users] == [F.silu]
    assert torch.equal(traced.module(IMAGE), own(IMAGE))


def test_a_weight_computed_at_each_call_stays_a_function():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True))

    own = nn.Sequential(Standardised(3, 8, 3), nn.ReLU())
    traced = trace(own, IMAGE)
    assert not layers(traced, nn.Conv2d)
    assert torch.equal(traced.module(IMAGE), own(IMAGE))


def test_a_parametrised_weight_becomes_a_plain_one():
    own = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU())
    traced = trace(own, IMAGE)
    assert 'weight' in dict(traced.layer(layers(traced, nn.Conv2d)[0]).named_parameters())
    assert torch.allclose(traced.module(IMAGE), own(IMAGE), atol=1e-6)


def test_further_inputs_take_their_defaults():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3)

        def forward(self, x, mask=None, twice=False):
            y = self.body(x)
            if mask is not None:
                y = y * mask
            return y * 2 if twice else y

    own = Masked()
    traced = trace(own, IMAGE)
    assert sum(n.op == 'placeholder' for n in traced.module.graph.nodes) == 1
    assert torch.equal(traced.module(IMAGE), own(IMAGE))
    assert type(own) is Masked


def test_extents_are_told_apart_from_values():
    traced = trace(Around(lambda net, x: x.view(x.shape[0], 16, x.size(2), -1)), IMAGE)
    targets = {n.target for n in traced.module.graph.nodes if n.name in traced.numbers}
    assert {getattr, 'size'} <= targets
    assert not set(traced.numbers) & set(traced.shapes)


def test_dropout_as_a_function_works_again_in_training():
    traced = trace(Around(lambda net, x: F.dropout(x, 0.3, net.training)), IMAGE)
    (dropout,) = layers(traced, nn.Dropout)
    assert traced.layer(dropout).p == 0.3
    assert not traced.layer(dropout).training


def test_the_users_network_stays_as_it_was():
    own = BranchOnShape().train()
    before = {k: v.clone() for k, v in own.state_dict().items()}
    traced = trace(own, IMAGE)
    with torch.no_grad():
        for parameter in traced.module.parameters():
            parameter.zero_()
    assert own.training
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())


@pytest.mark.parametrize(('module', 'hint'), [
    (BranchOnData(), 'take control flow that depends on data out of forward'),
    (nn.Conv2d(4, 8, 3), 'does not run on the example of shape \\(2, 3, 16, 16\\)'),
    (nn.Bilinear(3, 3, 3), 'cannot be traced'),
])
def test_an_untraceable_network_is_one_clear_error(module, hint):
    with pytest.raises(ExportError, match=hint) as error:
        trace(module, IMAGE)
    assert '\n' not in str(error.value)


def test_graph_is_one_of_torch_fx():
    assert isinstance(trace(backbone('vgg16'), example('vgg16')).module, fx.GraphModule)
