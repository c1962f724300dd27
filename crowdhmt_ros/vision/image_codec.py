# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Bytes of an image message to an array; nothing here knows ROS.

Sizes that a message claims are compared with the bytes that came before anything is
allocated, and a compressed image tells its size before it is decoded.
"""
from __future__ import annotations

import struct
import zlib
from typing import Optional, Tuple, Union

import cv2
import numpy as np

from crowdhmt_ros.errors import FrameError

Buffer = Union[bytes, bytearray, memoryview, np.ndarray]
"""Anything with the buffer protocol; array.array('B') as well."""

CHANNELS = {'bgr8': 3, 'rgb8': 3, 'mono8': 1, 'rgba8': 4, 'bgra8': 4}
_ALIASES = {'8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8'}
_TO_BGR = {'rgb8': cv2.COLOR_RGB2BGR, 'rgba8': cv2.COLOR_RGBA2BGR, 'bgra8': cv2.COLOR_BGRA2BGR}
MAX_PIXELS = 1 << 26
MAX_PIXELS_PER_BYTE = 2048
"""A plain black JPEG or PNG reaches about 350; more is a damaged or hostile header."""
_JPEG, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG = b'\x89PNG\r\n\x1a\n'
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2))


def decode_raw(height: int, width: int, encoding: str, step: int, is_bigendian: bool,
               data: Buffer) -> np.ndarray:
    """
    View or convert the bytes of a sensor_msgs/Image.

    :param height: rows
    :param width: columns
    :param encoding: bgr8, rgb8, mono8, rgba8, bgra8 (8UC1, 8UC3, 8UC4 likewise)
    :param step: bytes from one row to the next, at least width * channels
    :param is_bigendian: as in the message; without effect on 8-bit channels
    :param data: rows, the last one may lack its padding
    :returns: (H, W, 3) uint8 blue-green-red or (H, W) uint8; shares memory with `data` where
        no conversion is needed
    :raises FrameError: one line that says what came and what is accepted
    """
    name = _ALIASES.get(encoding, encoding)
    channels = CHANNELS.get(name)
    if channels is None:
        raise FrameError('image encoding %.40r is not supported, publish one of %s' % (
            encoding, ', '.join(CHANNELS)))
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise FrameError('image of %d x %d pixels is not usable, expected 1 to %d pixels' % (
            width, height, MAX_PIXELS))
    if step < width * channels:
        raise FrameError('image step is %d bytes, a row of %d %s pixels takes at least %d' % (
            step, width, encoding, width * channels))
    content = _bytes_of(data)
    needed = (height - 1) * step + width * channels
    if content.size < needed:
        raise FrameError('image data has %d bytes, %d rows with step %d need %d' % (
            content.size, height, step, needed))
    return _arrange(content, height, width, channels, step, name)


def _arrange(content: np.ndarray, height: int, width: int, channels: int, step: int,
             name: str) -> np.ndarray:
    image: np.ndarray
    if channels == 1:
        image = np.ndarray((height, width), np.uint8, content.data, strides=(step, 1))
        return image
    image = np.ndarray((height, width, channels), np.uint8, content.data,
                       strides=(step, channels, 1))
    return image if name == 'bgr8' else np.asarray(cv2.cvtColor(image, _TO_BGR[name]))


def _bytes_of(data: Buffer) -> np.ndarray:
    try:
        if len(data) == 0:
            return np.zeros(0, np.uint8)
        return np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise FrameError('image data is %s, expected bytes' % type(data).__name__) from error


def decode_compressed(data: Buffer, *,
                      reduced_to: Optional[Tuple[int, int]] = None) -> np.ndarray:
    """
    Decode a sensor_msgs/CompressedImage: JPEG or PNG, whatever its format field says.

    :param data: the file
    :param reduced_to: (height, width) that is still enough; a JPEG is then decoded at 1/2,
        1/4 or 1/8 of its size, as far as both sides stay at least that large
    :returns: (H, W, 3) uint8 blue-green-red, as stored (an EXIF orientation is not applied)
    :raises FrameError: empty, cut short, garbage, or absurdly large
    """
    content = _bytes_of(data)
    if content.size == 0:
        raise FrameError('compressed image data is empty')
    view = content.data
    size = _jpeg_size(view) or _png_size(view)
    if size is None:
        raise FrameError('compressed image of %d bytes starts with %s, publish JPEG or PNG' % (
            content.size, bytes(view[:4]).hex()))
    most = min(MAX_PIXELS, content.size * MAX_PIXELS_PER_BYTE)
    if not 0 < size[0] * size[1] <= most:
        raise FrameError('compressed image of %d bytes claims %d x %d pixels, expected 1 to %d '
                         'pixels' % (content.size, size[1], size[0], most))
    if bytes(view[:2]) == _JPEG:
        _check_jpeg_end(content)
        flags = _jpeg_flags(size, reduced_to)
    else:
        _check_png_chunks(view)
        flags = int(cv2.IMREAD_COLOR)
    try:
        image = cv2.imdecode(content, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise FrameError('compressed image cannot be decoded: %s' % (
            ' '.join(str(error).split())[:200])) from error
    if image is None:
        raise FrameError('compressed image of %d bytes is damaged' % content.size)
    return np.asarray(image)


def _check_jpeg_end(content: np.ndarray) -> None:
    """Refuse a file without its end mark: a decoder would fill the rest with grey."""
    if _JPEG_END not in content[-64:].tobytes() and _JPEG_END not in content.tobytes():
        raise FrameError('compressed image is cut short after %d bytes' % content.size)


def _check_png_chunks(view: memoryview) -> None:
    """
    Refuse a file whose chunks do not end at IEND or have a wrong checksum.

    A chunk that claims gigabytes keeps a decoder busy for seconds before it gives up.
    """
    at = len(_PNG)
    while at + 12 <= len(view):
        length = int(struct.unpack('>I', view[at:at + 4])[0])
        end = at + 12 + length
        if end > len(view):
            break
        if zlib.crc32(view[at + 4:end - 4]) != struct.unpack('>I', view[end - 4:end])[0]:
            raise FrameError('compressed image of %d bytes is damaged: a PNG checksum is wrong'
                             % len(view))
        if bytes(view[at + 4:at + 8]) == b'IEND':
            return
        at = end
    raise FrameError('compressed image is cut short after %d bytes' % len(view))


def _jpeg_flags(size: Tuple[int, int], reduced_to: Optional[Tuple[int, int]]) -> int:
    if reduced_to is not None:
        for factor, flag in _REDUCED:
            if size[0] // factor >= reduced_to[0] and size[1] // factor >= reduced_to[1]:
                return int(flag)
    return int(cv2.IMREAD_COLOR)


def _png_size(head: memoryview) -> Optional[Tuple[int, int]]:
    if len(head) < 24 or bytes(head[:8]) != _PNG:
        return None
    width, height = struct.unpack('>II', head[16:24])
    return height, width


def _jpeg_size(head: memoryview) -> Optional[Tuple[int, int]]:
    """Return (height, width) from the frame header of a JPEG file (ITU T.81, B.2.2)."""
    if bytes(head[:2]) != _JPEG:
        return None
    at = 2
    while at + 9 <= len(head) and head[at] == 0xff:
        marker = head[at + 1]
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):
            height, width = struct.unpack('>HH', head[at + 5:at + 9])
            return height, width
        if marker == 0xff:
            at += 1
            continue
        at += 2 + int(struct.unpack('>H', head[at + 2:at + 4])[0])
    return None
