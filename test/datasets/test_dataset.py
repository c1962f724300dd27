# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.datasets.dataset import ArrayItems
from crowdhmt_ros.errors import DataError

from . import trees


@pytest.fixture
def photos(tmp_path):
    return open_dataset(trees.images_npz(tmp_path / 'x.npz'), split='all')


def test_a_batch_is_its_items(photos):
    inputs, labels = photos.take([3, 0, 3])
    assert (inputs.dtype, labels.dtype) == (np.uint8, np.int64)
    for k, index in enumerate((3, 0, 3)):
        image, label = photos.item(index)
        assert np.array_equal(inputs[k], image)
        assert labels[k] == label


def test_an_empty_batch_has_the_shape_of_the_items(photos):
    assert photos.take([])[0].shape == (0, 32, 32, 3)


@pytest.mark.parametrize('index', [12, -13])
def test_an_index_beyond_the_set_is_refused(photos, index):
    with pytest.raises(IndexError):
        photos.take([index])


def test_parts_share_items_and_keep_their_names(photos):
    part = photos.subset([5, 7, 1], 'val').subset([2, 0])
    assert (part.split, part.items) == ('val', photos.items)
    assert part.labels.tolist() == [1, 1]
    assert (part.name(0), part.name(1)) == ('image 1', 'image 5')
    assert np.array_equal(part.take([1])[0], photos.take([5])[0])


def test_a_set_in_memory_reads_the_same(photos):
    part = photos.subset([5, 7, 1])
    kept = part.in_memory()
    assert isinstance(kept.items, ArrayItems)
    for wanted, got in zip(part.take([2, 0]), kept.take([2, 0])):
        assert np.array_equal(wanted, got)
    assert [kept.name(k) for k in range(3)] == ['image 5', 'image 7', 'image 1']
    assert kept.take([0])[0].dtype == np.uint8


def test_too_much_for_memory_is_refused(photos):
    with pytest.raises(DataError, match='12 inputs take 0 MiB of memory'):
        photos.in_memory(limit_bytes=1000)


def test_a_set_is_frozen(photos):
    with pytest.raises(FrozenInstanceError):
        photos.split = 'test'


def test_scaled_values_are_single_precision():
    items = ArrayItems(np.array([[1, -2], [3, 4]], np.int16), 0.25)
    assert items.read(0).dtype == np.float32
    assert items.read(0).tolist() == [0.25, -0.5]
    assert items.name(1) == 'item 1'


def test_values_that_are_not_finite_are_a_problem():
    items = ArrayItems(np.array([[1.0, np.nan], [3.0, 4.0]], np.float32), bad={1: 'is known'})
    assert [items.problem(k, True) for k in range(2)] == [
        'has values that are not finite', 'is known']
