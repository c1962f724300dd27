# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Variation (augmentation) of training inputs, a batch at a time.

What happens to an input is a function of numbers from 0 to 1 that were drawn for it, so that a
share of a batch is varied as the whole batch would be.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crowdhmt_ros.elastic.teaching.augment import VARIATION as PHOTO_VARIATION
from crowdhmt_ros.elastic.teaching.augment import augmented_batch

Inputs = NDArray[np.generic]
Numbers = NDArray[np.float64]
PAD_RATIO = 0.125
"""Of an image's edge, on each side, before a part as large as the image is cut out."""
CUTOUT_RATIO = 0.25
"""Edge of the square that cutout hides."""
MAX_ANGLE_RAD = 0.26
GAIN_STEP, NOISE_STEP, SPEED_STEP = 0.1, 0.03, 0.1
MAX_SHIFT_RATIO = 0.1
"""Of a window's samples."""
MASKED_FRAMES_RATIO, MASKED_BANDS_RATIO = 0.15, 0.12
LOUDNESS_STEP = 1.5
"""Added to the logarithm of the power."""
MAX_BAND_SHIFT = 2
_NOISE = np.random.default_rng(20).standard_normal(1 << 16).astype(np.float32)


@dataclass(frozen=True)
class Variation:
    """
    One way to vary inputs.

    :param text: what is done, with its figures: another one is other data to a checkpoint
    :param kind: of inputs that it is for, 'image', 'window' or 'spectrogram'; '' for all
    :param numbers: how many it takes for an input
    :param apply: (inputs (n, ...), numbers (n, k), edge) -> varied inputs of the same kind.
        Images are uint8 (n, h, w, 3), windows float32 (n, channels, samples) in the unit of the
        sensor, spectrograms float32 (n, 1, bands, frames); they are not changed in place
    :param resizes: whether it takes images of any size and gives them the edge
    """

    text: str
    kind: str
    numbers: int
    apply: Callable[[Inputs, Numbers, int], Inputs]
    resizes: bool = False


def _unchanged(inputs: Inputs, numbers: Numbers, edge: int) -> Inputs:
    return inputs


def _crop_flip(images: Inputs, numbers: Numbers, edge: int) -> Inputs:
    """Cut out a part after mirrored borders were added, and mirror half of the images."""
    pad = max(1, round(PAD_RATIO * images.shape[1]))
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), 'reflect')
    parts = sliding_window_view(padded, images.shape[1:3], axis=(1, 2))
    down, right = (_whole(numbers[:, k], 2 * pad + 1) for k in (0, 1))
    cut = parts[np.arange(len(images)), down, right]  # (n, 3, h, w)
    mirrored = numbers[:, 2] < 0.5
    cut[mirrored] = cut[mirrored, :, :, ::-1]
    return np.asarray(cut.transpose(0, 2, 3, 1))


def _crop_flip_cutout(images: Inputs, numbers: Numbers, edge: int) -> Inputs:
    """Hide a square as well (DeVries and Taylor 2017), in the colour that an image has there."""
    cut = np.ascontiguousarray(_crop_flip(images, numbers, edge))
    size = max(1, round(CUTOUT_RATIO * cut.shape[1]))
    rows = _span(numbers[:, 3], cut.shape[1], np.full(len(cut), size))
    columns = _span(numbers[:, 4], cut.shape[2], np.full(len(cut), size))
    hidden = rows[:, :, None] & columns[:, None, :]
    mean = np.broadcast_to(images.mean((1, 2), keepdims=True), cut.shape)
    cut[hidden] = mean[hidden].astype(cut.dtype)
    return np.asarray(cut)


def _photo(images: Inputs, numbers: Numbers, edge: int) -> Inputs:
    seeds = (numbers[:, 0] * 2 ** 53).astype(np.int64)
    varied = augmented_batch(images.astype(np.uint8, copy=False), edge or images.shape[1],
                             [np.random.default_rng(int(seed)) for seed in seeds])
    return np.rint(varied).astype(np.uint8)


def _window(windows: Inputs, numbers: Numbers, edge: int) -> Inputs:
    """Turn the sensor, walk a little faster or slower, earlier or later, stronger; add noise."""
    varied = _resampled(_turned(windows.astype(np.float32), numbers[:, :4]), numbers[:, 4:6])
    varied *= (1.0 + GAIN_STEP * _signed(numbers[:, 6]))[:, None, None].astype(np.float32)
    size = int(np.prod(windows.shape[1:]))
    start = _whole(numbers[:, 7], len(_NOISE))
    noise = _NOISE[(start[:, None] + np.arange(size)) % len(_NOISE)].reshape(windows.shape)
    spread = windows.std(2, keepdims=True)
    return np.asarray(varied + np.float32(NOISE_STEP) * spread * noise, np.float32)


def _turned(windows: NDArray[np.float32], numbers: Numbers) -> NDArray[np.float32]:
    """Turn all triples of axes alike: a sensor sits a little differently on each body."""
    count, channels, samples = windows.shape
    if channels % 3:
        return windows
    axis = 2.0 * numbers[:, :3] - 1.0
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
    matrices = _rotations(axis, MAX_ANGLE_RAD * _signed(numbers[:, 3])).astype(np.float32)
    triples = windows.reshape(count, channels // 3, 3, samples)
    return np.asarray(matrices[:, None] @ triples).reshape(windows.shape)


def _rotations(axis: Numbers, angle: Numbers) -> Numbers:
    """
    Return the matrices of turns (Rodrigues).

    :param axis: (n, 3), of length one
    :param angle: (n,), radians
    """
    cross = np.zeros((len(axis), 3, 3))
    for row, column, k, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[:, row, column] = sign * axis[:, k]
        cross[:, column, row] = -sign * axis[:, k]
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + sine * cross + (1.0 - cosine) * (cross @ cross))


def _resampled(windows: NDArray[np.float32], numbers: Numbers) -> NDArray[np.float32]:
    """Read windows at another speed from another start; what lies beyond their ends mirrored."""
    samples = windows.shape[2]
    speed = 1.0 + SPEED_STEP * _signed(numbers[:, 0])
    shift = MAX_SHIFT_RATIO * samples * _signed(numbers[:, 1])
    middle = (samples - 1) / 2.0
    at = middle + (np.arange(samples) - middle) * speed[:, None] + shift[:, None]
    at = np.abs(at)
    at = np.where(at > samples - 1, 2 * (samples - 1) - at, at)
    before = np.clip(np.floor(at).astype(np.int64), 0, samples - 2)
    share = (at - before).astype(np.float32)[:, None, :]
    left = np.take_along_axis(windows, before[:, None, :], 2)
    right = np.take_along_axis(windows, before[:, None, :] + 1, 2)
    return np.asarray(left + share * (right - left))


def _spectrogram(sounds: Inputs, numbers: Numbers, edge: int) -> Inputs:
    """Begin elsewhere, shift bands, change the loudness, hide frames and bands (SpecAugment)."""
    count, _, bands, frames = sounds.shape
    later = (np.arange(frames) + _whole(numbers[:, 0], frames)[:, None]) % frames
    higher = np.clip(np.arange(bands) + _whole(numbers[:, 1], 2 * MAX_BAND_SHIFT + 1)[:, None]
                     - MAX_BAND_SHIFT, 0, bands - 1)
    varied = sounds[np.arange(count)[:, None, None], 0, higher[:, :, None], later[:, None, :]]
    varied = varied.astype(np.float32) + (LOUDNESS_STEP * _signed(numbers[:, 2]))[
        :, None, None].astype(np.float32)
    mean = np.broadcast_to(varied.mean((1, 2), keepdims=True), varied.shape)
    hidden = np.zeros(varied.shape, np.bool_)
    for k in (3, 7):
        hidden |= _span(numbers[:, k], frames, _whole(
            numbers[:, k + 1], 1 + round(MASKED_FRAMES_RATIO * frames)))[:, None, :]
        hidden |= _span(numbers[:, k + 2], bands, _whole(
            numbers[:, k + 3], 1 + round(MASKED_BANDS_RATIO * bands)))[:, :, None]
    return np.where(hidden, mean, varied)[:, None]


def _signed(numbers: Numbers) -> Numbers:
    return 2.0 * numbers - 1.0


def _whole(numbers: Numbers, count: int) -> NDArray[np.int64]:
    """Return whole numbers from 0 to count - 1."""
    return np.minimum((numbers * count).astype(np.int64), count - 1)


def _span(numbers: Numbers, length: int, size: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark `size` places in a row, (n, length); where they begin is drawn."""
    start = (numbers * (length - size + 1)).astype(np.int64)[:, None]
    place = np.arange(length)
    return np.asarray((place >= start) & (place < start + size[:, None]))


VARIATIONS: Dict[str, Variation] = {
    'none': Variation('none', '', 0, _unchanged),
    'crop-flip': Variation('crop %g, flip' % PAD_RATIO, 'image', 3, _crop_flip),
    'crop-flip-cutout': Variation('crop %g, flip, cutout %g' % (PAD_RATIO, CUTOUT_RATIO),
                                  'image', 5, _crop_flip_cutout),
    'photo': Variation(PHOTO_VARIATION, 'image', 1, _photo, resizes=True),
    'window': Variation('turn %g, speed %g, shift %g, gain %g, noise %g' % (
        MAX_ANGLE_RAD, SPEED_STEP, MAX_SHIFT_RATIO, GAIN_STEP, NOISE_STEP), 'window', 8, _window),
    'spectrogram': Variation('shift, bands %d, loudness %g, masks %g %g' % (
        MAX_BAND_SHIFT, LOUDNESS_STEP, MASKED_FRAMES_RATIO, MASKED_BANDS_RATIO),
        'spectrogram', 11, _spectrogram),
}
"""By name, as a task's file gives it."""
