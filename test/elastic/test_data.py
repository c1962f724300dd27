# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdhmt_ros.elastic import data
from crowdhmt_ros.errors import DataError

CLASSES = ('pedestrian', 'bicycle', 'car', 'building', 'green_space', 'bird', 'other')


def _archive(path: Path, names, per_class: int = 2, **changed) -> None:
    blobs, labels = [], []
    for y in range(len(names)):
        for k in range(per_class):
            image = np.full((32, 32, 3), 2 * y + k, np.uint8)
            blobs.append(cv2.imencode('.png', image)[1].ravel())
            labels.append(y)
    content = {'blob': np.concatenate(blobs), 'y': np.array(labels, np.uint8),
               'offsets': np.cumsum([0] + [len(b) for b in blobs]), 'classes': np.array(names)}
    content.update(changed)
    np.savez(path, **content)


def _folder(tmp_path: Path) -> Path:
    for name, mapping in data.TRAIN_FILES:
        _archive(tmp_path / name, [n for names in mapping.values() for n in names] + ['left_out'])
    return tmp_path


def test_mapping_takes_every_mapped_class_and_no_other(tmp_path):
    images = data.load_photos(_folder(tmp_path), CLASSES, train=True)
    wanted = {c: 2 * sum(len(m.get(c, ())) for _, m in data.TRAIN_FILES) for c in CLASSES}
    assert wanted == {'pedestrian': 10, 'bicycle': 2, 'car': 4, 'building': 6, 'green_space': 12,
                      'bird': 2, 'other': 84}
    counted = np.bincount(images.labels, minlength=len(CLASSES))
    assert dict(zip(CLASSES, counted)) == wanted
    assert images.pixels.shape == (len(images.labels), 64, 64, 3)


def test_no_photo_class_stands_for_two_classes():
    for _, mapping in data.TRAIN_FILES:
        names = [n for members in mapping.values() for n in members]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(('changed', 'hint'), [
    ({'offsets': np.array([0, 5])}, 'offsets for'),
    ({'offsets': np.full(11, 3)}, 'ascend'),
    ({'y': np.full(10, 99, np.uint8)}, 'a label beyond'),
    ({'blob': np.zeros(10 ** 5, np.uint8)}, 'cannot be decoded'),
    ({'classes': np.array(['a', 'b', 'c', 'd', 'e'])}, 'lacks the classes'),
])
def test_malformed_archive_is_one_clear_error(tmp_path, changed, hint):
    name, mapping = data.TRAIN_FILES[0]
    _archive(tmp_path / name, [n for names in mapping.values() for n in names], **changed)
    with pytest.raises(DataError, match=hint) as caught:
        data.load_photos(tmp_path, CLASSES, train=True)
    assert name in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'no archive', b'PK\x03\x04 cut short'])
def test_file_that_is_no_archive_is_one_clear_error(tmp_path, content):
    (tmp_path / data.TRAIN_FILES[0][0]).write_bytes(content)
    with pytest.raises(DataError, match='copy the file again'):
        data.load_photos(tmp_path, CLASSES, train=True)


def test_missing_file_names_the_option(tmp_path):
    with pytest.raises(DataError, match='--data or CROWDHMT_DATA'):
        data.load_photos(tmp_path, CLASSES, train=True)


def test_draw_is_balanced_and_uses_images_evenly():
    labels = np.array([0] * 10 + [1] * 50, np.int64)
    images = data.Images(np.zeros((60, 2, 2, 3), np.uint8), labels)
    drawn = data.balanced_draw(images, 80, np.random.default_rng(0), (1.0, 1.0, 1.0))
    assert np.bincount(labels[drawn]).tolist() == [40, 40]
    assert set(np.bincount(drawn, minlength=60)[:10]) == {4}


def test_batches_are_a_function_of_seed_and_epoch():
    images = data.Images(np.zeros((30, 2, 2, 3), np.uint8), np.arange(30) % 3)
    mixture = data.Mixture(images, images, 12, 12, (1.0, 1.0, 1.0))
    first = [(d.tolist(), i.tolist()) for _, d, i in data.batches(mixture, 4, 3, 1)]
    again = [(d.tolist(), i.tolist()) for _, d, i in data.batches(mixture, 4, 3, 1)]
    later = [(d.tolist(), i.tolist()) for _, d, i in data.batches(mixture, 4, 3, 2)]
    assert first == again
    assert first != later
    assert len(first) == 6


def test_variation_keeps_shape_and_range():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    varied = data.augmented_batch(pixels, 48, rng)
    assert varied.shape == (5, 48, 48, 3)
    assert varied.dtype == np.float32
    assert 0.0 <= varied.min() <= varied.max() <= 255.0


@pytest.mark.data
def test_real_test_photos_cover_every_class():
    folder = os.environ.get('CROWDHMT_DATA')
    if not folder:
        pytest.skip('CROWDHMT_DATA is not set: no real photos at hand')
    images = data.load_photos(Path(folder), CLASSES, train=False)
    counted = dict(zip(CLASSES, np.bincount(images.labels, minlength=len(CLASSES))))
    assert counted == {'pedestrian': 250, 'bicycle': 50, 'car': 550, 'building': 150,
                       'green_space': 300, 'bird': 500, 'other': 3450}
