# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

pytest.importorskip('pymoo', reason='pymoo is not installed (extra search)')
from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.evolve.generate import generate
from crowdhmt_ros.elastic.evolve.reduce import Limits, reduce_space
from crowdhmt_ros.elastic.evolve.zero_shot import ZeroShot
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import OperatorChoice, Variant

LIMITS = Limits(cost_bins=2, per_group=1, measured=10, kept=6)


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    module = residual(4, widths=(16, 24), blocks=1, edge=64)
    return make_elastic(module, torch.zeros(2, 3, 16, 16)).net


@pytest.fixture(scope='module')
def zero_shot(net):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(48, 3, 16, 16, generator=generator)
    labels = ZeroShot(net, [images], [images], [torch.zeros(48)]).logits(net.whole()).argmax(1)
    return ZeroShot(net, [images], [images[:24], images[24:]], [labels[:24], labels[24:]])


@pytest.fixture(scope='module')
def reduced(net, zero_shot):
    return reduce_space(generate(net), zero_shot, LIMITS)


def test_accuracy_is_the_share_of_right_answers(net, zero_shot):
    cut = OperatorChoice('channel', (('ratio', 0.25),))
    assert zero_shot.measure(net.whole()) == (pytest.approx(0.0, abs=1e-9), 1.0)
    found = zero_shot.measure(Variant(((cut,), (cut,)), 1))
    assert 0.0 <= found.accuracy < 1.0
    assert found.loss > 0.0
    assert zero_shot.count == 48


def test_measuring_leaves_the_network_as_it_was(net, zero_shot):
    net.train()
    before = {n: net.tensor(n).detach().clone() for n in net.names()}
    zero_shot.measure(net.whole())
    assert net.training
    assert all(torch.equal(before[n], net.tensor(n)) for n in net.names())


def test_no_labels_or_none_for_all_images_are_refused(net):
    images = torch.zeros(2, 3, 16, 16)
    with pytest.raises(DataError, match='no images to measure on'):
        ZeroShot(net, [images], [images], [torch.zeros(1)])
    with pytest.raises(DataError, match='no images to measure on'):
        ZeroShot(net, [], [images], [torch.zeros(2)])


def test_the_reduced_space_is_a_small_part_with_the_whole_network_in_it(net, reduced):
    assert reduced.ratio <= 0.05
    assert reduced.ratio == reduced.space.size / reduced.whole
    assert net.whole() in reduced.space
    assert all(len(options) <= LIMITS.kept for options in reduced.space.stages)


def test_what_survives_stems_from_the_whole_space(net, reduced):
    whole = generate(net)
    for small, large in zip(reduced.space.stages, whole.stages):
        assert set(small) <= set(large)
        assert len({o.operators for o in small}) > 1


def test_combinations_are_measured_one_stage_at_a_time_and_counted(net, reduced):
    singles = sum(len(generate(net, 1).stages[i]) for i in range(2))
    measured = sum(map(len, reduced.scores))
    assert measured <= 2 * (LIMITS.measured + 1)
    assert reduced.evaluations >= measured + singles - 2
    assert all(s.loss == pytest.approx(0.0, abs=1e-6) and s.expected == 0.0
               for s in (stage[0] for stage in reduced.scores))


def test_reducing_is_repeatable_and_shows_progress(net, zero_shot, reduced):
    told = []
    again = reduce_space(generate(net), zero_shot, LIMITS, lambda d, t: told.append((d, t)))
    assert again == reduced
    assert told[-1] == (again.evaluations, again.evaluations)
