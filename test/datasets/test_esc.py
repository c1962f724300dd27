# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import importlib
import logging

import numpy as np
import pytest

from crowdhmt_ros.datasets import LogMel, audio, open_dataset
from crowdhmt_ros.errors import DataError

from . import trees

CSV = 'meta/esc50.csv'
SHORT = LogMel(clip_s=1.0)


@pytest.fixture
def without_soundfile(monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name == 'soundfile':
            raise ImportError(name)
        return real(name, *rest)
    monkeypatch.setattr(audio.importlib, 'import_module', without)


def test_clips_become_spectrograms_whose_loudest_band_is_the_tone(tmp_path, without_soundfile):
    opened = open_dataset(trees.esc(tmp_path), split='all')
    assert (opened.layout, opened.shape, len(opened)) == ('esc', (1, 64, 155), 10)
    assert opened.classes == ('dog', 'rain')
    inputs, labels = opened.take([0, 5])
    assert (inputs.dtype, labels.tolist()) == (np.float32, [0, 1])
    loudest = inputs[:, 0].mean(axis=2).argmax(axis=1)
    # 500 Hz are 607 mel, 1000 Hz are 1000 mel; 66 points from 78 to 2840 mel: the band in whose
    # middle they lie.
    assert loudest.tolist() == [round((mel - 77.8) / 42.5) - 1 for mel in (607.4, 1000.0)]


def test_train_and_test_share_no_fold(tmp_path):
    trees.esc(tmp_path)
    test = open_dataset(tmp_path, split='test')
    assert {test.group_names[g] for g in test.groups} == {'5'}
    assert (len(test), len(open_dataset(tmp_path, split='train'))) == (2, 8)
    other = open_dataset(tmp_path, split='train', held_out=(1, 2))
    assert {other.group_names[g] for g in other.groups} == {'3', '4', '5'}
    with pytest.raises(DataError, match='no fold 9; there are 1, 2, 3, 4, 5'):
        open_dataset(tmp_path, split='train', held_out=(9,))


def test_other_rates_are_brought_to_ours(tmp_path):
    trees.esc(tmp_path / 'a', rate_hz=44100)
    trees.esc(tmp_path / 'b')
    a, b = (open_dataset(tmp_path / name, split='all').take(range(10))[0] for name in 'ab')
    assert np.abs(a - b)[:, :, :, 2:-2].mean() < 0.3
    assert (a[:, 0].mean(axis=2).argmax(axis=1) == b[:, 0].mean(axis=2).argmax(axis=1)).all()


def test_the_ten_class_part(tmp_path):
    opened = open_dataset(trees.esc(tmp_path), split='all', esc10=True)
    assert (opened.classes, len(opened)) == (('dog',), 5)


def test_a_missing_or_damaged_clip_is_skipped(tmp_path):
    trees.esc(tmp_path, ('dog', 'rain', 'sea', 'cat'))
    (tmp_path / 'audio' / '1-100-A-0.wav').unlink()
    path = tmp_path / 'audio' / '2-201-A-1.wav'
    path.write_bytes(path.read_bytes()[:60000])
    trees.put(tmp_path / 'audio' / 'other.wav', b'')
    opened = open_dataset(tmp_path, split='all')
    assert opened.skipped == (
        ('1-100-A-0.wav', 'cannot be read (No such file or directory)'),
        ('2-201-A-1.wav', 'ends after 29978 of 80000 samples'),
        ('audio/other.wav', 'the table does not name it'))
    with pytest.raises(DataError, match='2 of 20 items'):
        open_dataset(tmp_path, split='all', strict=True)


def test_clips_of_one_recording_in_two_folds_are_warned_of(tmp_path, caplog):
    trees.esc(tmp_path)
    trees.edit(tmp_path / CSV, lambda lines: [
        line.replace(',200,', ',100,') for line in lines])
    with caplog.at_level(logging.WARNING):
        open_dataset(tmp_path, split='train')
    assert 'one recording lie in different folds' in caplog.text


def _cell(line, column, value):
    def change(lines):
        cells = lines[line].split(',')
        cells[column] = value
        return [*lines[:line], ','.join(cells), *lines[line + 1:]]
    return lambda root: trees.edit(root / CSV, change)


@pytest.mark.parametrize(('spoil', 'told'), [
    (_cell(0, 2, 'label'), 'has no column target; its columns are filename, fold, label'),
    (_cell(0, 1, 'set'), 'has no column fold'),
    (_cell(1, 1, 'one'), "line 2: fold 'one' is no whole number"),
    (_cell(1, 2, '-1'), "line 2: target '-1' is no whole number"),
    (_cell(1, 2, ''), 'line 2 has no value for target'),
    (_cell(1, 3, 'cat'), 'target 0 is dog, before it was cat'),
    (_cell(1, 2, '99'), 'target 99 is out of range, there are 3 classes'),
    (_cell(1, 0, '2-200-A-0.wav'), 'the table names 2-200-A-0.wav more than once'),
    (lambda root: trees.edit(root / CSV, lambda lines: [lines[0], *lines[6:]]),
     'no clip of target 0'),
    (lambda root: trees.edit(root / CSV, lambda lines: lines[:1]), 'there is nothing in it'),
    (lambda root: (root / CSV).unlink(), 'meta/esc50.csv is missing'),
    (lambda root: [p.unlink() for p in (root / 'audio').glob('*-1.wav')],
     '5 of 10 items cannot be read, more than a tenth'),
])
def test_malformed_layouts_are_one_clear_error(tmp_path, spoil, told):
    spoil(trees.esc(tmp_path))
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(tmp_path, split='all', spectrogram=SHORT)
    assert '\n' not in str(caught.value)


def test_a_missing_sound_folder_is_one_clear_error(tmp_path):
    trees.esc(tmp_path)
    (tmp_path / 'audio').rename(tmp_path / 'sounds')
    with pytest.raises(DataError, match='the folder audio is missing'):
        open_dataset(tmp_path, split='all')


def _archive(path, **changed):
    soundfile = pytest.importorskip('soundfile', reason='soundfile is not installed (extra train)')
    files = []
    for k in range(10):
        target = path.parent / 'x.flac'
        soundfile.write(target, trees.tone(500 + 100 * k, seconds=1.0), 16000)
        files.append(target.read_bytes())
    content = {**trees.blob_of(files), 'y': np.arange(10) % 2, 'classes': np.array(['a', 'b']),
               'fold': np.repeat([1, 2], 5), 'rate_hz': np.int64(16000), **changed}
    np.savez(path, **content)
    return path


def test_an_archive_of_flac_clips_opens_by_fold(tmp_path):
    path = _archive(tmp_path / 'x.npz')
    opened = open_dataset(path, split='test', spectrogram=SHORT)
    assert (opened.layout, opened.shape, len(opened)) == ('esc_npz', (1, 64, 30), 5)
    assert opened.take([0, 4])[0].shape == (2, 1, 64, 30)


@pytest.mark.parametrize(('changed', 'told'), [
    ({'fold': np.ones(9)}, '10 labels, 9 folds and 10 names'),
    ({'name': np.array(['x'])}, '10 labels, 10 folds and 1 names'),
    ({'y': np.full(10, 5)}, 'label 5 of clip 0 is out of range'),
    ({'offsets': np.arange(5)}, '5 offsets for 10 labels'),
    ({'fold': np.ones(10, int)}, 'leaves one part empty'),
])
def test_a_malformed_archive_is_one_clear_error(tmp_path, changed, told):
    path = _archive(tmp_path / 'x.npz', **changed)
    with pytest.raises(DataError, match=told):
        open_dataset(path, split='test', spectrogram=SHORT)


def test_without_soundfile_an_archive_names_it(tmp_path, without_soundfile):
    path = tmp_path / 'x.npz'
    np.savez(path, **{name: np.zeros(1) for name in ('blob', 'offsets', 'y', 'classes', 'fold',
                                                     'rate_hz')})
    with pytest.raises(DataError, match='needs the package soundfile: pip install soundfile'):
        open_dataset(path, split='all')


@pytest.mark.data
def test_the_real_archive_opens(data_dir):
    pytest.importorskip('soundfile', reason='soundfile is not installed (extra train)')
    train = open_dataset(data_dir / 'esc10_16k_folds1-3.npz', split='train')
    assert (len(train), len(train.classes), train.skipped) == (160, 10, ())
    inputs, labels = train.take(range(0, 160, 16))
    assert np.isfinite(inputs).all()
    assert inputs.std() > 1.0
