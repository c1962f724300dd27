# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='searching needs the extra train')
pytest.importorskip('pymoo', reason='searching needs the extra search')
import torch

from crowdhmt_ros.cli.main import main
from crowdhmt_ros.elastic.evolve.memo import Remembering
from crowdhmt_ros.elastic.evolve.zero_shot import Measured
from crowdhmt_ros.elastic.store import Reference, elastic_of, save_family
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import OperatorChoice, Variant, variant_from_json

BACKBONE = Reference('residual', 2, {'widths': [16, 24], 'blocks': 1, 'edge': 32})


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return elastic_of(BACKBONE, (1,))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for name, level in (('dark', 40), ('light', 200)):
        (folder / name).mkdir()
        for i in range(20):
            image = np.clip(rng.normal(level, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / ('%d.png' % i)), image)
    return folder


@pytest.fixture(scope='module')
def family(net, tmp_path_factory):
    path = tmp_path_factory.mktemp('family') / 'family.pt'
    save_family(net, path, backbone=BACKBONE)
    return path


def command(family, photos, out, *more):
    return ['search', str(family), '--data', str(photos), '--split', 'all',
            '--calibration', '8', '--held', '16', '--out', str(out), '--front', '4', '--budget',
            '24', '--population', '6', '--threads', '1', *more]


def test_one_command_writes_the_front(net, family, photos, tmp_path, capsys):
    out = tmp_path / 'front.json'
    assert main(command(family, photos, out)) == 0
    found = json.loads(out.read_text())
    assert found['format'] == 'crowdhmt-front'
    assert found['evaluations'] == 24
    assert int(found['searched']) <= 0.05 * int(found['variants'])
    assert 1 <= len(found['front']) <= 4
    costs = [entry['macs'] for entry in found['front']]
    assert costs == sorted(costs, reverse=True)
    for entry in found['front']:
        assert net.plan(variant_from_json(entry)).macs == entry['macs']
        assert 0.0 <= entry['accuracy']['value'] <= 1.0
        assert entry['accuracy']['count'] == 16
        assert entry['parameters'] > 0
    assert 'searching: 24 of 24' in capsys.readouterr().out


def test_a_search_that_was_cut_off_goes_on_to_the_same_front(family, photos, tmp_path, capsys):
    once, twice = tmp_path / 'once.json', tmp_path / 'twice.json'
    memo = tmp_path / 'once.json.measured'
    assert main(command(family, photos, once, '--whole-space')) == 0
    whole = memo.read_bytes()
    cut = tmp_path / 'cut'
    cut.write_bytes(whole[:len(whole) // 2])
    assert main(command(family, photos, twice, '--whole-space', '--memo',
                        str(cut))) == 0
    assert 'going on with' in capsys.readouterr().out
    assert twice.read_text() == once.read_text()
    assert cut.read_bytes() == whole


@pytest.mark.parametrize(('more', 'words'), [
    (('--held', '400'), '40 inputs in split all, 408 are asked for'),
    (('--budget', '1'), '--budget is 1; give at least 2'),
    (('--std', '0', '1', '1'), '--std above 0'),
    (('--layout', 'tape'), "no layout 'tape'"),
])
def test_what_cannot_be_used_is_said_in_one_line(family, photos, tmp_path, capsys, more, words):
    assert main(command(family, photos, tmp_path / 'front.json', *more)) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'front.json').exists()


def test_other_data_and_no_family_are_said(family, photos, tmp_path, capsys):
    (photos / 'third').mkdir()
    cv2.imwrite(str(photos / 'third' / '0.png'), np.zeros((16, 16, 3), np.uint8))
    assert main(command(family, photos, tmp_path / 'front.json')) == 2
    assert 'has 3 classes, the family has 2' in capsys.readouterr().err
    assert main(command(tmp_path / 'none.pt', photos, tmp_path / 'front.json')) == 2
    assert 'none.pt' in capsys.readouterr().err


class Counting:
    """Measures by counting."""

    net = None

    def __init__(self):
        self.calls = 0

    def measure(self, variant):
        self.calls += 1
        return Measured(float(self.calls), 0.5)


def cut_to(blocks):
    return Variant(((OperatorChoice('depth', (('blocks', blocks),)),),), 0)


def test_each_variant_is_measured_once_and_survives_the_process(tmp_path):
    first, second = Counting(), Counting()
    memo = Remembering(first, tmp_path / 'memo', 'this')
    assert memo.measure(cut_to(1)) == memo.measure(cut_to(1)) == (1.0, 0.5)
    with (tmp_path / 'memo').open('a') as file:
        file.write('{"stages": [[], [')  # killed while it wrote
    again = Remembering(second, tmp_path / 'memo', 'this')
    assert again.found == 1
    assert again.measure(cut_to(1)) == (1.0, 0.5)
    assert again.measure(cut_to(2)) == (1.0, 0.5)
    assert (first.calls, second.calls) == (1, 1)
    assert Remembering(Counting(), tmp_path / 'memo', 'this').found == 2


def test_figures_of_another_network_are_refused(tmp_path):
    Remembering(Counting(), tmp_path / 'memo', 'this')
    with pytest.raises(DataError, match='another network or other images'):
        Remembering(Counting(), tmp_path / 'memo', 'that')


@pytest.mark.parametrize('line', [
    'nonsense', '{}', '[]', '{"stages": [], "exit_index": 0, "loss": NaN, "accuracy": 1}'])
def test_a_damaged_memo_is_named(tmp_path, line):
    Remembering(Counting(), tmp_path / 'memo', 'this')
    with (tmp_path / 'memo').open('a') as file:
        file.write(line + '\n')
    with pytest.raises(DataError, match='memo is damaged .*; delete it to measure anew'):
        Remembering(Counting(), tmp_path / 'memo', 'this')
