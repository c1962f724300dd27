# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import array
import struct
import time

import cv2
import numpy as np
import pytest

from crowdhmt_ros.errors import FrameError
from crowdhmt_ros.vision.image_codec import MAX_PIXELS, decode_compressed, decode_raw

ORDER = {'bgr8': [0, 1, 2], 'rgb8': [2, 1, 0], 'bgra8': [0, 1, 2, 3], 'rgba8': [2, 1, 0, 3]}


def picture(height=37, width=53, channels=4):
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), np.uint8)


def packed(image, step):
    """Return the bytes of an image whose rows are padded to a step with noise."""
    rows = image.reshape(image.shape[0], -1)
    padding = np.full((image.shape[0], step - rows.shape[1]), 171, np.uint8)
    return np.concatenate([rows, padding], axis=1).tobytes()


@pytest.mark.parametrize('extra', [0, 1, 11, 1000])
@pytest.mark.parametrize('encoding', sorted(ORDER))
def test_every_colour_encoding_becomes_bgr_whatever_the_step(encoding, extra):
    bgra = picture()
    stored = bgra[:, :, ORDER[encoding]]
    step = stored.shape[1] * stored.shape[2] + extra
    image = decode_raw(37, 53, encoding, step, False, packed(stored, step))
    np.testing.assert_array_equal(image, bgra[:, :, :3])


@pytest.mark.parametrize('extra', [0, 3, 100])
def test_grey_stays_grey(extra):
    grey = picture(channels=1)[:, :, 0]
    image = decode_raw(37, 53, 'mono8', 53 + extra, True, packed(grey, 53 + extra))
    np.testing.assert_array_equal(image, grey)


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda b: array.array('B', b),
                                  lambda b: np.frombuffer(b, np.uint8)])
def test_every_kind_of_buffer_is_read(kind):
    bgr = picture(channels=3)
    image = decode_raw(37, 53, 'bgr8', 159, False, kind(bgr.tobytes()))
    np.testing.assert_array_equal(image, bgr)


def test_bgr_is_a_view_and_not_a_copy():
    data = bytearray(picture(channels=3).tobytes())
    image = decode_raw(37, 53, 'bgr8', 159, False, data)
    data[0] ^= 255
    assert image[0, 0, 0] == data[0]


def test_the_last_row_may_lack_its_padding_and_more_data_is_ignored():
    bgr = picture(channels=3)
    data = packed(bgr, 200)
    for content in (data[:36 * 200 + 159], data + b'more'):
        np.testing.assert_array_equal(decode_raw(37, 53, 'bgr8', 200, False, content), bgr)


def refused(*args):
    with pytest.raises(FrameError) as caught:
        decode_raw(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16', 'bayer_rggb8', 'yuv422', '', 'x' * 999])
def test_unknown_encoding_names_what_is_accepted(encoding):
    message = refused(4, 4, encoding, 12, False, bytes(48))
    assert 'rgb8' in message
    assert 'mono8' in message
    assert encoding[:10] in message
    assert len(message) < 200


def test_a_step_below_a_row_is_told_with_both_numbers():
    message = refused(4, 4, 'rgb8', 11, False, bytes(48))
    assert '11' in message
    assert '12' in message


@pytest.mark.parametrize('data', [b'', array.array('B'), np.zeros(0, np.uint8)])
def test_empty_data_is_told(data):
    assert '0 bytes' in refused(4, 4, 'rgb8', 12, False, data)


def test_short_data_is_told_with_both_numbers():
    message = refused(4, 4, 'rgb8', 12, False, bytes(47))
    assert '47' in message
    assert '48' in message


@pytest.mark.parametrize(('height', 'width'), [(0, 4), (4, 0), (0, 0), (-1, 4)])
def test_an_image_of_no_pixels_is_refused(height, width):
    assert 'not usable' in refused(height, width, 'rgb8', 12, False, bytes(48))


def test_absurd_sizes_are_refused_before_memory_is_taken():
    assert str(MAX_PIXELS) in refused(1 << 31, 1 << 31, 'rgb8', 1 << 33, False, bytes(48))
    assert '48 bytes' in refused(8000, 8000, 'rgb8', 24000, False, bytes(48))


def test_data_that_is_no_buffer_is_refused():
    assert 'expected bytes' in refused(4, 4, 'rgb8', 12, False, 'text')


def smooth(height=240, width=320):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 256, columns % 256, (rows + columns) // 3 % 256], 2).astype(np.uint8)


def encoded(image, kind='.png'):
    return cv2.imencode(kind, image)[1].tobytes()


def test_png_is_exact_and_jpeg_is_near():
    image = cv2.GaussianBlur(smooth(), (9, 9), 3)
    np.testing.assert_array_equal(decode_compressed(encoded(image)), image)
    error = np.abs(decode_compressed(encoded(image, '.jpg')).astype(int) - image)
    assert error.mean() < 4


def test_grey_files_become_bgr():
    grey = smooth()[:, :, 0]
    assert decode_compressed(encoded(grey)).shape == (240, 320, 3)
    assert decode_compressed(encoded(grey, '.jpg')).shape == (240, 320, 3)


@pytest.mark.parametrize(('wanted', 'shape'), [
    (None, (240, 320, 3)), ((64, 64), (120, 160, 3)), ((60, 80), (60, 80, 3)),
    ((30, 40), (30, 40, 3)), ((1, 1), (30, 40, 3)), ((240, 320), (240, 320, 3)),
    ((500, 500), (240, 320, 3)), ((64, 300), (240, 320, 3))])
def test_a_jpeg_is_decoded_no_larger_than_needed(wanted, shape):
    assert decode_compressed(encoded(smooth(), '.jpg'), reduced_to=wanted).shape == shape


def test_a_reduced_jpeg_shows_the_same_picture():
    image = cv2.GaussianBlur(smooth(), (31, 31), 9)
    reduced = decode_compressed(encoded(image, '.jpg'), reduced_to=(64, 64))
    expected = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).mean() < 5


def test_a_rotation_mark_is_not_applied():
    plain = encoded(smooth(), '.jpg')
    tiff = b'MM\0*\0\0\0\x08' + struct.pack('>HHHIHHI', 1, 0x112, 3, 1, 6, 0, 0)
    exif = b'Exif\0\0' + tiff
    turned = plain[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + plain[2:]
    np.testing.assert_array_equal(decode_compressed(turned), decode_compressed(plain))


def compressed_refusal(data):
    with pytest.raises(FrameError) as caught:
        decode_compressed(data)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('data', [b'', b'\xff', b'\xff\xd8', b'garbage' * 100, bytes(1000),
                                  b'\xff\xd8' + b'\xff' * 100, b'\x89PNG\r\n\x1a\n',
                                  b'\xff\xd8\xff\xc0\x00', 'text'])
def test_garbage_is_refused(data):
    assert 'image' in compressed_refusal(data)


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(kind, share):
    data = encoded(smooth(), kind)
    compressed_refusal(data[:int(len(data) * share)])


def test_trailing_padding_as_some_cameras_send_is_accepted():
    data = encoded(smooth(), '.jpg')
    assert decode_compressed(data + bytes(500)).shape == (240, 320, 3)


def test_absurd_sizes_are_refused_before_they_are_decoded():
    png = bytearray(encoded(smooth()))
    png[16:24] = struct.pack('>II', 60000, 60000)
    assert '60000' in compressed_refusal(bytes(png))
    png[16:24] = struct.pack('>II', 8000, 8000)
    assert '8000' in compressed_refusal(bytes(png)[:20000])


def test_a_png_chunk_that_claims_gigabytes_costs_no_time():
    png = bytearray(encoded(smooth()))
    png[33:37] = b'\x7f\xff\xff\xff'
    start = time.perf_counter()
    assert 'cut short' in compressed_refusal(bytes(png))
    assert time.perf_counter() - start < 0.5


def test_a_changed_byte_of_a_png_is_found():
    png = bytearray(encoded(smooth()))
    png[len(png) // 2] ^= 1
    assert 'checksum' in compressed_refusal(bytes(png))


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
def test_the_plainest_large_image_is_accepted(kind):
    black = np.zeros((2160, 3840, 3), np.uint8)
    assert not decode_compressed(encoded(black, kind)).any()


def test_random_damage_never_escapes_as_another_error():
    rng = np.random.default_rng(11)
    for kind in ('.jpg', '.png'):
        whole = np.frombuffer(encoded(smooth(60, 80), kind), np.uint8)
        for _ in range(150):
            data = whole.copy()
            data[rng.integers(0, data.size, 8)] = rng.integers(0, 256, 8)
            message = ''
            try:
                decode_compressed(data.tobytes())
            except FrameError as error:
                message = str(error)
            assert '\n' not in message
