# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The example of docs/adding_an_operator.md, taken from the page and used."""
from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.export import to_onnx
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import CollectingNorms, FixedNorms
from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.types import OperatorChoice, Variant

PAGE = Path(__file__).parents[2] / 'docs' / 'adding_an_operator.md'
CENTRE = OperatorChoice('centre', ())


@pytest.fixture(name='elastic')
def _elastic(monkeypatch):
    """Return a network with the page's operator entered in the table."""
    module = types.ModuleType('centre_of_the_page')
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (code,) = re.findall(r'```python\n(.*?)```', PAGE.read_text(encoding='utf-8'), re.DOTALL)
    exec(compile(code, str(PAGE), 'exec'), module.__dict__)
    form = module.Centre()
    monkeypatch.setitem(FORMS, form.name, form)
    monkeypatch.setitem(OPERATORS, form.name, form)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(),
        nn.Conv2d(24, 24, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 5))
    return make_elastic(net, torch.randn(2, 3, 16, 16))


def variant(elastic, *choices):
    structure = elastic.net.structure
    return Variant((choices,) * len(structure.stages), len(structure.exits) - 1)


def test_it_is_offered_where_it_applies_and_refused_with_the_reason(elastic):
    assert 'centre' in elastic.operators()
    refused = {a.layer: a.reason for a in elastic.left_alone if a.what == 'centre'}
    assert set(refused) == {'9', '13'}
    assert 'not save work' in refused['9']


def test_it_saves_work_and_combines_with_other_operators(elastic):
    narrow = OperatorChoice('channel', (('ratio', 0.5),))
    whole, formed, both = (elastic.net.plan(variant(elastic, *c)).macs
                           for c in ((), (CENTRE,), (CENTRE, narrow)))
    assert both < formed < whole / 4


def test_it_learns(elastic):
    torch.manual_seed(1)
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 5
    optimizer = torch.optim.SGD(elastic.net.parameters(), lr=0.1)
    tensor = elastic.net.tensor('3.centre.weight')
    before, losses = tensor.detach().clone(), []
    for _ in range(5):
        scores = elastic.net(images, variant(elastic, CENTRE))[-1]
        loss = nn.functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert not torch.equal(before, tensor)


def test_it_is_exported_as_it_computes(elastic):
    runtime = pytest.importorskip('onnxruntime')
    net, wanted = elastic.net.eval(), variant(elastic, CENTRE)
    images, collecting = torch.randn(16, 3, 16, 16), CollectingNorms()
    with torch.no_grad():
        net(images, wanted, collecting)
        statistics = collecting.statistics()
        scores = net(images[:1], wanted, FixedNorms(statistics))[-1]
    model = to_onnx(extract(net, wanted, statistics).module, images[:1])
    session = runtime.InferenceSession(model.SerializeToString(),
                                       providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {session.get_inputs()[0].name: images[:1].numpy()})
    assert np.abs(found - scores.numpy()).max() < 1e-4
