# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdhmt_ros.errors import CodecError
from crowdhmt_ros.offload import codec, compression
from crowdhmt_ros.offload.image_payload import decode_image, encode_image, stated_size
from crowdhmt_ros.types import TensorSpec

MAP = TensorSpec('map', 'float32', (1, 4, 8, 8))
SKIP = TensorSpec('skip', 'float32', (1, 2, 4))
LABELS = TensorSpec('labels', 'int64', (3,))
METHODS = ('zstd', 'zlib')


@pytest.fixture(params=METHODS)
def method(request, monkeypatch):
    if request.param == 'zlib':
        monkeypatch.setattr(compression, 'ZSTANDARD', None)
    elif compression.ZSTANDARD is None:
        pytest.skip('zstandard is not installed')
    return request.param


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    return (np.maximum(rng.standard_normal(MAP.shape), 0).astype(np.float32),
            rng.standard_normal(SKIP.shape).astype(np.float32))


def int8_payload(packed, how, low=0.0, step=1.0):
    return bytes((how,)) + struct.pack('<dd', low, step) + packed


def test_raw_brings_every_type_back_unchanged():
    arrays = (tensors()[0], np.arange(3))
    found = codec.decode('raw', codec.encode('raw', arrays), (MAP, LABELS))
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(arrays, found))


def test_raw_packs_an_array_that_does_not_lie_in_order():
    array = tensors()[0].transpose(0, 1, 3, 2)
    found, = codec.decode('raw', codec.encode('raw', [array]), [MAP])
    assert np.array_equal(found, array)


def test_fp16_keeps_three_digits_and_does_not_overflow():
    arrays = tensors()
    arrays[0].flat[0] = 1e9
    found = codec.decode('fp16', codec.encode('fp16', arrays), (MAP, SKIP))
    assert found[0].flat[0] == codec.FP16_MAX
    np.testing.assert_allclose(found[0].flat[1:], arrays[0].flat[1:], rtol=1e-3, atol=1e-6)
    assert {a.dtype.name for a in found} == {'float32'}


def test_int8_errs_by_half_a_step_and_keeps_the_zeros(method):
    arrays = tensors()
    payload = codec.encode('int8', arrays)
    assert payload[0] == {'zstd': compression.ZSTD, 'zlib': compression.ZLIB}[method]
    found = codec.decode('int8', payload, (MAP, SKIP))
    for before, after in zip(arrays, found):
        step = (before.max() - before.min()) / 255
        assert np.abs(after - before).max() <= 0.51 * step
    assert (found[0][arrays[0] == 0] == 0).all()


def test_a_feature_map_shrinks_to_a_fifth_with_int8(method):
    array = np.maximum(np.random.default_rng(1).standard_normal((1, 32, 32, 32)), 0)
    assert len(codec.encode('int8', [array.astype(np.float32)])) < array.size * 4 / 5


@settings(max_examples=60, deadline=None)
@given(array=hnp.arrays(np.float32, (3, 5), elements=st.floats(-2.0 ** 100, 2.0 ** 100, width=32)),
       name=st.sampled_from(('raw', 'fp16', 'int8')))
def test_any_finite_tensor_comes_back_near_and_within_the_stated_length(array, name):
    spec = TensorSpec('x', 'float32', (3, 5))
    payload = codec.encode(name, [array])
    assert len(payload) <= codec.largest_payload(name, [spec])
    found, = codec.decode(name, payload, [spec])
    wanted = np.clip(array, -codec.FP16_MAX, codec.FP16_MAX) if name == 'fp16' else array
    span = float(array.max()) - float(array.min())
    atol = {'raw': 0.0, 'fp16': 1e-7, 'int8': span / 500 + 1e-29}[name]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=atol)


def test_what_does_not_compress_still_fits_the_stated_length(method):
    noise = np.random.default_rng(2).uniform(-1, 1, (1, 64, 64, 16)).astype(np.float32)
    spec = TensorSpec('x', 'float32', noise.shape)
    assert len(codec.encode('int8', [noise])) <= codec.largest_payload('int8', [spec])


@pytest.mark.parametrize(('name', 'arrays', 'line'), [
    ('int8', [np.array([np.nan], np.float32)], 'not finite'),
    ('int8', [np.array([3e38, -3e38], np.float32)], 'beyond 1e38'),
    ('int8', [np.arange(3)], "use 'raw'"),
    ('fp16', [np.arange(3)], "use 'raw'"),
    ('jpeg', [np.zeros(3)], 'for images'),
    ('zip', [np.zeros(3)], 'choose from raw, fp16, int8, jpeg')])
def test_what_a_codec_cannot_carry_is_refused(name, arrays, line):
    with pytest.raises(CodecError, match=line):
        codec.encode(name, arrays)


@pytest.mark.parametrize('name', ['raw', 'fp16', 'int8'])
def test_a_tensor_without_extents_travels(name):
    spec = TensorSpec('x', 'float32', ())
    found, = codec.decode(name, codec.encode(name, [np.array(0.5, np.float32)]), [spec])
    assert found.shape == ()
    assert found == 0.5


@pytest.mark.parametrize('name', ['raw', 'fp16', 'int8'])
def test_a_payload_of_another_shape_is_refused(name):
    payload = codec.encode(name, [tensors()[0]])
    with pytest.raises(CodecError):
        codec.decode(name, payload, [TensorSpec('map', 'float32', (1, 4, 8, 9))])


@pytest.mark.parametrize('name', ['raw', 'fp16', 'int8'])
def test_a_truncated_payload_is_refused_at_every_length(name):
    payload = codec.encode(name, [tensors()[0]])
    for length in range(len(payload)):
        with pytest.raises(CodecError):
            codec.decode(name, payload[:length], [MAP])


@pytest.mark.parametrize('name', ['raw', 'fp16'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_refused(name, value):
    arrays = tensors()
    arrays[1].flat[3] = value
    payload = (codec.encode(name, arrays) if name == 'raw' else
               b''.join(a.astype('<f2').tobytes() for a in arrays))
    with pytest.raises(CodecError, match='tensor skip holds'):
        codec.decode(name, payload, (MAP, SKIP))


@pytest.mark.parametrize(('low', 'step'), [(np.nan, 1), (0, np.inf), (0, -1), (0, 1e308),
                                           (1e39, 0)])
def test_a_range_that_makes_no_finite_numbers_is_refused(low, step):
    packed = zlib.compress(bytes(256))
    with pytest.raises(CodecError, match='range'):
        codec.decode('int8', int8_payload(packed, compression.ZLIB, low, step), [MAP])


def test_an_unknown_compression_is_refused():
    with pytest.raises(CodecError, match='unknown method 9'):
        codec.decode('int8', int8_payload(b'', 9), [MAP])


def bombs():
    zeros = bytes(1 << 26)
    yield 'zlib', compression.ZLIB, zlib.compress(zeros, 9)
    zstandard = compression.ZSTANDARD
    if zstandard is None:
        return
    packed = zstandard.ZstdCompressor().compress(zeros)
    yield 'zstd', compression.ZSTD, packed
    machine = zstandard.ZstdCompressor(write_content_size=False)
    yield 'zstd without its size', compression.ZSTD, machine.compress(zeros)
    parameters = zstandard.get_frame_parameters(packed)
    assert parameters.content_size == len(zeros)
    at = packed.index(struct.pack('<I', len(zeros)))
    lie = packed[:at] + struct.pack('<I', 256) + packed[at + 4:]
    yield 'zstd that lies', compression.ZSTD, lie


@pytest.mark.parametrize(('how', 'packed'), [b[1:] for b in bombs()], ids=[b[0] for b in bombs()])
def test_a_bomb_is_refused_before_it_unfolds(how, packed):
    payload = int8_payload(packed, how)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            codec.decode('int8', payload, [MAP])
        assert tracemalloc.get_traced_memory()[1] < len(payload) + 100_000
    finally:
        tracemalloc.stop()


def test_a_robot_without_zstandard_says_so(monkeypatch):
    if compression.ZSTANDARD is None:
        pytest.skip('zstandard is not installed')
    payload = codec.encode('int8', [tensors()[0]])
    monkeypatch.setattr(compression, 'ZSTANDARD', None)
    with pytest.raises(CodecError, match='pip install zstandard'):
        codec.decode('int8', payload, [MAP])


def picture(height=48, width=64):
    rows = np.linspace(0, 255, height)[:, None, None]
    return np.broadcast_to(rows, (height, width, 3)).astype(np.uint8)


def test_an_image_comes_back_nearly_the_same_within_the_stated_length():
    image = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    payload = encode_image(image, quality=100)
    spec = TensorSpec('image', 'float32', (1, 3, 64, 64))
    assert len(payload) <= codec.largest_payload('jpeg', [spec])
    smooth = decode_image(encode_image(picture()), 48, 64)
    assert np.abs(smooth.astype(int) - picture()).max() <= 6


@pytest.mark.parametrize('image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
                                   np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(CodecError):
        encode_image(image)


def with_size(payload, height, width):
    at = payload.index(b'\xff\xc0') + 5
    return payload[:at] + struct.pack('>HH', height, width) + payload[at + 4:]


def test_a_picture_that_claims_to_be_huge_is_not_decoded(monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    with pytest.raises(CodecError, match='65000 x 65000'):
        decode_image(with_size(encode_image(picture()), 65000, 65000), 48, 64)


def test_a_second_size_behind_the_first_is_refused():
    payload = encode_image(picture())
    at = payload.index(b'\xff\xc0')
    frame = payload[at:at + 2 + struct.unpack('>H', payload[at + 2:at + 4])[0]]
    doubled = payload[:at] + frame + payload[at:]
    with pytest.raises(CodecError, match='exactly one frame'):
        decode_image(doubled, 48, 64)


@pytest.mark.parametrize('options', [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_a_progressive_picture_is_refused(options):
    payload = cv2.imencode('.jpg', picture(), options)[1].tobytes()
    with pytest.raises(CodecError, match='baseline'):
        decode_image(payload, 48, 64)


def test_a_grey_picture_and_a_png_are_refused():
    grey = cv2.imencode('.jpg', picture()[:, :, 0])[1].tobytes()
    png = cv2.imencode('.png', picture())[1].tobytes()
    filled = b'\xff\xd8' + b'\xff' * 100 + b'\xff\xd9'
    for payload in (grey, png, b'', b'\xff\xd8\xff\xd9', filled):
        with pytest.raises(CodecError):
            decode_image(payload, 48, 64)


def test_a_cut_picture_is_refused():
    payload = encode_image(picture())
    for length in range(0, len(payload), 7):
        with pytest.raises(CodecError):
            decode_image(payload[:length], 48, 64)


def test_the_size_is_read_behind_other_markers():
    payload = encode_image(picture())
    note = b'\xff\xfe' + struct.pack('>H', 2 + 300) + b'\xc0' * 300
    assert stated_size(payload[:2] + note + payload[2:]) == (48, 64)


def test_rotation_notes_do_not_turn_the_picture():
    tiff = b'II*\x00\x08\x00\x00\x00' + b'\x01\x00' + struct.pack('<HHIHH', 0x112, 3, 1, 6, 0)
    exif = b'Exif\x00\x00' + tiff + b'\x00' * 4
    payload = encode_image(picture())
    turned = payload[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(exif)) + exif + payload[2:]
    assert decode_image(turned, 48, 64).shape == (48, 64, 3)


def test_unknown_codecs_have_no_length():
    with pytest.raises(CodecError, match='unknown codec'):
        codec.largest_payload('zip', [MAP])


def test_a_type_that_is_no_number_cannot_travel():
    for dtype in ('object', 'str', 'nonsense'):
        with pytest.raises(CodecError):
            codec.decode('raw', b'', [TensorSpec('x', dtype, (1,))])
