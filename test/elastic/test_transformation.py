# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.refit import refit
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.steps import Apply
from crowdhmt_ros.elastic.transformation import (
    Moment,
    backbone_statistics,
    calibrate,
    derive_forms,
    importance,
    missing,
    moments_of,
    permute,
    sort_channels,
    transform,
)
from crowdhmt_ros.types import Variant

from .networks import NAMES, elastic, fresh, image_of, leaves


def everywhere(net, *choices):
    """Apply operators to all stages."""
    return Variant((choices,) * len(net.structure.stages), len(net.structure.exits) - 1)


def whole_of(net, image):
    """Answer as the backbone itself does, at every exit."""
    return leaves(net(image, net.whole(), FixedNorms(backbone_statistics(net))))


def alike(net):
    """Make channels resemble each other, as training does: outputs mix few patterns."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for unit in net.structure.units:
            if unit.is_dense and unit.outputs >= 16:
                weight = net.tensor(unit.name + '.weight')
                few = torch.randn(unit.outputs, 6, generator=generator)
                flat = few @ (few.T @ weight.flatten(1)) / unit.outputs
                weight.copy_((flat + 0.05 * weight.flatten(1)).reshape(weight.shape))


def loss_of(net, variant, image):
    """Return how far a variant's answer is from the whole network's, as a share."""
    statistics = calibrate(net, [net.whole(), variant], [image])
    wanted = net(image, net.whole(), FixedNorms(statistics), every_exit=False)[-1]
    found = net(image, variant, FixedNorms(statistics), every_exit=False)[-1]
    wanted, found = wanted - wanted.mean(0), found - found.mean(0)
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_any_order_of_channels_computes_the_same(name):
    made, image = fresh(name), image_of(name)
    net = made.net
    before = whole_of(net, image)
    moved = 0
    generator = torch.Generator().manual_seed(0)
    for index, group in net.structure.groups.items():
        if not group.fixed:
            blocks = torch.randperm(group.size // group.granularity, generator=generator)
            places = blocks[:, None] * group.granularity + torch.arange(group.granularity)
            permute(net, index, places.flatten())
            moved += 1
    assert moved
    for one, other in zip(whole_of(net, image), before):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'vision_transformer', 'repeated'])
@torch.no_grad()
def test_the_transformed_backbone_answers_as_before(name):
    made, image = fresh(name), image_of(name)
    before = whole_of(made.net, image)
    transform(made.net, [image])
    for one, other in zip(whole_of(made.net, image), before):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


@torch.no_grad()
def test_channels_are_sorted_by_importance():
    net, image = fresh('resnet18').net, image_of('resnet18')
    sort_channels(net, moments_of(net, [image]))
    for index, score in importance(net, moments_of(net, [image])).items():
        assert torch.all(score.diff() <= 1e-6 * score.max()), index


@torch.no_grad()
def test_heads_move_as_blocks():
    net, image = fresh('vision_transformer').net, image_of('vision_transformer')
    (name,) = [u.name for u in net.structure.units if u.name.endswith('.q')][:1]
    before = net.tensor(name + '.bias').uniform_().clone().reshape(2, 16)
    group = next(u.out_group for u in net.structure.units if u.name == name)
    assert net.structure.groups[group].granularity == 16
    permute(net, group, torch.tensor([*range(16, 32), *range(16)]))
    assert torch.equal(net.tensor(name + '.bias').reshape(2, 16), before.flip(0))
    sort_channels(net, moments_of(net, [image]))
    after = net.tensor(name + '.bias').reshape(2, 16)
    assert torch.equal(after, before) or torch.equal(after, before.flip(0))


@torch.no_grad()
def test_statistics_of_the_backbone_survive_sorting():
    net, image = fresh('resnet18').net, image_of('resnet18')
    before = {k: (m.clone(), v.clone()) for k, (m, v) in net.running.items()}
    sort_channels(net, moments_of(net, [image]))
    assert any(not torch.equal(before[k][0], net.running[k][0]) for k in before)
    for key, (mean, variance) in net.running.items():
        pairs = sorted(zip(mean.tolist(), variance.tolist()))
        assert pairs == sorted(zip(before[key][0].tolist(), before[key][1].tolist()))


@torch.no_grad()
def test_factors_of_full_rank_reproduce_the_layer():
    net, image = fresh('resnet18').net, image_of('resnet18')
    derive_forms(net, moments_of(net, [image]))
    plan = net.plan(everywhere(net, svd(1.0)))
    seen = 0
    for unit in net.structure.units:
        steps = [s for s in plan.programs[unit.node] if isinstance(s, Apply)]
        if len(steps) == 2 and steps[0].outputs == unit.outputs:  # else up to what was seen
            inner, outer = (net.part(s.weight).double().flatten(1) for s in steps)
            weight = net.tensor(unit.name + '.weight').double().flatten(1)
            assert torch.allclose(outer @ inner, weight, atol=1e-4 * weight.abs().max())
            seen += 1
    assert seen > 5


@torch.no_grad()
def test_factors_lose_less_after_transformation_than_slices_at_random():
    image = image_of('resnet18')
    net = fresh('resnet18').net
    alike(net)
    derive_forms(net, moments_of(net, [image]))
    with_moments = loss_of(net, everywhere(net, svd(0.5)), image)
    generator = torch.Generator().manual_seed(6)
    for name in net.names():
        if '.svd.' in name:
            net.tensor(name).copy_(torch.randn(net.tensor(name).shape, generator=generator))
    assert with_moments < 0.5 * loss_of(net, everywhere(net, svd(0.5)), image)


@torch.no_grad()
def test_fitted_weights_lose_less_than_slices_and_slices_less_when_sorted():
    image = image_of('resnet18')
    net = fresh('resnet18').net
    alike(net)
    unsorted = loss_of(net, everywhere(net, channel(0.75)), image)
    transform(net, [image])
    assert loss_of(net, everywhere(net, channel(0.75)), image) < unsorted
    assert loss_of(net, everywhere(net, refit()), image) < 0.8 * unsorted


@torch.no_grad()
def test_what_variants_compute_alike_is_measured_once():
    net, image = elastic('resnet18').net, image_of('resnet18')
    one = Variant(((), (), (), (channel(0.5),)), 3)
    other = Variant(((), (), (), (depth(1),)), 3)
    first = calibrate(net, [one], [image])
    both = calibrate(net, [one, other], [image], known=first)
    shared = [u for u in net.structure.units if u.stage < 3 and u.norm]
    added = set(both) - set(first)
    assert all(both[k] is first[k] for k in first)
    assert not any(k.startswith(u.norm + ':') for k in added for u in shared)
    assert added
    assert not missing(net, one, both) + missing(net, other, both)


@torch.no_grad()
def test_measured_statistics_are_means_over_batches():
    net = elastic('resnet18').net
    batches = list(image_of('resnet18').split(2))
    stem = next(u for u in net.structure.units if u.norm)
    each = [calibrate(net, [net.whole()], [b]) for b in batches]
    key = next(k for k in each[0] if k.startswith(stem.norm + ':'))
    both = calibrate(net, [net.whole()], batches)[key]
    for at in (0, 1):
        assert torch.allclose(both[at], (each[0][key][at] + each[1][key][at]) / 2)


@torch.no_grad()
def test_measuring_leaves_the_mode_as_it_was():
    net, image = fresh('repeated').net, image_of('repeated')
    net.train()
    calibrate(net, [net.whole()], [image])
    moments_of(net, [image])
    assert all(m.training for m in net.modules())


def test_moments_are_taken_along_the_channels():
    x = torch.randn(2, 6, 4, 6, generator=torch.Generator().manual_seed(0))
    for axis in (1, -1):
        moment = Moment(6, axis)
        moment.add(x)
        rows = x.double().movedim(axis, -1).reshape(-1, 6)
        assert torch.allclose(moment.second(centred=False), rows.T @ rows / len(rows))
        assert torch.allclose(moment.second(centred=True), torch.cov(rows.T, correction=0))


@pytest.mark.parametrize('name', ['resnet18', 'vision_transformer'])
@torch.no_grad()
def test_channels_are_sorted_where_the_network_is_on_another_device(name):
    """Fake tensors refuse to mix devices as those of a GPU do, and 'meta' needs none."""
    net, image = fresh(name).net, image_of(name)
    net.running.clear()  # as a training does
    moved = 0
    with FakeTensorMode():
        for owner in net.modules():
            for key, value in owner.named_parameters(recurse=False):
                setattr(owner, key, torch.nn.Parameter(torch.empty(value.shape, device='meta')))
                moved += 1
            for key, value in owner.named_buffers(recurse=False):
                setattr(owner, key, torch.empty(value.shape, dtype=value.dtype, device='meta'))
        moments = moments_of(net, [torch.empty(image.shape, device='meta')])
        assert {s.device.type for s in importance(net, moments).values()} == {'cpu'}
        sort_channels(net, moments)
    assert moved > 10
    assert {p.device.type for p in net.parameters()} == {'meta'}
