# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import logging

import numpy as np
import pytest

from crowdhmt_ros.datasets import LAYOUTS, open_dataset
from crowdhmt_ros.datasets.opening import recognise
from crowdhmt_ros.errors import DataError

from . import trees

TREES = {
    'images_by_class': trees.images_by_class, 'cifar': trees.cifar10, 'imagenet': trees.imagenet,
    'uci_har': trees.uci_har, 'esc': trees.esc, 'statefarm': trees.statefarm}
FILES = {'images_npz': trees.images_npz, 'har_npz': trees.har_npz}


@pytest.mark.parametrize('name', sorted(TREES))
def test_each_folder_layout_is_recognised(tmp_path, name):
    TREES[name](tmp_path)
    assert recognise(tmp_path) == name


@pytest.mark.parametrize('name', sorted(FILES))
def test_each_file_layout_is_recognised_by_its_arrays(tmp_path, name):
    path = FILES[name](tmp_path / 'x.npz')
    assert [n for n in LAYOUTS if LAYOUTS[n].recognises(path)] == [name]


def test_a_sound_archive_is_no_image_archive(tmp_path):
    path = tmp_path / 'x.npz'
    np.savez(path, **{n: np.zeros(1) for n in ('blob', 'offsets', 'y', 'classes', 'fold',
                                               'rate_hz')})
    assert [n for n in LAYOUTS if LAYOUTS[n].recognises(path)] == ['esc_npz']


def test_the_layout_that_was_taken_is_said(tmp_path, caplog):
    trees.images_by_class(tmp_path)
    with caplog.at_level(logging.INFO):
        opened = open_dataset(tmp_path, split='all')
    assert opened.describe() in caplog.text
    assert opened.describe().startswith('images_by_class layout, split all: 24 images of 224x224')


def test_a_path_may_be_text_and_a_layout_may_be_named(tmp_path):
    trees.imagenet(tmp_path)
    opened = open_dataset(str(tmp_path), 'images_by_class', split='train')
    assert opened.classes == trees.SYNSETS


@pytest.mark.parametrize(('arguments', 'told'), [
    ({'split': 'dev'}, "no split 'dev'; there are all, train, val, test"),
    ({'split': 'all', 'layout': 'coco'}, "no layout 'coco'; there are auto, "),
    ({'split': 'all', 'check': 'some'}, "no check 'some'"),
    ({'split': 'all', 'size': (0, 5)}, r'size is \(height, width\)'),
    ({'split': 'val', 'held_out': ('p1',)}, 'held_out makes the splits train and test, not val'),
    ({'split': 'all', 'window_samples': 0}, 'a window of 0 samples'),
    ({'split': 'all', 'layout': 'har_npz'}, 'is a folder, the layout har_npz is a file'),
])
def test_options_that_do_not_exist_are_named(tmp_path, arguments, told):
    trees.images_by_class(tmp_path)
    with pytest.raises(DataError, match=told):
        open_dataset(tmp_path, **arguments)


def test_a_file_is_no_folder_layout(tmp_path):
    path = trees.images_npz(tmp_path / 'x.npz')
    with pytest.raises(DataError, match='is a file, the layout esc is a folder'):
        open_dataset(path, 'esc', split='all')


def test_a_path_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match='nowhere does not exist'):
        open_dataset(tmp_path / 'nowhere', split='all')


@pytest.mark.parametrize(('name', 'there'), [(None, 'it has nothing'), ('a.txt', 'it has a.txt')])
def test_an_unknown_layout_says_what_it_has_and_what_is_known(tmp_path, name, there):
    if name:
        trees.put(tmp_path / name, 'x')
    with pytest.raises(DataError, match=there + '.*images_by_class'):
        open_dataset(tmp_path, split='all')


def test_a_file_that_is_no_archive_is_one_clear_error(tmp_path):
    path = trees.put(tmp_path / 'x.npz', b'PK\x03\x04 cut short')
    with pytest.raises(DataError, match='has no layout that is known'):
        open_dataset(path, split='all')
    with pytest.raises(DataError, match='is no readable npz file'):
        open_dataset(path, 'images_npz', split='all')


def test_a_cut_archive_is_one_clear_error(tmp_path):
    path = trees.har_npz(tmp_path / 'x.npz')
    data = bytearray(path.read_bytes())
    data[200:4000] = bytes(3800)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r'is no readable npz file \(.*\); copy it again'):
        open_dataset(path, split='all')
