# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.tasks import variation as module  # noqa: E402
from crowdhmt_ros.tasks.variation import VARIATIONS  # noqa: E402

RNG = np.random.default_rng(3)
INPUTS = {'image': RNG.integers(0, 256, (6, 32, 32, 3), np.uint8),
          'window': RNG.normal(size=(6, 9, 64)).astype(np.float32),
          'spectrogram': RNG.normal(size=(6, 1, 32, 40)).astype(np.float32)}


def _inputs(name):
    return INPUTS[VARIATIONS[name].kind or 'image']


def _numbers(name, count=6, seed=0):
    return np.random.default_rng(seed).random((count, VARIATIONS[name].numbers))


@pytest.mark.parametrize('name', VARIATIONS)
def test_inputs_keep_their_shape_and_are_not_changed_in_place(name):
    inputs = _inputs(name)
    before = inputs.copy()
    varied = VARIATIONS[name].apply(inputs, _numbers(name), 0)
    assert varied.shape == inputs.shape
    assert np.isfinite(varied).all()
    assert np.array_equal(inputs, before)
    assert (name == 'none') == np.array_equal(varied, inputs)


@pytest.mark.parametrize('name', VARIATIONS)
def test_a_share_of_a_batch_is_varied_as_the_whole_batch_is(name):
    inputs, numbers = _inputs(name), _numbers(name)
    whole = VARIATIONS[name].apply(inputs, numbers, 0)
    share = VARIATIONS[name].apply(inputs[2:4], numbers[2:4], 0)
    np.testing.assert_allclose(share, whole[2:4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', [n for n in VARIATIONS if n != 'none'])
@pytest.mark.parametrize('extreme', [0.0, np.nextafter(1.0, 0.0)])
def test_the_smallest_and_largest_numbers_are_allowed(name, extreme):
    numbers = np.full((6, VARIATIONS[name].numbers), extreme)
    assert np.isfinite(VARIATIONS[name].apply(_inputs(name), numbers, 0)).all()


def test_crop_flip_shifts_and_mirrors_and_does_nothing_else():
    image = INPUTS['image'][:1]
    middle = np.array([[0.5, 0.5, 0.9]])
    apply = VARIATIONS['crop-flip'].apply
    assert np.array_equal(apply(image, middle, 0), image)
    assert np.array_equal(apply(image, np.array([[0.5, 0.5, 0.1]]), 0), image[:, :, ::-1])
    corner = apply(image, np.array([[0.999, 0.999, 0.9]]), 0)
    assert np.array_equal(corner[:, :28, :28], image[:, 4:, 4:])


def test_cutout_hides_one_square_with_the_images_own_colour():
    image = INPUTS['image'][:1]
    varied = VARIATIONS['crop-flip-cutout'].apply(
        image, np.array([[0.5, 0.5, 0.9, 0.5, 0.5]]), 0)
    changed = (varied != image).any(-1)[0]
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows.max() - rows.min() < 8
    assert columns.max() - columns.min() < 8
    assert np.allclose(varied[0][changed], image.mean((1, 2)), atol=1.0)


def test_turning_a_sensor_keeps_the_length_of_each_triple():
    windows = INPUTS['window']
    turned = module._turned(windows, _numbers('window')[:, :4])
    lengths = [np.linalg.norm(w.reshape(6, 3, 3, 64), axis=2) for w in (windows, turned)]
    np.testing.assert_allclose(*lengths, rtol=1e-4)
    assert not np.allclose(windows, turned, atol=0.01)


def test_windows_without_triples_of_axes_are_not_turned():
    windows = INPUTS['window'][:, :4]
    assert module._turned(windows, _numbers('window')[:, :4]) is windows


def test_speed_and_start_of_a_window_move_what_happens_in_it():
    window = np.zeros((1, 3, 64), np.float32)
    window[:, :, 20] = 1.0
    assert np.array_equal(module._resampled(window, np.array([[0.5, 0.5]])), window)
    later = module._resampled(window, np.array([[0.5, 0.5 + 0.5 / 6.4]]))
    assert later[0, 0].argmax() == 19


def test_spectrograms_are_masked_by_spans_of_frames_and_bands():
    sounds = INPUTS['spectrogram'][:1]
    still = np.array([[0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    apply = VARIATIONS['spectrogram'].apply
    assert np.array_equal(apply(sounds, still, 0), sounds)
    masked = still.copy()
    masked[0, 3:5] = 0.5, 0.999
    hidden = np.isclose(apply(sounds, masked, 0), sounds.mean(), atol=1e-6).all((0, 1, 2))
    assert hidden.sum() == 6
