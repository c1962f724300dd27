# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from crowdhmt_ros.types import FrameTruth
from crowdhmt_ros.vision.overlay import MIN_WIDTH, draw


@pytest.mark.parametrize('shape', [(144, 192, 3), (144, 192), (480, 640, 3), (8, 8)])
def test_drawing_leaves_the_image_alone_and_is_large_enough_to_read(shape):
    image = np.full(shape, 90, np.uint8)
    image.flags.writeable = False
    drawn = draw(image, 'car', 0.87, ['w1.0/1t/fast', 'battery 80 %'])
    assert drawn.shape[1] >= MIN_WIDTH
    assert drawn.shape[2] == 3
    assert (image == 90).all()
    assert (drawn != 90).any()


def test_right_and_wrong_answers_differ_in_colour_and_the_box_is_drawn():
    image = np.full((240, 320, 3), 90, np.uint8)
    truth = FrameTruth('car', 'noon', (0.5, 0.5, 0.9, 0.9))
    right, wrong = draw(image, 'car', 1.0, truth=truth), draw(image, 'bird', 1.0, truth=truth)
    assert (right[120, 200] != wrong[120, 200]).any()
    assert (draw(image, 'car', 1.0)[120, 200] == 90).all()
