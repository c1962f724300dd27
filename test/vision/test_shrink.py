# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from crowdhmt_ros.vision.shrink import EXACT_PIXELS, Resizer

AREA, LINEAR = cv2.INTER_AREA, cv2.INTER_LINEAR


def textured(height, width, *channels):
    """Return a picture with edges and texture at all scales, as photos have them."""
    rng = np.random.default_rng(height * width)
    total = np.zeros((height, width, *(channels or (1,))), np.float32)
    for octave in range(6):
        rows, columns = max(2, height >> octave), max(2, width >> octave)
        layer = rng.normal(size=(rows, columns, *(channels or (1,)))).astype(np.float32)
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer.reshape(total.shape) * 2.0 ** octave
    total = np.clip(128 + 3 * total, 0, 255).astype(np.uint8)
    total[height // 3:height // 2, width // 4:width // 2] = 250
    return total if channels else total[:, :, 0]


def resized(image, size, how='area'):
    resizer = Resizer(image.shape, size, how)
    out = np.zeros((*size, *image.shape[2:]), np.uint8)
    resizer.into(image, out)
    return out, resizer


SIZES = [((480, 640), (224, 224)), ((480, 640), (64, 64)), ((720, 1280), (224, 224)),
         ((1080, 1920), (224, 224)), ((1080, 1920), (64, 64)), ((480, 848), (224, 224)),
         ((240, 320), (64, 64)), ((479, 641), (160, 160))]


@pytest.mark.parametrize('channels', [(3,), ()])
@pytest.mark.parametrize(('source', 'size'), SIZES)
def test_large_frames_come_out_as_averaged_areas(source, size, channels):
    image = textured(*source, *channels)
    out, resizer = resized(image, size)
    assert not resizer.exact
    wanted = cv2.resize(image, size[::-1], interpolation=AREA).astype(int)
    apart = np.abs(out.astype(int) - wanted)
    naive = np.abs(cv2.resize(image, size[::-1], interpolation=LINEAR).astype(int) - wanted)
    assert apart.mean() <= 0.7
    assert np.percentile(apart, 99) <= 5
    assert apart.mean() <= 0.2 * naive.mean()


@pytest.mark.parametrize('source', [(512, 512), (768, 512), (1024, 768), (640, 1280)])
def test_areas_of_whole_pixels_are_off_by_rounding_alone(source):
    image = np.random.default_rng(1).integers(0, 256, (*source, 3), np.uint8)
    out, _ = resized(image, (128, 128))
    wanted = cv2.resize(image, (128, 128), interpolation=AREA)
    assert np.abs(out.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize(('source', 'size'), SIZES)
def test_nothing_is_shifted(source, size):
    rows, columns = np.mgrid[:source[0], :source[1]].astype(np.float32)
    image = (rows / source[0] * 120 + columns / source[1] * 120).astype(np.uint8)
    out, _ = resized(image, size)
    wanted = cv2.resize(image, size[::-1], interpolation=AREA)
    apart = out.astype(int) - wanted
    assert np.abs(apart).max() <= 1
    assert abs(apart.mean()) <= 0.3


@pytest.mark.parametrize(('source', 'size'), [
    ((144, 192), (64, 64)), ((32, 32), (64, 64)), ((480, 640), (480, 640)),
    ((480, 640), (256, 256)), ((240, 320), (224, 224)), ((480, 640), (700, 100))])
def test_small_frames_and_small_or_odd_factors_are_left_to_cv2(source, size):
    image = textured(*source, 3)
    out, resizer = resized(image, size)
    assert resizer.exact
    np.testing.assert_array_equal(out, cv2.resize(image, size[::-1], interpolation=AREA))


def test_the_frame_of_the_robots_own_scenes_is_exact():
    assert EXACT_PIXELS > 144 * 192


def test_bilinear_is_cv2s():
    image = textured(480, 640, 3)
    out, resizer = resized(image, (224, 224), 'linear')
    assert resizer.exact
    np.testing.assert_array_equal(out, cv2.resize(image, (224, 224), interpolation=LINEAR))


@pytest.mark.parametrize('view', [lambda i: i[::-1, ::-1], lambda i: i[:, :, ::-1],
                                  lambda i: i[1:481, 2:642]])
def test_any_strides_are_read_and_left_alone(view):
    image = view(textured(490, 650, 3))
    before = image.copy()
    out, _ = resized(image, (64, 64))
    np.testing.assert_array_equal(out, resized(before, (64, 64))[0])
    np.testing.assert_array_equal(image, before)
