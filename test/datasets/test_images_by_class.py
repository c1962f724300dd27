# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.errors import DataError

from . import trees


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
def test_folders_are_classes_and_images_are_rgb(tmp_path, suffix):
    opened = open_dataset(trees.images_by_class(tmp_path, suffix=suffix), split='all', size=(8, 8))
    assert opened.layout == 'images_by_class'
    assert opened.classes == ('cat', 'dog')
    assert (len(opened), opened.skipped, opened.groups) == (24, (), None)
    image, label = opened.item(13)
    assert (image.shape, image.dtype, label) == ((8, 8, 3), np.uint8, 1)
    assert abs(int(image[4, 4, 0]) - 51) <= 3
    assert image[4, 4, 1] <= 3
    assert opened.name(13) == 'dog/01' + suffix


def test_images_are_resized_to_height_and_width(tmp_path):
    opened = open_dataset(trees.images_by_class(tmp_path), split='all', size=(4, 6))
    inputs, labels = opened.take([0, 23, 0])
    assert inputs.shape == (3, 4, 6, 3)
    assert labels.tolist() == [0, 1, 0]
    assert open_dataset(tmp_path, split='all').shape == (224, 224, 3)


def test_each_split_folder_is_a_split_and_all_is_their_sum(tmp_path):
    trees.images_by_split(tmp_path)
    counts = {s: len(open_dataset(tmp_path, split=s)) for s in ('train', 'val', 'test', 'all')}
    assert counts == {'train': 24, 'val': 22, 'test': 20, 'all': 66}


def test_other_names_of_split_folders_are_known(tmp_path):
    trees.images_by_split(tmp_path, ('training', 'Validation'))
    assert len(open_dataset(tmp_path, split='val')) == 22


def test_images_in_deeper_folders_belong_to_the_class(tmp_path):
    trees.images_by_class(tmp_path)
    trees.put(tmp_path / 'cat' / 'old' / 'x.png', trees.encoded(7))
    opened = open_dataset(tmp_path, split='all')
    assert opened.name(12) == 'cat/old/x.png' or 'cat/old/x.png' in map(opened.name, range(13))
    assert opened.labels.sum() == 12


def test_an_unreadable_image_is_skipped_with_its_reason(tmp_path):
    trees.images_by_class(tmp_path)
    path = tmp_path / 'dog' / '03.png'
    path.write_bytes(path.read_bytes()[:40])
    (tmp_path / 'cat' / '05.png').write_bytes(b'')
    opened = open_dataset(tmp_path, split='all')
    assert len(opened) == 22
    assert opened.skipped == (('cat/05.png', 'is empty'), ('dog/03.png', 'cannot be decoded'))
    assert 'dog/03.png' not in map(opened.name, range(22))
    assert '2 skipped' in opened.describe()


def test_heads_find_what_is_no_image_and_none_finds_nothing(tmp_path):
    trees.images_by_class(tmp_path)
    (tmp_path / 'dog' / '03.png').write_bytes(b'<html>not found</html>')
    assert open_dataset(tmp_path, split='all', check='heads').skipped == (
        ('dog/03.png', 'is no image'),)
    unchecked = open_dataset(tmp_path, split='all', check='none')
    assert len(unchecked) == 24
    with pytest.raises(DataError, match=r'dog/03.png cannot be decoded'):
        unchecked.item(15)


def test_an_image_that_vanishes_after_opening_is_one_clear_error(tmp_path):
    opened = open_dataset(trees.images_by_class(tmp_path), split='all')
    (tmp_path / 'cat' / '00.png').unlink()
    with pytest.raises(DataError, match=r'cat/00.png cannot be read \(No such file'):
        opened.item(0)


def test_strict_makes_an_unreadable_image_an_error(tmp_path):
    trees.images_by_class(tmp_path)
    (tmp_path / 'dog' / '03.png').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'1 of 24 items cannot be read \(dog/03.png cannot'):
        open_dataset(tmp_path, split='all', strict=True)


def test_more_than_a_tenth_unreadable_is_an_error(tmp_path):
    trees.images_by_class(tmp_path)
    for k in range(3):
        (tmp_path / 'dog' / ('%02d.png' % k)).write_bytes(b'no image')
    with pytest.raises(DataError, match='3 of 24 items cannot be read, more than a tenth'):
        open_dataset(tmp_path, split='all')


def test_other_files_are_listed_but_do_not_count_as_unreadable(tmp_path):
    trees.images_by_class(tmp_path)
    for k in range(12):
        trees.put(tmp_path / 'cat' / ('%02d.txt' % k), 'a box')
    trees.put(tmp_path / 'cat' / '.DS_Store', 'hidden')
    opened = open_dataset(tmp_path, split='all', strict=True)
    assert [reason for _, reason in opened.skipped] == ['12 files .txt: no image']


def _remove_class(root):
    for path in (root / 'val' / 'dog').iterdir():
        path.unlink()
    (root / 'val' / 'dog').rmdir()


@pytest.mark.parametrize(('spoil', 'split', 'told'), [
    (_remove_class, 'train', 'val misses class dog'),
    (lambda root: (root / 'val' / 'fox').mkdir(), 'train',
     'val has class fox, which the others miss'),
    (lambda root: (root / 'train' / 'fox').mkdir(), 'train',
     'class folder train/fox has no images'),
], ids=['missing class', 'extra class', 'empty class folder'])
def test_malformed_splits_are_one_clear_error(tmp_path, spoil, split, told):
    spoil(trees.images_by_split(tmp_path))
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(tmp_path, split=split)
    assert '\n' not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_all_problems_come_in_one_message(tmp_path):
    trees.images_by_split(tmp_path)
    _remove_class(tmp_path)
    (tmp_path / 'train' / 'fox').mkdir()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, split='train')
    assert 'val misses class dog, fox' in str(caught.value)
    assert 'class folder train/fox has no images' in str(caught.value)


def test_a_class_whose_only_image_is_unreadable_is_missing(tmp_path):
    trees.images_by_class(tmp_path, count=20)
    trees.put(tmp_path / 'fox' / 'one.png', b'no image')
    with pytest.raises(DataError, match='no item of class fox'):
        open_dataset(tmp_path, split='all')


@pytest.mark.parametrize(('split', 'told'), [
    ('test', 'no split test; there are all, train, val'),
])
def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path, split, told):
    trees.images_by_split(tmp_path, ('train', 'val'))
    with pytest.raises(DataError, match=told):
        open_dataset(tmp_path, split=split)


def test_without_split_folders_the_message_names_hold_out(tmp_path):
    with pytest.raises(DataError, match=r'no split train; there is all \(hold_out cuts'):
        open_dataset(trees.images_by_class(tmp_path), split='train')


def test_held_out_needs_groups(tmp_path):
    with pytest.raises(DataError, match='neither folds nor subjects'):
        open_dataset(trees.images_by_class(tmp_path), split='test', held_out=('p1',))


def test_classes_may_be_called_train_and_test(tmp_path):
    opened = open_dataset(trees.images_by_class(tmp_path, ('test', 'train')), split='all')
    assert opened.classes == ('test', 'train')
