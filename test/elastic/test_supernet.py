# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, Variant

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
