# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks exported with their early exits, and taken apart at these."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from crowdhmt_ros.elastic.export import export_family
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.compare import run_model
from crowdhmt_ros.graph.split import Reference, border_of, steps
from crowdhmt_ros.types import Variant

from .networks import elastic, image_of

NAMES = ('resnet18', 'mobilenet_v2', 'motion_cnn', 'vision_transformer', 'preactivated', 'gated')


def exported(name, variant=None, early=None):
    net, image = elastic(name).net, image_of(name)
    variant = variant or net.whole()
    statistics = calibrate(net, [variant], [image])
    early = tuple(range(variant.exit_index)) if early is None else early
    family = export_family(net, {'v': variant}, statistics, image[:1], half=False,
                           early={'v': early})
    with torch.no_grad():
        wanted = net(image[:1], variant, FixedNorms(statistics))
    return family.graphs[0], [w.numpy() for w in wanted], {'image': image[:1].numpy()}


def close(found, wanted):
    return np.abs(found - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize('name', NAMES)
def test_each_exit_answers_as_in_the_supernet(name):
    graph, wanted, given = exported(name)
    found = run_model(graph.model, given)
    assert [o.name for o in graph.model.graph.output] == ['logits', *graph.exits.values()]
    assert sorted(graph.exits) == list(range(len(wanted) - 1))
    assert close(found['logits'], wanted[-1])
    assert all(close(found[output], wanted[e]) for e, output in graph.exits.items())


@pytest.mark.parametrize('name', NAMES)
def test_step_by_step_it_computes_what_the_whole_does(name):
    graph, _, given = exported(name)
    chain = steps(graph.model, list(graph.exits.values()))
    assert [border for border, _ in chain[:-1]] == [
        border_of(graph.model, output) for output in graph.exits.values()]
    Reference(graph.model).check([model for _, model in chain], 1e-5)
    for (border, model), output in zip(chain, graph.exits.values()):
        assert [o.name for o in model.graph.output] == [output, border]
    assert [o.name for o in chain[-1][1].graph.output] == ['logits']


def test_the_first_step_leaves_out_what_lies_behind_its_exit():
    graph, wanted, given = exported('resnet18', early=(1,))
    (_, head), (_, tail) = steps(graph.model, ['exit1'])
    assert len(head.graph.node) < len(graph.model.graph.node)
    assert close(run_model(head, given)['exit1'], wanted[1])
    assert not {n.name for n in head.graph.node} & {n.name for n in tail.graph.node}


def test_an_exit_that_is_not_asked_for_is_not_in_the_graph():
    graph, _, _ = exported('resnet18', early=(0, 2))
    assert list(graph.exits) == [0, 2]
    assert [o.name for o in graph.model.graph.output] == ['logits', 'exit0', 'exit2']


def test_a_variant_that_ends_early_may_answer_earlier_still():
    variant = Variant(((channel(0.5),), (channel(0.5),)), 1)
    graph, wanted, given = exported('resnet18', variant)
    found = run_model(graph.model, given)
    assert close(found['logits'], wanted[-1])
    assert close(found['exit0'], wanted[0])


def test_weights_of_exits_are_shared_with_the_family():
    graph, _, _ = exported('resnet18')
    tensors = {r.tensor for r in graph.recipes.values()}
    assert {'exits.0.weight', 'exits.1.weight', 'exits.2.weight'} <= tensors


@pytest.mark.parametrize('early', [(3,), (-1,), (0, 7)])
def test_an_exit_that_is_not_there_is_refused(early):
    net, image = elastic('resnet18').net, image_of('resnet18')
    statistics = calibrate(net, [net.whole()], [image])
    with pytest.raises(ExportError, match='early exit'):
        extract(net, net.whole(), statistics, early=early)


def test_the_own_exit_of_an_early_variant_is_no_early_exit_of_it():
    net, image = elastic('resnet18').net, image_of('resnet18')
    variant = Variant(((), ()), 1)
    statistics = calibrate(net, [variant], [image])
    with pytest.raises(ExportError, match='early exit'):
        extract(net, variant, statistics, early=(1,))


def test_exits_in_another_order_than_computed_are_refused():
    graph, _, _ = exported('resnet18')
    with pytest.raises(ExportError):
        steps(graph.model, ['exit1', 'exit0'])


@pytest.mark.parametrize('output', ['logits', 'nothing'])
def test_what_is_no_early_answer_has_no_border(output):
    graph, _, _ = exported('resnet18', early=(0,))
    with pytest.raises(ExportError, match='early answer'):
        border_of(graph.model, output)
