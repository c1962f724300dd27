# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.errors import DataError

from . import trees

TEN = 'cifar-10-batches-bin'


def test_binary_batches_are_read_as_planes_of_red_green_blue(tmp_path):
    opened = open_dataset(trees.cifar10(tmp_path), split='train')
    assert (opened.layout, len(opened), opened.shape) == ('cifar', 50, (32, 32, 3))
    assert opened.classes[3] == 'name3'
    raw = np.frombuffer((tmp_path / TEN / 'data_batch_2.bin').read_bytes(), np.uint8)
    record = raw.reshape(-1, 3073)[4]
    image, label = opened.item(14)
    assert label == record[0]
    for channel in range(3):
        plane = record[1 + 1024 * channel:1 + 1024 * (channel + 1)].reshape(32, 32)
        assert np.array_equal(image[..., channel], plane)
    assert opened.name(14) == 'data_batch_2.bin record 4'


def test_splits_of_the_binary_version(tmp_path):
    trees.cifar10(tmp_path, folder='.')
    assert len(open_dataset(tmp_path, split='test')) == 10
    assert len(open_dataset(tmp_path, split='all')) == 60
    with pytest.raises(DataError, match='no split val; there are all, train, test'):
        open_dataset(tmp_path, split='val')


def test_fine_and_coarse_classes_of_the_hundred(tmp_path):
    trees.cifar100(tmp_path)
    fine = open_dataset(tmp_path, split='train')
    coarse = open_dataset(tmp_path, split='test', coarse=True, size=(16, 16))
    assert (len(fine.classes), fine.item(101)[1]) == (100, 1)
    assert (len(coarse.classes), coarse.item(99)[1]) == (20, 19)
    assert coarse.take([0])[0].shape == (1, 16, 16, 3)


def _cut(root):
    path = root / TEN / 'data_batch_3.bin'
    path.write_bytes(path.read_bytes()[:-1])


def _label(root):
    path = root / TEN / 'data_batch_3.bin'
    path.write_bytes(b'\x0b' + path.read_bytes()[1:])


def _only(root):
    for path in (root / TEN).glob('*batch*.bin'):
        records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073).copy()
        records[:, 0] %= 9
        path.write_bytes(records.tobytes())


@pytest.mark.parametrize(('spoil', 'told'), [
    (_cut, r'data_batch_3.bin has 30729 bytes, no whole number of records of 3073'),
    (_label, r'label 11 of data_batch_3.bin record 0 is out of range, there are 10'),
    (_only, 'no item of class name9'),
    (lambda root: (root / TEN / 'data_batch_4.bin').unlink(), r'data_batch_4.bin is missing'),
    (lambda root: (root / TEN / 'batches.meta.txt').unlink(), 'batches.meta.txt cannot be read'),
    (lambda root: (root / TEN / 'batches.meta.txt').write_text('one\n'),
     r'batches.meta.txt has 1 names, not 10'),
], ids=['cut', 'label', 'missing class', 'no batch', 'no names', 'few names'])
def test_malformed_batches_are_one_clear_error(tmp_path, spoil, told):
    spoil(trees.cifar10(tmp_path))
    with pytest.raises(DataError, match=told):
        open_dataset(tmp_path, split='train')


def test_ten_classes_have_no_coarse_ones(tmp_path):
    with pytest.raises(DataError, match='CIFAR-10 has no coarse classes'):
        open_dataset(trees.cifar10(tmp_path), split='train', coarse=True)


def test_an_archive_keeps_pixels_and_states_its_split(tmp_path):
    path = trees.images_npz(tmp_path / 'photos_train.npz')
    opened = open_dataset(path, split='train')
    assert (opened.layout, opened.shape, len(opened)) == ('images_npz', (32, 32, 3), 12)
    assert open_dataset(path, split='all').classes == ('a', 'b')
    with pytest.raises(DataError, match='no split test; there are all, train'):
        open_dataset(path, split='test')


def test_an_unreadable_image_of_an_archive_is_skipped(tmp_path):
    files = [trees.encoded(k, '.webp', 32) for k in range(12)]
    files[5] = files[5][:20]
    path = trees.images_npz(tmp_path / 'x.npz', **trees.blob_of(files))
    assert open_dataset(path, split='all').skipped == (('image 5', 'cannot be decoded'),)


@pytest.mark.parametrize(('changed', 'told'), [
    ({'offsets': np.array([0, 5])}, '2 offsets for 12 labels'),
    ({'offsets': np.array([0, *range(12, 0, -1)])}, 'do not ascend'),
    ({'offsets': np.arange(13) * 10 ** 6}, 'do not ascend within the blob'),
    ({'offsets': np.arange(13) / 2}, 'no row of integers'),
    ({'classes': np.array('a')}, 'the classes are no row of names'),
    ({'blob': np.zeros((4, 4))}, 'not bytes in a row'),
    ({'y': np.full(12, 2, np.uint8)}, 'label 2 of image 0 is out of range, there are 2 classes'),
    ({'y': np.zeros(12, np.uint8)}, 'no item of class b'),
    ({'y': np.zeros((3, 4), np.uint8)}, 'the labels are no row of integers'),
    ({'blob': np.zeros(10 ** 5, np.uint8)}, '12 of 12 items cannot be read, more than a tenth'),
])
def test_a_malformed_archive_is_one_clear_error(tmp_path, changed, told):
    path = trees.images_npz(tmp_path / 'x.npz', **changed)
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(path, split='all')
    assert '\n' not in str(caught.value)


def test_an_archive_without_an_array_says_what_it_has(tmp_path):
    path = trees.images_npz(tmp_path / 'x.npz', offsets=None)
    with pytest.raises(DataError, match='lacks the array offsets; it has blob, y, classes'):
        open_dataset(path, 'images_npz', split='all')


@pytest.mark.data
@pytest.mark.parametrize(('name', 'count', 'classes'), [
    ('cifar10_test5k.npz', 5000, 10), ('cifar100_test5k.npz', 5000, 100)])
def test_the_real_archives_open(data_dir, name, count, classes):
    opened = open_dataset(data_dir / name, split='test')
    assert (len(opened), len(opened.classes), opened.skipped) == (count, classes, ())
    inputs, labels = opened.take(range(0, count, 100))
    assert inputs.shape == (50, 32, 32, 3)
    assert 100.0 < inputs.mean() < 140.0
    assert len(np.unique(labels)) > 5
