# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.datasets import open_dataset
from crowdhmt_ros.errors import DataError

from . import trees

SIGNAL = 'train/Inertial Signals/body_gyro_y_train.txt'


def test_windows_have_nine_channels_in_order(tmp_path):
    opened = open_dataset(trees.uci_har(tmp_path), split='train')
    assert (opened.layout, opened.shape, len(opened)) == ('uci_har', (128, 9), 20)
    assert opened.classes == ('WALKING', 'SITTING')
    window, label = opened.item(7)
    assert (window.dtype, label) == (np.float32, 1)
    assert np.allclose(window[0], np.arange(9) + 0.07)
    assert opened.group_names == ('1', '2')
    assert opened.group_word == 'subject'


def test_the_folder_of_the_download_is_found(tmp_path):
    trees.uci_har(tmp_path / 'UCI HAR Dataset')
    assert len(open_dataset(tmp_path, split='all')) == 40


def test_train_and_test_share_no_subject(tmp_path):
    trees.uci_har(tmp_path)
    names = [set(open_dataset(tmp_path, split=s).group_names) for s in ('train', 'test')]
    assert names == [{'1', '2'}, {'8', '9'}]


def test_named_subjects_make_the_test_part_whatever_the_folders(tmp_path):
    trees.uci_har(tmp_path)
    test = open_dataset(tmp_path, split='test', held_out=('2', '8'))
    train = open_dataset(tmp_path, split='train', held_out=('2', '8'))
    assert (len(test), len(train)) == (20, 20)
    assert {test.group_names[g] for g in test.groups} == {'2', '8'}
    assert not set(test.groups) & set(train.groups)
    with pytest.raises(DataError, match='no subject 77; there are 1, 2, 8, 9'):
        open_dataset(tmp_path, split='test', held_out=('77',))


def _line(path, number, text):
    return lambda root: trees.edit(root / path, lambda lines: [
        *lines[:number], text, *lines[number + 1:]])


@pytest.mark.parametrize(('spoil', 'reason'), [
    (_line(SIGNAL, 3, '1 2 3'), 'body_gyro_y has 3 samples, a window has 128'),
    (_line(SIGNAL, 3, ' '.join(['x'] * 128)), 'body_gyro_y has what is no number'),
    (_line(SIGNAL, 3, ' '.join(['nan'] * 128)), 'body_gyro_y has values that are not finite'),
])
@pytest.mark.parametrize('check', ['auto', 'none'])
def test_a_single_bad_window_is_skipped(tmp_path, spoil, reason, check):
    spoil(trees.uci_har(tmp_path))
    opened = open_dataset(tmp_path, split='train', check=check)
    assert opened.skipped == (('train window 4', reason),)
    assert len(opened) == 19
    assert np.isfinite(opened.take(range(19))[0]).all()
    with pytest.raises(DataError, match='1 of 20 items'):
        open_dataset(tmp_path, split='train', strict=True)


@pytest.mark.parametrize(('spoil', 'told'), [
    (lambda root: trees.uci_har(root, samples=64),
     '20 of 20 items cannot be read, more than a tenth.*has 64 samples, a window has 128'),
    (_line('train/y_train.txt', 4, '3'),
     'label 3 is out of range, activity_labels.txt has 1 to 2'),
    (_line('train/y_train.txt', 4, '0'), 'label 0 is out of range'),
    (_line('train/y_train.txt', 4, 'one'), r"y_train.txt, line 5: 'one' is no whole number"),
    (lambda root: trees.edit(root / 'train/y_train.txt', lambda lines: ['1'] * 20),
     'no item of class SITTING'),
    (lambda root: trees.edit(root / SIGNAL, lambda lines: lines[1:]),
     'train has different numbers of lines: y 20, subject 20.*body_gyro_y 19'),
    (lambda root: trees.edit(root / 'train/subject_train.txt', lambda lines: lines[1:]),
     'different numbers of lines: y 20, subject 19'),
    (lambda root: (root / SIGNAL).unlink(), 'body_gyro_y_train.txt cannot be read'),
    (lambda root: (root / 'activity_labels.txt').unlink(), 'activity_labels.txt cannot be read'),
    (_line('activity_labels.txt', 0, '0 WALKING'), "does not list '1 NAME'"),
], ids=['length', 'range', 'zero', 'number', 'class', 'lines', 'subjects', 'signal', 'activities',
        'numbering'])
def test_malformed_layouts_are_one_clear_error(tmp_path, spoil, told):
    trees.uci_har(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(tmp_path, split='train')
    assert '\n' not in str(caught.value)


def test_other_window_lengths_can_be_asked_for(tmp_path):
    trees.uci_har(tmp_path, samples=64)
    assert open_dataset(tmp_path, split='train', window_samples=64).shape == (64, 9)


def test_several_problems_are_told_at_once(tmp_path):
    trees.uci_har(tmp_path)
    (tmp_path / 'activity_labels.txt').unlink()
    _line('train/y_train.txt', 4, 'one')(tmp_path)
    (tmp_path / SIGNAL).unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, split='train')
    for told in ('activity_labels.txt', 'line 5', 'body_gyro_y'):
        assert told in str(caught.value)


def test_an_archive_is_scaled_and_split_by_subject(tmp_path):
    path = trees.har_npz(tmp_path / 'x.npz')
    whole = open_dataset(path, split='all')
    raw = np.load(path)['X']
    assert whole.layout == 'har_npz'
    assert np.array_equal(whole.item(3)[0], raw[3] * np.float32(0.5))
    assert whole.group_names == ('1', '2', '3', '11', '12')
    test, train = (open_dataset(path, split=s) for s in ('test', 'train'))
    assert {test.group_names[g] for g in test.groups} == {'12'}
    assert len(train) + len(test) == 20


@pytest.mark.parametrize(('changed', 'told'), [
    ({'X': np.zeros((20, 64, 9), np.int16)}, 'windows of 64 samples, 128 are expected'),
    ({'X': np.zeros((20, 128), np.int16)}, 'X is no array of numbers'),
    ({'y': np.zeros(19, np.uint8)}, '19 labels and 20 subjects'),
    ({'y': np.zeros(20)}, 'the labels are no row of integers'),
    ({'X': np.float32(1.0)}, 'X is no array of numbers.*windows of shape'),
    ({'labels': np.array('A')}, 'the names of the labels are no row'),
    ({'scale': np.array('one')}, 'the scale is no number'),
    ({'y': np.full(20, 7, np.uint8)}, 'label 7 of window 0 is out of range'),
    ({'scale': np.array([1.0, 2.0])}, 'the scale is no number'),
    ({'X': np.full((20, 128, 9), np.nan, np.float32)}, '20 of 20 items cannot be read'),
])
def test_a_malformed_archive_is_one_clear_error(tmp_path, changed, told):
    path = trees.har_npz(tmp_path / 'x.npz', **changed)
    with pytest.raises(DataError, match=told):
        open_dataset(path, split='all')


@pytest.mark.data
def test_the_real_archive_opens_in_physical_units(data_dir):
    whole = open_dataset(data_dir / 'har_train21.npz', split='all')
    assert (len(whole), len(whole.classes), len(whole.group_names)) == (7415, 6, 21)
    inputs, _ = whole.take(range(0, 7415, 50))
    gravity = np.linalg.norm(inputs[:, :, 6:9].mean(axis=1), axis=1)
    assert abs(np.median(gravity) - 1.0) < 0.1
