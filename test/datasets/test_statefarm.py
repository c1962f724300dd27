# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.datasets.statefarm import TABLE
from crowdhmt_ros.errors import DataError

from . import trees

TRAIN = 'imgs/train'


def test_pictures_carry_class_and_driver(tmp_path):
    opened = open_dataset(trees.statefarm(tmp_path), split='all', size=(8, 8))
    assert (opened.layout, len(opened), len(opened.classes)) == ('statefarm', 50, 10)
    assert opened.classes[6] == 'drinking'
    assert opened.group_names == ('p002', 'p012', 'p014', 'p015', 'p016')
    image, label = opened.item(30)
    assert label == 6
    assert abs(int(image[4, 4, 0]) - 120) <= 3


def test_no_driver_is_on_both_sides(tmp_path):
    trees.statefarm(tmp_path)
    train, test = (open_dataset(tmp_path, split=s) for s in ('train', 'test'))
    assert {test.group_names[g] for g in test.groups} == {'p016'}
    assert not set(train.groups) & set(test.groups)
    assert len(train) + len(test) == 50
    named = open_dataset(tmp_path, split='test', held_out=('p002', 'p014'))
    assert {named.group_names[g] for g in named.groups} == {'p002', 'p014'}


def test_missing_and_unnamed_pictures_are_skipped(tmp_path):
    trees.statefarm(tmp_path)
    (tmp_path / TRAIN / 'c3' / 'img_302.jpg').unlink()
    trees.put(tmp_path / TRAIN / 'c4' / 'img_9.jpg', trees.encoded(3, '.jpg'))
    opened = open_dataset(tmp_path, split='all')
    assert opened.skipped == (
        (TRAIN + '/c3/img_302.jpg', 'cannot be read (No such file or directory)'),
        (TRAIN + '/c4/img_9.jpg', TABLE + ' does not name it'))


def _row(number, text):
    return lambda root: trees.edit(root / TABLE, lambda lines: [
        *lines[:number], text, *lines[number + 1:]])


def _empty(root):
    for path in (root / TRAIN / 'c3').iterdir():
        path.unlink()


def _remove(root):
    _empty(root)
    (root / TRAIN / 'c3').rmdir()


@pytest.mark.parametrize(('spoil', 'told'), [
    (_remove, 'class folder imgs/train/c3 is missing'),
    (_empty, 'class folder imgs/train/c3 has no images'),
    (lambda root: (root / TRAIN / 'c10').mkdir(), 'imgs/train/c10 is none of the classes'),
    (_row(0, 'driver,classname,img'),
     'has no column subject; its columns are driver, classname, img'),
    (_row(1, 'p002,c10,img_0.jpg'), 'line 2: class c10 is out of range'),
    (_row(1, 'p002,,img_0.jpg'), 'line 2 has no value for classname'),
    (_row(1, 'p002,c1,img_1.jpg'), 'line 3: img_1.jpg is c0, before it was c1'),
    (_row(1, 'p002,c0,img_1.jpg'), 'line 3: img_1.jpg shows p012, before it showed p002'),
    (lambda root: (root / TABLE).unlink(), TABLE + ' is missing'),
    (lambda root: (root / 'imgs').rename(root / 'pictures'), 'the folder imgs/train is missing'),
    (lambda root: (root / TABLE).write_bytes(b'\xff\xfe\x00'), 'it is no UTF-8 text'),
])
def test_malformed_layouts_are_one_clear_error(tmp_path, spoil, told):
    spoil(trees.statefarm(tmp_path))
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(tmp_path, split='train')
    assert '\n' not in str(caught.value)


def test_folder_and_table_problems_are_told_at_once(tmp_path):
    trees.statefarm(tmp_path)
    _empty(tmp_path)
    _row(0, 'driver,classname,img')(tmp_path)
    with pytest.raises(DataError, match='c3 has no images.*no column subject'):
        open_dataset(tmp_path, split='train')


def test_there_is_no_val(tmp_path):
    with pytest.raises(DataError, match='no split val; there are all, train, test'):
        open_dataset(trees.statefarm(tmp_path), split='val')
