# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.teaching.tuning import LearningNorms, tune
from crowdhmt_ros.elastic.transformation import calibrate

from .small import batches, family, tensors


@pytest.fixture(scope='module')
def tuned():
    net = family().eval()
    sampler = Sampler(net, (1, 2, 3, 4, 5, 6))
    members = [sampler.alone(name, -1) for name in ('channel', 'ghost', 'svd')]
    given = [(inputs, labels) for _, inputs, labels in itertools.islice(
        batches().epoch(Draw(0, 0, 16)), 6)] * 4
    measured = calibrate(net, [net.whole(), *members], [inputs for inputs, _ in given[:6]])
    before = tensors(net)
    return net, members, given, measured, before, tune(
        net, members, measured, given, hard_share=0.0)


def _distance(net, variant, statistics, given):
    """Cross entropy of a variant's answers against the whole network's."""
    norms, total = FixedNorms(statistics), 0.0
    with torch.no_grad():
        for inputs, _ in given[:6]:
            teacher = F.softmax(net(inputs, net.whole(), norms, every_exit=False)[-1], 1)
            scores = net(inputs, variant, norms, every_exit=False)[-1]
            total -= float((teacher * F.log_softmax(scores, 1)).sum())
    return total


def test_members_come_nearer_to_the_whole_network(tuned):
    net, members, given, measured, _, found = tuned
    for member in members:
        assert _distance(net, member, found, given) < _distance(net, member, measured, given)


def test_neither_tensors_nor_the_whole_network_move(tuned):
    net, _, given, measured, before, found = tuned
    assert all(torch.equal(value, before[name]) for name, value in tensors(net).items())
    assert all(parameter.requires_grad for parameter in net.parameters())
    answers = [net(given[0][0], net.whole(), FixedNorms(s), every_exit=False)[-1]
               for s in (measured, found)]
    assert torch.equal(*answers)


def test_statistics_stay_what_a_normalisation_can_have(tuned):
    *_, measured, _, found = tuned
    assert found.keys() == measured.keys()
    assert all(bool((variance > 0).all()) and mean.dtype == torch.float64
               for mean, variance in found.values())


def test_what_has_not_learnt_yet_normalises_as_measured(tuned):
    net, members, given, measured, *_ = tuned
    with torch.no_grad():
        fixed, learning = (net(given[0][0], members[0], norms, every_exit=False)[-1] for norms in (
            FixedNorms(measured), LearningNorms(measured, set(measured))))
    assert torch.allclose(fixed, learning, atol=1e-5)
