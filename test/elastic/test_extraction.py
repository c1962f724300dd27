# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.scale import scale
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import realise
from crowdhmt_ros.types import Variant

from .networks import NAMES, elastic, fresh, image_of, leaves, random_variant


def close(found, wanted):
    """Whether two answers are equal but for rounding."""
    pairs = list(zip(leaves(found), leaves(wanted)))
    assert pairs
    return len(leaves(found)) == len(leaves(wanted)) and all(
        (a - b).abs().max() <= 1e-4 * max(1e-2, b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_extracted_network_answers_as_the_supernet_for_any_operators(name):
    made, image = elastic(name), image_of(name)
    for seed in range(6):
        variant = random_variant(made, seed)
        statistics = calibrate(made.net, [variant], [image])
        wanted = made.net(image, variant, FixedNorms(statistics))[-1]
        assert close(extract(made.net, variant, statistics).module(image), wanted), variant


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_extracted_early_exit_answers_as_the_supernet(name):
    made, image = elastic(name), image_of(name)
    structure = made.net.structure
    for index, stages in enumerate(structure.exits):
        variant = Variant(((channel(0.5),),) * stages, index)
        statistics = calibrate(made.net, [variant], [image])
        wanted = made.net(image, variant, FixedNorms(statistics))[-1]
        assert close(extract(made.net, variant, statistics).module(image), wanted)


@pytest.mark.parametrize(('name', 'choice'), [
    ('resnet18', scale(stride=2)), ('resnet18', scale(kernel=1)), ('motion_cnn', scale(kernel=3)),
    ('motion_cnn', scale(stride=2)), ('preactivated', scale(stride=2)),
    ('places', scale(stride=2, kernel=3))])
@torch.no_grad()
def test_scaled_stages_are_extracted(name, choice):
    made, image = elastic(name), image_of(name)
    stages = len(made.net.structure.stages)
    variant = Variant((*((),) * (stages - 1), (choice,)), len(made.net.structure.exits) - 1)
    statistics = calibrate(made.net, [variant], [image])
    wanted = made.net(image, variant, FixedNorms(statistics))[-1]
    assert close(extract(made.net, variant, statistics).module(image), wanted)


@pytest.mark.parametrize('half', [True, False])
def test_recipes_give_the_parameters_bit_for_bit(half):
    made = elastic('mobilenet_v2')
    variant = random_variant(made, 4)
    statistics = calibrate(made.net, [variant], [image_of('mobilenet_v2')])
    taken = extract(made.net, variant, statistics, half=half)
    own = dict(taken.module.named_parameters())
    assert set(own) == set(taken.recipes)
    for name, recipe in taken.recipes.items():
        assert torch.equal(own[name], torch.from_numpy(realise(recipe, taken.tensors)))


def test_layers_that_are_kept_are_copies():
    made = fresh('gated')
    made.net.train()
    image = image_of('gated')
    taken = extract(made.net, made.net.whole(), calibrate(made.net, [made.net.whole()], [image]))
    assert all(m.training for m in made.net.modules())
    answer = taken.module(image)
    kept = [n for n, m in taken.module.named_modules() if isinstance(m, nn.GroupNorm)]
    assert len(kept) == 1
    with torch.no_grad():
        for parameter in made.net.parameters():
            parameter.add_(1.0)
    assert torch.equal(taken.module(image), answer)


def test_a_layer_that_is_used_twice_has_the_statistics_of_each_use():
    made, image = elastic('repeated'), image_of('repeated')
    taken = extract(made.net, made.net.whole(),
                    calibrate(made.net, [made.net.whole()], [image]))
    biases = [p for n, p in taken.module.named_parameters() if 'body' in n and 'bias' in n]
    assert len(biases) == 2
    assert not torch.equal(*biases)


def test_an_extracted_network_takes_any_batch():
    made, image = elastic('token'), image_of('token')
    variant = made.net.whole()
    module = extract(made.net, variant, calibrate(made.net, [variant], [image])).module
    assert torch.allclose(module(image[:1]), module(image)[:1], atol=1e-5)


def test_missing_statistics_are_one_clear_line():
    with pytest.raises(ExportError, match='are missing; calibrate this variant'):
        extract(elastic('resnet18').net, elastic('resnet18').net.whole(), {})
