# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.datasets import LogMel  # noqa: E402
from crowdhmt_ros.elastic.store import Reference  # noqa: E402
from crowdhmt_ros.elastic.teaching.batches import Draw  # noqa: E402
from crowdhmt_ros.errors import ConfigError, DataError  # noqa: E402
from crowdhmt_ros.tasks.material import folds_of, open_material  # noqa: E402
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from test.datasets import trees  # noqa: E402
from test.tasks.small import task_file, windows  # noqa: E402

TWO = Task('two', DataPlan('train*.npz', 'test*.npz', held_back_ratio=0.25),
           Reference('resnet18', 2, {'width': 8, 'edge': 32}), (3,), 'cifar100',
           normalisation=InputScaling((0.5,) * 3, (0.25,) * 3))


@pytest.fixture
def images(tmp_path):
    trees.images_npz(tmp_path / 'train_two.npz', 40)
    trees.images_npz(tmp_path / 'test_two.npz', 12)
    return tmp_path


@pytest.fixture
def small(tmp_path):
    return read_task(task_file(tmp_path))


def _inputs(material):
    """Return every training input as bytes."""
    (_, x, _), = material.train.epoch(Draw(0, 0, material.train.steps(1)))
    return {row.numpy().tobytes() for row in x}


def test_what_is_held_back_is_of_the_training_part_and_of_each_class_alike(images):
    material = open_material(TWO, images)
    assert material.train.steps(1) == 30
    assert material.held_back.labels.bincount().tolist() == [5, 5]
    assert material.test.labels.bincount().tolist() == [6, 6]
    held = {row.numpy().tobytes() for row in material.held_back.inputs}
    assert len(held) == 10
    assert not held & _inputs(material)


def test_another_seed_holds_others_back_and_the_same_one_the_same(images):
    parts = [open_material(TWO, images, seed=seed).held_back.inputs for seed in (0, 0, 1)]
    assert torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[0], parts[2])


def test_nothing_need_be_held_back(images):
    task = replace(TWO, data=replace(TWO.data, held_back_ratio=0.0))
    material = open_material(task, images)
    assert len(material.held_back) == 0
    assert material.train.steps(1) == 40


def test_a_limit_takes_each_class_alike_whatever_the_seed(images):
    task = replace(TWO, data=replace(TWO.data, limit=9, held_back_ratio=0.0))
    first, other = (open_material(task, images, seed=seed) for seed in (0, 1))
    assert first.train.identity == other.train.identity
    assert sorted(first.train.labels.tolist()) == [0] * 5 + [1] * 4
    assert open_material(task, images, limit=0).train.steps(1) == 40


def test_pixels_are_scaled_as_the_task_says(images):
    material = open_material(TWO, images)
    assert material.scaling == InputScaling((0.5,) * 3, (0.25,) * 3, 1.0 / 255.0)
    assert material.test.inputs.shape == (12, 3, 32, 32)
    # Image 0 is black: (0 / 255 - 0.5) / 0.25.
    assert torch.allclose(material.test.inputs[0], torch.tensor(-2.0), atol=1e-4)


def test_a_folder_that_is_the_data_itself_will_do(tmp_path):
    task = replace(TWO, backbone=Reference('resnet18', 100, {'width': 8, 'edge': 32}),
                   data=replace(TWO.data, held_back_ratio=0.5))
    material = open_material(task, trees.cifar100(tmp_path))
    assert (material.train.steps(1), len(material.test)) == (100, 100)


def test_subjects_of_the_test_part_neither_train_nor_calibrate(small, tmp_path):
    material = open_material(small, tmp_path, held_out=['2', '4'])
    assert (material.train.steps(1), len(material.held_back), len(material.test)) == (48, 24, 48)
    assert '2 subjects' in material.described


def test_windows_are_scaled_by_constants_of_the_training_part(small, tmp_path):
    material = open_material(small, tmp_path)
    x = torch.cat([*material.train.unvaried(9, 16, 0)])
    assert x.shape[1:] == (3, 32)
    assert torch.allclose(x.mean((0, 2)), torch.zeros(3), atol=1e-3)
    assert len(material.scaling.mean) == 3


def test_folds_hold_each_subject_once(small, tmp_path):
    assert folds_of(small, tmp_path) == (('1', '3', '5'), ('2', '4'))
    single = replace(small, data=replace(small.data, folds=0))
    assert len(folds_of(single, tmp_path)) == 5


def test_data_without_groups_has_no_folds(images):
    with pytest.raises(DataError, match='neither folds nor subjects'):
        folds_of(replace(TWO, data=replace(TWO.data, test='train*.npz')), images)


def test_spectrograms_are_computed_once_for_all_folds(tmp_path, monkeypatch):
    data = trees.esc(tmp_path / 'esc')
    spec = {'rate_hz': 8000, 'clip_s': 1.0, 'bands': 16, 'window': 256, 'hop': 256,
            'high_hz': 4000.0}
    shape = LogMel(**spec).shape
    task = Task('sounds', DataPlan('', '', options={'spectrogram': spec}, held_back_ratio=0.0),
                Reference('spectrogram_cnn', 2, {'mels': shape[1], 'frames': shape[2],
                                                 'width': 8}), (3,), 'esc10')
    cache = tmp_path / 'cache'
    first = open_material(task, data, held_out=['1'], cache_dir=cache)
    plain = open_material(task, data, held_out=['2'])

    def never(*_):
        raise AssertionError('computed again')

    monkeypatch.setattr(LogMel, 'apply', never)
    again = open_material(task, data, held_out=['2'], cache_dir=cache)
    assert torch.equal(again.test.inputs, plain.test.inputs)
    assert first.test.inputs.shape == (2, *shape)


def test_a_damaged_cache_of_spectrograms_is_written_anew(tmp_path):
    data = trees.esc(tmp_path / 'esc')
    task = Task('sounds', DataPlan('', '', held_back_ratio=0.0),
                Reference('spectrogram_cnn', 2, {'mels': 64, 'frames': 155, 'width': 8}), (3,),
                'esc10')
    cache = tmp_path / 'cache'
    whole = open_material(task, data, cache_dir=cache).test.inputs
    path, = cache.rglob('*.npy')
    path.write_bytes(path.read_bytes()[:200])
    assert torch.equal(open_material(task, data, cache_dir=cache).test.inputs, whole)
    assert np.load(path).shape[1:] == (1, 64, 155)


def test_photos_of_drivers_are_held_out_by_driver(tmp_path):
    data = trees.statefarm(tmp_path)
    task = read_task('statefarm')
    material = open_material(task, data, held_out=['p012'])
    assert len(material.test) == 10
    assert material.test.labels.tolist() == list(range(10))
    assert (material.train.steps(1), len(material.held_back)) == (30, 10)


def test_missing_and_ambiguous_files_are_told_apart(images):
    with pytest.raises(DataError, match=r'has no other\*\.npz and is no data set itself'):
        open_material(replace(TWO, data=replace(TWO.data, train='other*.npz')), images)
    trees.images_npz(images / 'train_three.npz')
    with pytest.raises(DataError, match='train_three.npz, train_two.npz, the task takes one'):
        open_material(TWO, images)
    with pytest.raises(DataError, match='does not exist'):
        open_material(TWO, images / 'nowhere')


@pytest.mark.parametrize(('change', 'told'), [
    ({'backbone': Reference('resnet18', 3, {'width': 8, 'edge': 32})}, 'for 3 classes'),
    ({'backbone': Reference('resnet18', 2, {'width': 8, 'edge': 64})}, 'resnet18 takes 3x64x64'),
    ({'variation': 'window'}, 'variation window is for inputs of kind window'),
    ({'normalisation': InputScaling((0.5,), (0.5,))}, '1 means, inputs have 3 channels'),
    ({'data': replace(TWO.data, held_back_by='groups')}, 'but the data has none'),
    ({'data': replace(TWO.data, options={'spectrogram': {'pitch': 3}})}, 'do not fit')])
def test_a_task_that_does_not_fit_its_data_is_refused(images, change, told):
    with pytest.raises((ConfigError, DataError), match=told):
        open_material(replace(TWO, **change), images)


def test_a_file_with_several_subjects_may_be_named_itself(small, tmp_path):
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    assert len(open_material(small, windows(folder / 'own.npz')).test) == 24
