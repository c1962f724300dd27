# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.campus.scene import CLASSES  # noqa: E402
from crowdhmt_ros.cli import campus7  # noqa: E402
from crowdhmt_ros.cli.main import main  # noqa: E402
from crowdhmt_ros.elastic.data import Images  # noqa: E402
from crowdhmt_ros.elastic.slim_net import stages_of  # noqa: E402


def _grey(value: int, count: int = 4) -> Images:
    return Images(np.full((count, 8, 8, 3), value, np.uint8), np.zeros(count, np.int64))


def test_front_fits_the_network_and_uses_both_exits():
    front = campus7.front()
    assert len({stages_of(campus7.backbone(), v) for v in front.values()}) == len(front) >= 5
    assert {v.exit_index for v in front.values()} == {0, 1}


def test_balanced_accuracy_counts_each_class_once():
    labels = np.array([0] * 8 + [1] * 2)
    answers = np.array([0] * 8 + [0, 1])
    assert campus7.balanced_accuracy(answers, labels) == pytest.approx(0.75)


def test_luminance_bands_part_the_range_between_the_lights():
    bands = campus7.luminance_bands(
        {'noon': _grey(180), 'afternoon': _grey(120), 'dusk': _grey(40)})
    assert bands['dusk'][0] == 0.0
    assert bands['dusk'][1] == bands['afternoon'][0]
    assert bands['afternoon'][1] == bands['noon'][0]
    assert bands['noon'][1] == 1.0
    assert 40 / 255 < bands['dusk'][1] < 120 / 255 < bands['noon'][0] < 180 / 255


def test_luminance_bands_stay_apart_when_the_lights_do_not():
    bands = campus7.luminance_bands(
        {'noon': _grey(90), 'afternoon': _grey(120), 'dusk': _grey(130)})
    assert all(low < high for low, high in bands.values())


def test_rendered_scenes_are_balanced_and_come_from_the_cache(tmp_path):
    count = 2 * len(CLASSES)
    reports = []
    first = campus7.scenes(3, 'noon', count, tmp_path, lambda *a: reports.append(a))
    again = campus7.scenes(3, 'noon', count, tmp_path, lambda *a: pytest.fail('rendered again'))
    assert reports == [(1, 1)]
    assert np.array_equal(first.pixels, again.pixels)
    assert np.bincount(first.labels).tolist() == [2] * len(CLASSES)
    other = campus7.scenes(4, 'noon', count, tmp_path, lambda *a: None)
    assert not np.array_equal(first.pixels, other.pixels)


def test_training_without_data_says_what_to_name(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv('CROWDHMT_DATA', raising=False)
    assert main(['train', 'campus7', '--out', str(tmp_path / 'b')]) == 2
    assert 'CROWDHMT_DATA' in capsys.readouterr().err


def test_training_without_photos_names_the_missing_file(capsys, tmp_path):
    arguments = ['train', 'campus7', '--out', str(tmp_path / 'b'), '--data', str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert 'cifar10_train5k.npz is missing' in error
    assert not (tmp_path / 'b').exists()
