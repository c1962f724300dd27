# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from crowdhmt_ros.errors import BundleError, FrameError
from crowdhmt_ros.types import InputSpec
from crowdhmt_ros.vision.preprocess import Preprocessor

SPEC = InputSpec('image', 'float32', (1, 3, 64, 64), 'rgb', 'area', 1 / 255,
                 (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def reference(image, spec=SPEC):
    """Compute the tensor the plain way, in double precision."""
    height, width = spec.shape[2:]
    resized = cv2.resize(np.ascontiguousarray(image), (width, height),
                         interpolation=cv2.INTER_AREA)
    rgb = np.repeat(resized[:, :, None], 3, 2) if resized.ndim == 2 else resized[:, :, ::-1]
    value = (rgb.astype(np.float64) * spec.scale - np.array(spec.mean)) / np.array(spec.std)
    return value.transpose(2, 0, 1)[None]


def picture(height, width, *channels):
    return np.random.default_rng(height * width).integers(
        0, 256, (height, width, *channels), np.uint8)


def tensor_of(image, spec=SPEC):
    out = np.full(spec.shape, np.nan, np.float32)
    Preprocessor(spec).into(image, out)
    return out


@pytest.mark.parametrize(('height', 'width'), [
    (144, 192), (64, 64), (32, 32), (1, 1), (1, 640), (239, 241), (65, 63), (160, 800)])
@pytest.mark.parametrize('channels', [(3,), (), (1,)])
def test_equals_the_plain_way(height, width, channels):
    image = picture(height, width, *channels)
    np.testing.assert_allclose(tensor_of(image), reference(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [(480, 640), (479, 641), (720, 1280), (64, 64)])
def test_bilinear_models_get_what_cv2_gives(size):
    spec = replace(SPEC, resize='linear')
    image = picture(*size, 3)
    resized = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)[:, :, ::-1]
    wanted = (resized / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(tensor_of(image, spec)[0], wanted.transpose(2, 0, 1), atol=1e-6)


def test_an_unknown_way_of_resizing_is_told():
    with pytest.raises(BundleError, match="'cubic', this robot knows area, linear"):
        Preprocessor(replace(SPEC, resize='cubic'))


def test_frames_of_other_sizes_take_turns():
    preprocessor, out = Preprocessor(SPEC), np.zeros(SPEC.shape, np.float32)
    for size in ((480, 640), (144, 192), (720, 1280), (480, 640)):
        image = cv2.GaussianBlur(picture(*size, 3), (31, 31), 9)
        preprocessor.into(image, out)
        np.testing.assert_allclose(out, reference(image), rtol=0, atol=2.01 / 255 / 0.224)


def test_whole_factors_average_areas():
    image = picture(128, 192, 3)
    means = image.reshape(64, 2, 64, 3, 3).mean(axis=(1, 3))[:, :, ::-1].transpose(2, 0, 1)
    spec = replace(SPEC, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert np.abs(tensor_of(image, spec)[0] - means).max() <= 0.5


def test_other_sizes_are_height_by_width():
    spec = replace(SPEC, shape=(1, 3, 32, 48))
    image = picture(100, 150, 3)
    np.testing.assert_allclose(tensor_of(image, spec), reference(image, spec), atol=1e-6)


@pytest.mark.parametrize('view', [
    lambda i: i[::2, ::3], lambda i: i[:, ::-1], lambda i: i[::-1], lambda i: i[5:90, 7:101],
    lambda i: i.transpose(1, 0, 2), lambda i: i[:, :, ::-1], lambda i: i[:, :, 1],
    lambda i: np.broadcast_to(i[:1], i.shape)])
def test_any_strides_are_read_rightly(view):
    image = view(picture(144, 192, 3))
    np.testing.assert_allclose(tensor_of(image), reference(image), rtol=0, atol=1e-6)


def test_read_only_images_are_read_and_left_alone():
    image = picture(144, 192, 3)
    image.flags.writeable = False
    before = image.copy()
    tensor_of(image)
    np.testing.assert_array_equal(image, before)


def test_buffers_and_kinds_may_change_from_frame_to_frame():
    preprocessor = Preprocessor(SPEC)
    for kind in ((3,), (), (3,), ()):
        image, out = picture(100, 90, *kind), np.zeros(SPEC.shape, np.float32)
        preprocessor.into(image, out)
        np.testing.assert_allclose(out, reference(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [(144, 192), (480, 640), (720, 1280)])
def test_nothing_is_allocated_per_frame(size):
    preprocessor, out = Preprocessor(SPEC), np.zeros(SPEC.shape, np.float32)
    image = picture(*size, 3)
    preprocessor.into(image, out)
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            preprocessor.into(image, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - base < 4096, 'one plane alone is 16384 bytes'


@pytest.mark.parametrize('kind', [(3,), ()])
def test_luminance_is_the_mean_grey_of_what_the_model_sees(kind):
    preprocessor, out = Preprocessor(SPEC), np.zeros(SPEC.shape, np.float32)
    assert preprocessor.luminance() is None
    image = picture(144, 192, *kind) // 2
    preprocessor.into(image, out)
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    assert preprocessor.luminance() == pytest.approx(grey.mean() / 255, abs=1e-3)


def test_white_is_one_and_black_is_nought():
    preprocessor, out = Preprocessor(SPEC), np.zeros(SPEC.shape, np.float32)
    preprocessor.into(np.full((50, 50, 3), 255, np.uint8), out)
    assert preprocessor.luminance() == pytest.approx(1.0)
    preprocessor.into(np.zeros((50, 50, 3), np.uint8), out)
    assert preprocessor.luminance() == 0.0


@pytest.mark.parametrize('image', [
    np.zeros((10, 10, 3), np.float32), np.zeros((10, 10, 4), np.uint8),
    np.zeros((0, 10, 3), np.uint8), np.zeros(10, np.uint8), np.zeros((10, 10), np.uint16),
    np.zeros((1, 10, 10, 3), np.uint8)], ids=lambda i: '%s%s' % (i.dtype, i.shape))
def test_what_is_no_image_is_refused(image):
    with pytest.raises(FrameError, match='expected uint8'):
        tensor_of(image)


@pytest.mark.parametrize('out', [
    np.zeros((1, 3, 64, 64)), np.zeros((1, 64, 64, 3), np.float32),
    np.zeros((1, 3, 64, 128), np.float32)[..., ::2],
    np.broadcast_to(np.float32(0), (1, 3, 64, 64))])
def test_a_buffer_that_does_not_fit_is_refused(out):
    with pytest.raises(FrameError, match='tensor buffer'):
        Preprocessor(SPEC).into(picture(64, 64, 3), out)


@pytest.mark.parametrize('change', [
    {'shape': (1, 6, 200)}, {'shape': (1, 1, 8, 8)}, {'dtype': 'int8'}, {'mean': ()}])
def test_a_model_that_takes_no_colour_image_is_refused(change):
    with pytest.raises(BundleError, match='no colour image'):
        Preprocessor(replace(SPEC, **change))
