# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.exits import exit_name
from crowdhmt_ros.elastic.lone import lone
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.plan import part_names
from crowdhmt_ros.elastic.steps import parts_of
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant


@pytest.fixture(scope='module')
def family():
    torch.manual_seed(1)
    network = residual(5, widths=(16, 16, 32), blocks=2, edge=32)
    return make_elastic(network, torch.zeros(2, 3, 32, 32), exits=(2,)).net


@pytest.fixture(scope='module')
def image():
    return torch.randn(4, 3, 32, 32)


def _variants(family):
    sampler = Sampler(family, (1, 2, 3, 4, 5, 6))
    found = {name: sampler.alone(name, -1) for name in sampler.operators}
    return {**found, 'whole': family.whole(), 'exit': Variant(((), ()), 0)}


@pytest.mark.parametrize('name', ['svd', 'sparse', 'asymmetric', 'fire', 'ghost', 'refit', 'scale',
                                  'depth', 'channel', 'whole', 'exit'])
def test_a_lone_variant_computes_what_the_family_computes_with_its_tensors(family, image, name):
    variant = _variants(family)[name]
    alone, plan = lone(family, variant, seed=3), family.plan(variant)
    assert alone.plan(variant).macs == plan.macs
    with torch.no_grad():  # give the lone network the family's values, part by part
        for node, program in plan.programs.items():
            mine = parts_of(alone.plan(variant).programs[node])
            for part, own in zip(parts_of(program), mine, strict=True):
                alone.tensor(own.tensor).copy_(family.part(part))
        if name == 'exit':
            for end in (exit_name(0) + '.weight', exit_name(0) + '.bias'):
                alone.tensor(end).copy_(family.tensor(end))
    statistics = calibrate(family, [variant], [image])
    family.eval()
    alone.eval()
    wanted = family(image, variant, FixedNorms(statistics), every_exit=False)[-1]
    assert torch.equal(alone(image, variant, FixedNorms(statistics))[-1], wanted)


def test_it_has_exactly_the_variants_tensors_with_values_of_its_own(family):
    variant = _variants(family)['channel']
    alone = lone(family, variant, seed=3)
    plan = alone.plan(variant)
    assert set(alone.names()) == part_names(plan)
    assert all(part.shape == tuple(alone.tensor(part.tensor).shape)
               for program in plan.programs.values() for part in parts_of(program))
    assert sum(p.numel() for p in alone.parameters()) < sum(
        family.tensor(n).numel() for n in part_names(family.plan(variant)))
    same = lone(family, variant, seed=3)
    other = lone(family, variant, seed=4)
    name = max(alone.names(), key=lambda n: alone.tensor(n).numel())
    assert torch.equal(alone.tensor(name), same.tensor(name))
    assert not torch.equal(alone.tensor(name), other.tensor(name))


def test_its_signals_neither_vanish_nor_explode(family):
    for variant in _variants(family).values():
        alone = lone(family, variant, seed=0)
        for name in alone.names():
            weight = alone.tensor(name)
            if weight.ndim == 4 and weight.numel() > 256:
                spread = float(weight.detach().std()) * weight[0].numel() ** 0.5
                assert 1.2 < spread < 1.6  # sqrt(2)


def test_another_variant_is_refused(family):
    alone = lone(family, family.whole(), seed=0)
    with pytest.raises(ExportError, match='has no others'):
        alone.plan(_variants(family)['svd'])
