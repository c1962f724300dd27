# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from crowdhmt_ros.elastic.teaching.images import Images, balanced_draw, join, shares

LABELS = np.array([0] * 10 + [1] * 50, np.int64)
IMAGES = Images(np.zeros((60, 2, 2, 3), np.uint8), LABELS)


def test_draw_is_balanced_and_uses_images_evenly():
    drawn = balanced_draw(IMAGES, 80, np.random.default_rng(0), (1.0, 1.0, 1.0))
    assert np.bincount(LABELS[drawn]).tolist() == [40, 40]
    assert set(np.bincount(drawn, minlength=60)[:10]) == {4}


def test_weights_say_the_shares_of_the_classes_that_are_there():
    assert shares(IMAGES, 40, (3.0, 1.0, 5.0)) == {0: 30, 1: 10}


def test_nothing_is_drawn_from_no_images():
    none = Images(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0, np.int64))
    assert len(balanced_draw(none, 80, np.random.default_rng(0), (1.0,))) == 0


def test_joined_sets_keep_their_order():
    joined = join([IMAGES, Images(np.ones((1, 2, 2, 3), np.uint8), np.array([2]))])
    assert joined.labels.tolist() == [*LABELS.tolist(), 2]
    assert joined.pixels[-1].max() == 1
