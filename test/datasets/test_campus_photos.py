# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdhmt_ros.datasets import campus_photos
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
    for name, mapping in campus_photos.TRAIN_FILES:
        _archive(tmp_path / name, [n for names in mapping.values() for n in names] + ['left_out'])
    return tmp_path


def test_mapping_takes_every_mapped_class_and_no_other(tmp_path):
    photos = campus_photos.load_photos(_folder(tmp_path), CLASSES, train=True)
    wanted = {c: 2 * sum(len(m.get(c, ())) for _, m in campus_photos.TRAIN_FILES)
              for c in CLASSES}
    assert wanted == {'pedestrian': 10, 'bicycle': 2, 'car': 4, 'building': 6, 'green_space': 12,
                      'bird': 2, 'other': 84}
    counted = np.bincount(photos.labels, minlength=len(CLASSES))
    assert dict(zip(CLASSES, counted)) == wanted
    pixels, labels = photos.take(range(len(photos)))
    assert pixels.shape == (len(labels), 64, 64, 3)
    assert photos.classes == CLASSES


def test_a_photo_is_stretched_as_on_the_robot_and_is_red_green_blue(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    for name, mapping in campus_photos.TRAIN_FILES:
        names = [n for members in mapping.values() for n in members]
        blob = cv2.imencode('.png', image)[1].ravel()
        np.savez(tmp_path / name, blob=np.concatenate([blob] * len(names)),
                 y=np.arange(len(names)), offsets=len(blob) * np.arange(len(names) + 1),
                 classes=np.array(names))
    found, _ = campus_photos.load_photos(tmp_path, CLASSES, train=True).item(0)
    wanted = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)[..., ::-1]
    assert np.array_equal(found, wanted)


def test_a_limit_takes_photos_evenly_from_each_file(tmp_path):
    photos = campus_photos.load_photos(_folder(tmp_path), CLASSES, train=True, limit=5)
    assert 10 <= len(photos) <= 12
    assert len(set(photos.labels.tolist())) > 3


def test_no_photo_class_stands_for_two_classes():
    for _, mapping in campus_photos.TRAIN_FILES:
        names = [n for members in mapping.values() for n in members]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(('changed', 'hint'), [
    ({'offsets': np.array([0, 5])}, 'offsets for'),
    ({'offsets': np.arange(11)[::-1].copy()}, 'ascend'),
    ({'y': np.full(10, 99, np.uint8)}, 'label 99'),
    ({'blob': np.zeros(10 ** 5, np.uint8)}, 'cannot be decoded'),
    ({'classes': np.array(['a', 'b', 'c', 'd', 'e'])}, 'lacks the classes'),
])
def test_malformed_archive_is_one_clear_error(tmp_path, changed, hint):
    name, mapping = campus_photos.TRAIN_FILES[0]
    _archive(tmp_path / name, [n for names in mapping.values() for n in names], **changed)
    with pytest.raises(DataError, match=hint) as caught:
        campus_photos.load_photos(tmp_path, CLASSES, train=True)
    assert name in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'no archive', b'PK\x03\x04 cut short'])
def test_file_that_is_no_archive_is_one_clear_error(tmp_path, content):
    (tmp_path / campus_photos.TRAIN_FILES[0][0]).write_bytes(content)
    with pytest.raises(DataError, match='copy the file again'):
        campus_photos.load_photos(tmp_path, CLASSES, train=True)


def test_missing_file_names_the_option(tmp_path):
    with pytest.raises(DataError, match='--data or CROWDHMT_DATA'):
        campus_photos.load_photos(tmp_path, CLASSES, train=True)


@pytest.mark.data
def test_real_test_photos_cover_every_class():
    folder = os.environ.get('CROWDHMT_DATA')
    if not folder:
        pytest.skip('CROWDHMT_DATA is not set: no real photos at hand')
    photos = campus_photos.load_photos(Path(folder), CLASSES, train=False)
    counted = dict(zip(CLASSES, np.bincount(photos.labels, minlength=len(CLASSES))))
    assert counted == {'pedestrian': 250, 'bicycle': 50, 'car': 550, 'building': 150,
                       'green_space': 300, 'bird': 500, 'other': 3450}


def test_all_photos_keep_their_own_classes(tmp_path):
    photos = campus_photos.load_all_photos(_folder(tmp_path), size=32)
    wanted = sum(sum(map(len, m.values())) + 1 for _, m in campus_photos.TRAIN_FILES)
    assert len(photos.classes) == wanted
    assert np.bincount(photos.labels).tolist() == [2] * wanted
    first = len({n for names in campus_photos.CIFAR10.values() for n in names}) + 1
    image, label = photos.item(2 * first)
    assert label == first
    assert image.shape == (32, 32, 3)
    assert not image.any()
