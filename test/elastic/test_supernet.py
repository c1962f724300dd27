# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import CollectingNorms, FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.operators.table import FORMS
from crowdhmt_ros.elastic.plan import part_names
from crowdhmt_ros.elastic.transformation import backbone_statistics, calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, Variant

from .networks import (
    NAMES,
    OPTIONS,
    elastic,
    fresh,
    image_of,
    leaves,
    network,
    random_variant,
)

WHOLE = Variant(((), (), ()), 2)
SLIM = Variant(((channel(0.5),),) * 3, 2)
SHORT = Variant(((channel(0.5),), (depth(1),), (depth(1),)), 2)
EARLY = Variant(((channel(0.5), svd(0.5)),), 0)
VARIANTS = (WHOLE, SLIM, SHORT, EARLY)


@pytest.fixture
def image():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    made = make_elastic(residual(3, widths=(16, 16, 24), blocks=2, edge=64),
                        torch.zeros(2, 3, 32, 32)).net.eval()
    with torch.no_grad():
        for unit in made.structure.units:
            if unit.norm:
                made.tensor(unit.norm + '.weight').uniform_(0.5, 1.5)
                made.tensor(unit.norm + '.bias').uniform_(-0.5, 0.5)
    return made


def test_going_to_another_variant_and_back_changes_no_bit(net, image):
    statistics = calibrate(net, VARIANTS, [image])
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first = net(image, WHOLE, FixedNorms(statistics))
    for variant in VARIANTS:
        net(image, variant, FixedNorms(statistics))
        extract(net, variant, statistics).module(image)
    again = net(image, WHOLE, FixedNorms(statistics))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize('variant', VARIANTS)
def test_extracted_network_answers_as_the_supernet(net, image, variant):
    statistics = calibrate(net, [variant], [image])
    wanted = net(image, variant, FixedNorms(statistics))[-1]
    found = extract(net, variant, statistics).module(image)
    assert wanted.abs().max() > 1e-3
    assert torch.allclose(found, wanted, atol=1e-5)


def test_extracted_network_is_independent_of_the_supernet(image):
    own = make_elastic(residual(3, widths=(8, 16), blocks=1, edge=64),
                       torch.zeros(2, 3, 32, 32)).net.eval()
    taken = extract(own, own.whole(), calibrate(own, [own.whole()], [image])).module
    answer = taken(image)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(1.0)
    assert torch.equal(taken(image), answer)


def test_every_exit_up_to_the_variants_own_answers(net, image):
    assert [a.shape for a in net(image, WHOLE)] == [(4, 3)] * 3
    assert [a.shape for a in net(image, EARLY)] == [(4, 3)]
    assert len(net(image, WHOLE, every_exit=False)) == 1


def test_operators_shrink_their_stage_only(net):
    whole = net.plan(WHOLE).macs
    narrow = net.plan(Variant(((channel(0.5),), (), ()), 2))
    shallow = net.plan(Variant(((), (), (depth(1),)), 2))
    assert narrow.macs < whole
    assert shallow.macs < whole
    last = [u.node for u in net.structure.units if u.name.startswith('stages.2.0.conv2')]
    wide = net.plan(WHOLE)
    assert all(narrow.programs[node] == wide.programs[node] for node in last)
    assert set(wide.programs) - set(shallow.programs) == {
        u.node for u in net.structure.units if u.name.startswith('stages.2.1.')}


def test_equal_beginnings_share_statistics(net, image):
    alone = calibrate(net, [WHOLE], [image])
    assert set(calibrate(net, [WHOLE, Variant(((),), 0)], [image])) == set(alone)


@pytest.mark.parametrize(('variant', 'hint'), [
    (Variant(((), ()), 2), 'exit 2 runs 3'),
    (Variant(((), (), ()), 7), 'exits 0 to 2'),
    (Variant(((OperatorChoice('melt'),), (), ()), 2), 'choose one of'),
    (Variant(((channel(1.5),), (), ()), 2), 'ratio above 0'),
    (Variant(((), (depth(9),), ()), 2), 'this stage has 1 to 2'),
])
def test_unfit_variant_is_one_clear_error(net, variant, hint):
    with pytest.raises(ExportError, match=hint):
        net.plan(variant)


def test_missing_statistics_are_named(net):
    with pytest.raises(ExportError, match='calibrate this variant'):
        extract(net, WHOLE, {})


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_the_whole_variant_is_the_users_network_bit_for_bit(name):
    own, made, image = network(name), elastic(name).net, image_of(name)
    found = made(image, made.whole(), FixedNorms(backbone_statistics(made)))[-1]
    assert all(torch.equal(a, b) for a, b in zip(leaves(found), leaves(own(image))))


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_in_training_the_whole_variant_is_the_users_network_bit_for_bit(name):
    own, made, image = network(name).train(), fresh(name).net.train(), image_of(name)
    torch.manual_seed(4)
    wanted = leaves(own(image))
    torch.manual_seed(4)
    found = made(image, made.whole(), every_exit=False)[-1]
    assert all(torch.equal(a, b) for a, b in zip(leaves(found), wanted))


@pytest.mark.parametrize('name', tuple(OPTIONS))
def test_every_operator_runs_forward_and_backward(name):
    made, image = elastic(name), image_of(name)
    structure = made.net.structure
    for operator in made.operators():
        stages = tuple(tuple(offer[:1]) for offer in made.choices(operator))
        assert any(stages)
        variant = Variant(stages, len(structure.exits) - 1)
        answers = made.net(image, variant)
        assert [a.shape for a in answers] == [(len(image), 5)] * len(structure.exits)
        made.net.zero_grad(set_to_none=True)
        sum(a.square().mean() for a in answers).backward()
        read = part_names(made.net.plan(variant))
        got = {n for n in made.net.names() if made.net.tensor(n).grad is not None}
        assert read <= got
        assert all(torch.isfinite(made.net.tensor(n).grad).all() for n in got)
        if operator in FORMS:
            assert any('.%s.' % operator in n for n in got)
    made.net.zero_grad(set_to_none=True)


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_running_leaves_no_trace(name):
    made, image = fresh(name), image_of(name)
    variants = [made.net.whole(), *(random_variant(made, seed) for seed in range(5))]
    statistics = calibrate(made.net, variants, [image])
    first = [leaves(made.net(image, v, FixedNorms(statistics))) for v in variants]
    before = {k: v.clone() for k, v in made.net.state_dict().items()}
    attributes = {k: set(vars(m)) for k, m in made.net.named_modules()}
    for variant in variants[::-1]:
        made.net.train()
        made.net(image, variant)
        made.net.eval()
        made.net(image, variant, CollectingNorms())
    assert attributes == {k: set(vars(m)) for k, m in made.net.named_modules()}
    assert all(torch.equal(v, before[k]) for k, v in made.net.state_dict().items())
    for variant, answers in zip(variants, first):
        again = leaves(made.net(image, variant, FixedNorms(statistics)))
        assert all(torch.equal(a, b) for a, b in zip(again, answers))


def test_several_answers_keep_their_structure():
    net, image = elastic('detector').net, image_of('detector')
    (answer,) = net(image, net.whole())
    assert set(answer) == {'boxes', 'scores'}
    assert [type(v) for v in answer.values()] == [list, tuple]
    assert [tuple(t.shape[1:]) for t in leaves(answer)] == [
        (4, 16, 16), (4, 8, 8), (2, 16, 16), (2, 8, 8)]


@torch.no_grad()
def test_an_exit_sees_its_features_before_a_later_layer_works_in_place():
    made, image = elastic('preactivated').net, image_of('preactivated')
    statistics = backbone_statistics(made)
    early = Variant(((),), 0)
    alone = made(image, early, FixedNorms(statistics))[-1]
    assert torch.equal(made(image, made.whole(), FixedNorms(statistics))[0], alone)


def test_layers_that_are_kept_follow_the_mode():
    made = fresh('repeated').net
    dropouts = [m for m in made.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts
    image = image_of('repeated')
    made.train()
    assert not torch.equal(made(image, made.whole())[-1], made(image, made.whole())[-1])
    made.eval()
    assert torch.equal(made(image, made.whole())[-1], made(image, made.whole())[-1])


def test_a_new_supernet_is_in_training():
    made = make_elastic(network('repeated'), image_of('repeated')).net
    assert all(m.training for m in made.modules())


@pytest.mark.parametrize(('channels', 'padding', 'groups'), [(4, 0, 1), (6, 2, 1), (12, 0, 12)])
def test_a_strided_pointwise_layer_of_few_channels_is_what_torch_makes_of_it(
        channels, padding, groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 12, 1, 2, padding, groups=groups)
    network = nn.Sequential(nn.Conv2d(3, channels, 3, 1, 1), nn.ReLU(), layer, nn.ReLU(),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
    net = make_elastic(network, torch.zeros(2, 3, 9, 9)).net.eval()
    inputs = torch.randn(2, 3, 9, 9).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(net(inputs, net.whole())[-1], network(inputs), atol=1e-5)
