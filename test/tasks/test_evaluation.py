# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracies of variants."""
from types import SimpleNamespace

import pytest
import torch

from crowdhmt_ros.elastic.backbones.resnet import residual
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import DataError, ExportError
from crowdhmt_ros.tasks.evaluation import accuracies, accuracy_of, answers, outputs_of
from crowdhmt_ros.types import OperatorChoice, Variant


def narrow(ratio):
    return (OperatorChoice('channel', (('ratio', ratio),)),)


@pytest.fixture(scope='module')
def family():
    torch.manual_seed(0)
    net = make_elastic(residual(4, widths=(8, 16), edge=32), torch.zeros(2, 3, 16, 16)).net
    variants = {'full': net.whole(), 'half': Variant((narrow(0.5),) * 2, 1),
                'early': Variant(((),), 0)}
    inputs = torch.randn(30, 3, 16, 16)
    return net, variants, calibrate(net, variants.values(), [inputs]), inputs


def test_a_variant_is_right_where_the_supernet_says_the_label(family):
    net, variants, statistics, inputs = family
    net.eval()
    labels = net(inputs, variants['half'], FixedNorms(statistics))[-1].argmax(1)
    labels[:6] = (labels[:6] + 1) % 4
    found = accuracies(net, variants, statistics, SimpleNamespace(inputs=inputs, labels=labels))
    assert found['half'] == pytest.approx(0.8)
    assert set(found) == set(variants)


def test_the_size_of_a_batch_makes_no_difference(family):
    net, variants, statistics, inputs = family
    whole = answers(net, variants['full'], statistics, inputs, batch=30)
    parts = answers(net, variants['full'], statistics, inputs, batch=7)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_every_exit_answers_the_own_one_last(family):
    net, variants, statistics, inputs = family
    net.train()
    scores = outputs_of(net, variants['full'], statistics, inputs, batch=8)
    assert [tuple(s.shape) for s in scores] == [(30, 4), (30, 4)]
    own = answers(net, variants['full'], statistics, inputs)
    early = answers(net, variants['early'], statistics, inputs)
    assert torch.allclose(scores[-1], own, atol=1e-4)
    assert torch.allclose(scores[0], early, atol=1e-4)
    assert net.training


def test_missing_statistics_are_an_error(family):
    net, variants, _, inputs = family
    with pytest.raises(ExportError, match='calibrate'):
        accuracies(net, variants, {}, SimpleNamespace(
            inputs=inputs, labels=torch.zeros(30, dtype=torch.int64)))


def test_balanced_accuracy_counts_each_class_that_is_there_alike():
    scores = torch.eye(3)[[0, 0, 0, 0]]
    labels = torch.tensor([0, 0, 0, 2])
    assert accuracy_of(scores, labels) == pytest.approx(0.75)
    assert accuracy_of(scores, labels, balanced=True) == pytest.approx(0.5)


@pytest.mark.parametrize(('inputs', 'labels'), [(0, 0), (3, 2)])
def test_inputs_without_labels_are_refused(family, inputs, labels):
    net, variants, statistics, _ = family
    with pytest.raises(DataError, match='%d inputs and %d labels' % (inputs, labels)):
        accuracies(net, variants, statistics, SimpleNamespace(
            inputs=torch.zeros(inputs, 3, 16, 16),
            labels=torch.zeros(labels, dtype=torch.int64)))
