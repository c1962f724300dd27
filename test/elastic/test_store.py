# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.scaling import InputScaling
from crowdhmt_ros.elastic.store import (
    Reference,
    elastic_of,
    load_family,
    load_tensors,
    save_family,
    take_over,
)
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import Variant

BACKBONE = Reference('residual', 3, {'widths': (16, 16), 'blocks': 1, 'edge': 64})
IMAGE = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return elastic_of(BACKBONE, (1,)).eval()


@pytest.fixture
def family(net, tmp_path):
    path = tmp_path / 'family.pt'
    save_family(net, path, backbone=BACKBONE)
    return path


def test_a_family_opens_again_and_answers_as_before(net, tmp_path):
    variant = Variant(((svd(0.5),), (svd(0.5),)), 1)
    statistics = calibrate(net, [variant], [IMAGE])
    save_family(net, tmp_path / 'family.pt', backbone=BACKBONE, statistics=statistics)
    opened, found, header = load_family(tmp_path / 'family.pt')
    assert header.backbone == BACKBONE
    assert opened.structure.exits == net.structure.exits
    answers = [n.eval()(IMAGE, variant, FixedNorms(s))
               for n, s in ((net, statistics), (opened, found))]
    assert all(torch.equal(a, b) for a, b in zip(*answers))


def test_the_scaling_of_inputs_goes_with_the_family_and_older_files_have_none(net, tmp_path):
    scaling = InputScaling((0.5, 0.25, 0.125), (1.0, 2.0, 4.0), 1 / 255)
    save_family(net, tmp_path / 'new.pt', backbone=BACKBONE, scaling=scaling)
    save_family(net, tmp_path / 'old.pt', backbone=BACKBONE)
    assert load_family(tmp_path / 'new.pt')[2].scaling == scaling
    assert 'scaling' not in torch.load(tmp_path / 'old.pt', weights_only=True)
    assert load_family(tmp_path / 'old.pt')[2].scaling is None


@pytest.mark.parametrize('said', [
    7, {}, {'mean': [0.0], 'std': [1.0]}, {'mean': [0.0], 'std': [1.0, 1.0], 'scale': 1.0},
    {'mean': [0.0], 'std': [0.0], 'scale': 1.0}, {'mean': ['x'], 'std': [1.0], 'scale': 1.0},
    {'mean': [], 'std': [], 'scale': 1.0}, {'mean': [0.0], 'std': [1.0], 'scale': float('nan')}])
def test_a_damaged_scaling_is_told(family, said):
    torch.save({**torch.load(family, weights_only=True), 'scaling': said}, family)
    with pytest.raises(DataError, match='scaling of inputs in .* is damaged'):
        load_family(family)


def test_nothing_but_the_file_is_left_behind(family):
    assert [p.name for p in family.parent.iterdir()] == ['family.pt']


class _Own(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.act = nn.PReLU(1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.act(self.body(x))).mean((2, 3))


def _own(width: int = 16, slope: float = 0.25):
    module = _Own(width)
    with torch.no_grad():
        module.act.weight.fill_(slope)
    return make_elastic(module, torch.zeros(2, 3, 16, 16)).net.eval()


def test_tensors_of_an_own_network_load_into_another_net_of_it(tmp_path):
    trained, fresh = _own(slope=0.5), _own()
    save_family(trained, tmp_path / 'own.pt')
    load_tensors(fresh, tmp_path / 'own.pt')
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(trained(image, trained.whole())[-1], fresh(image, fresh.whole())[-1])


def test_a_family_of_an_own_network_asks_for_that_network(tmp_path):
    save_family(_own(), tmp_path / 'own.pt')
    with pytest.raises(DataError, match='make that network elastic'):
        load_family(tmp_path / 'own.pt')


def test_tensors_of_another_network_change_nothing(tmp_path):
    other = _own(24)
    save_family(_own(16), tmp_path / 'own.pt')
    before = {name: other.tensor(name).detach().clone() for name in other.names()}
    with pytest.raises(DataError, match='belongs to another network: ') as caught:
        load_tensors(other, tmp_path / 'own.pt')
    assert '\n' not in str(caught.value)
    assert all(torch.equal(other.tensor(name), value) for name, value in before.items())


@pytest.mark.parametrize('content', [b'', b'no family', b'PK\x03\x04 cut short'])
def test_a_file_that_is_no_family_is_one_clear_error(tmp_path, content):
    path = tmp_path / 'family.pt'
    path.write_bytes(content)
    with pytest.raises(DataError, match='family') as caught:
        load_family(path)
    assert '\n' not in str(caught.value)


def test_a_family_that_was_cut_short_is_one_clear_error(family):
    family.write_bytes(family.read_bytes()[:-2000])
    with pytest.raises(DataError, match='damaged'):
        load_family(family)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match='cannot be read'):
        load_family(tmp_path / 'absent.pt')


class _Runs:
    def __reduce__(self):
        return (print, ('code of a family ran',))


def test_no_code_of_a_file_runs(tmp_path, capsys):
    torch.save({'family': 1, 'backbone': _Runs()}, tmp_path / 'family.pt')
    with pytest.raises(DataError, match='no file of a family'):
        load_family(tmp_path / 'family.pt')
    assert 'ran' not in capsys.readouterr().out


@pytest.mark.parametrize(('changed', 'hint'), [
    ({'family': 99}, 'version 99'),
    ({'tensors': None}, 'no file of a family'),
    ({'exits': None}, 'does not say what network'),
    ({'backbone': {'name': 'melted', 'classes': 3, 'options': {}}}, 'cannot be built'),
    ({'statistics': {'a@b': [torch.zeros(2)]}}, 'statistics of a@b'),
])
def test_a_file_with_odd_contents_is_one_clear_error(family, changed, hint):
    state = torch.load(family, weights_only=True)
    torch.save({**state, **changed}, family)
    with pytest.raises(DataError, match=hint):
        load_family(family)


def test_a_net_takes_over_the_features_of_a_family_with_other_classes(net):
    torch.manual_seed(1)
    finer = elastic_of(replace(BACKBONE, classes=5), (1,))
    own = {name: finer.tensor(name).clone() for name in finer.names()}
    left = take_over(finer, net)
    assert set(left) == {'classifier.weight', 'classifier.bias', 'exits.0.weight', 'exits.0.bias'}
    for name in finer.names():
        source = own[name] if name in left else net.tensor(name)
        assert torch.equal(finer.tensor(name), source)
