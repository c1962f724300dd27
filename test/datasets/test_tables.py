# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.datasets import tables
from crowdhmt_ros.errors import DataError

from . import trees


def test_rows_come_with_their_lines(tmp_path):
    path = trees.put(tmp_path / 'x.csv', '\ufeffa, b\r\n1,2\r\n"3, 4",5\r\n')
    assert tables.read_table(path, ('a', 'b')) == [
        (2, {'a': '1', 'b': '2'}), (3, {'a': '3, 4', 'b': '5'})]


@pytest.mark.parametrize(('text', 'told'), [
    ('', 'has no column a; its columns are none'),
    ('b,c\n1,2\n', 'has no column a; its columns are b, c'),
    ('a,b\n1\n', None),
    ('b,a\n1\n', 'line 2 has no value for a'),
    ('b,a\n1,\n', 'line 2 has no value for a'),
])
def test_columns_and_values_are_checked(tmp_path, text, told):
    path = trees.put(tmp_path / 'x.csv', text)
    if told is None:
        assert tables.read_table(path, ('a',)) == [(2, {'a': '1'})]
    else:
        with pytest.raises(DataError, match=told):
            tables.read_table(path, ('a',))


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(DataError, match=r'cannot be read \(Is a directory\)'):
        tables.read_lines(tmp_path)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_archive_or_a_data_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('x') / 'x.npz'
    path.write_bytes(data)
    assert tables.array_names(path) == ()
    with pytest.raises(DataError):
        tables.read_archive(path, ('y',))


ARCHIVES = {}


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10 ** 6), st.integers(1, 40))
def test_a_damaged_archive_is_read_or_a_data_error(tmp_path_factory, save, place, count):
    if save not in ARCHIVES:
        path = tmp_path_factory.mktemp('x') / 'x.npz'
        save(path, y=np.arange(200), blob=np.arange(90, dtype=np.uint8))
        ARCHIVES[save] = path, path.read_bytes()
    path, whole = ARCHIVES[save]
    data = bytearray(whole)
    place %= len(data)
    data[place:place + count] = bytes(b ^ 0x5a for b in data[place:place + count])
    path.write_bytes(data)
    told = None
    try:
        archive = tables.read_archive(path, ('y', 'blob'))
    except DataError as e:
        told = str(e)
    assert '\n' not in told if told else set(archive) == {'y', 'blob'}


def test_a_member_that_is_no_array_is_one_clear_error(tmp_path):
    path = tmp_path / 'x.npz'
    np.savez(path, y=np.arange(3))
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('blob.npy', b'no array')
        archive.writestr('a\nb.npy', b'no array')
    with pytest.raises(DataError, match='blob is no array'):
        tables.read_archive(path, ('y', 'blob'))
    with pytest.raises(DataError, match='lacks the array z; it has') as caught:
        tables.read_archive(path, ('z',))
    assert '\n' not in str(caught.value)


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / 'x.npz'
    np.savez(path, y=np.array([{}], object))
    with pytest.raises(DataError, match='is no readable npz file'):
        tables.read_archive(path, ('y',))


@pytest.mark.parametrize(('name', 'split'), [
    ('cifar10_train5k.npz', 'train'), ('Test.npz', 'test'), ('train_and_test.npz', ''),
    ('x.npz', '')])
def test_a_file_name_says_its_split(tmp_path, name, split):
    assert tables.split_in_name(tmp_path / name) == split
