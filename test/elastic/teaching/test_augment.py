# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from crowdhmt_ros.elastic.teaching.augment import augmented, augmented_batch

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


def _rngs(seed: int = 0):
    return [np.random.default_rng((seed, row)) for row in range(len(PIXELS))]


def test_variation_keeps_shape_and_range():
    before = PIXELS.copy()
    varied = augmented_batch(PIXELS, 48, _rngs())
    assert varied.shape == (5, 48, 48, 3)
    assert varied.dtype == np.float32
    assert 0.0 <= varied.min() <= varied.max() <= 255.0
    assert np.array_equal(PIXELS, before)


def test_an_image_varies_by_its_own_draw_alone():
    batch = augmented_batch(PIXELS, 32, _rngs())
    assert np.array_equal(batch[3], augmented(PIXELS[3], 32, _rngs()[3]))
    assert not np.array_equal(batch, augmented_batch(PIXELS, 32, _rngs(1)))
