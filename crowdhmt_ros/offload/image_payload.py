# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
An image as a payload: a baseline JPEG whose stated size is read before anything is decoded.

cv2.imdecode believes the size in the file: 200 bytes may ask for gigabytes. So the markers are
walked first, and only a picture of exactly the expected height and width is decoded.
"""
from __future__ import annotations

from typing import Iterator, Tuple

import cv2
import numpy as np

from crowdhmt_ros.errors import CodecError

START, END = b'\xff\xd8', b'\xff\xd9'
FRAME_BASELINE, SCAN = 0xC0, 0xDA
OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Progressive, lossless and arithmetic pictures: never written by `encode_image`."""
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
SAMPLE_BITS, CHANNELS = 8, 3
MARGIN_BYTES = 4096


FULL_COLOUR = (getattr(cv2, 'IMWRITE_JPEG_SAMPLING_FACTOR', 7), 0x111111)
"""Colour at every pixel, which small pictures need (older OpenCV ignores it)."""


def largest_image(values: int) -> int:
    """
    Return the most bytes that a picture may have; even noise at quality 100 stays below.

    :param values: height x width x 3
    """
    return 2 * values + MARGIN_BYTES


def encode_image(image: np.ndarray, quality: int = 95) -> bytes:
    """
    Pack an image.

    :param image: (H, W, 3) uint8, blue-green-red
    :param quality: 1..100
    :raises CodecError: when it is not such an image
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != CHANNELS:
        raise CodecError('an image of shape %s and type %s: (H, W, 3) uint8 was expected' % (
            image.shape, image.dtype))
    try:
        done, packed = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality,
                                                    *FULL_COLOUR])
    except cv2.error as error:
        raise CodecError('an image of shape %s cannot be packed: %s' % (
            image.shape, ' '.join(str(error).split())[:100])) from error
    if not done:
        raise CodecError('an image of shape %s cannot be packed' % (image.shape,))
    return packed.tobytes()


def markers(payload: bytes) -> Iterator[Tuple[int, bytes]]:
    """
    Yield the marker segments before the first scan: (marker, content).

    :raises CodecError: when the payload is no JPEG up to there
    """
    if payload[:2] != START or payload[-2:] != END:
        raise CodecError('not a whole JPEG picture: its start or its end is missing')
    at = 2
    while at + 4 <= len(payload):
        if payload[at] != 0xFF:
            break
        marker = payload[at + 1]
        if marker == 0xFF or marker in ALONE:  # a fill byte, or a marker without content
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(payload[at + 2:at + 4], 'big')
        if length < 2 or at + 2 + length > len(payload):
            break
        yield marker, payload[at + 4:at + 2 + length]
        if marker == SCAN:
            return
        at += 2 + length
    raise CodecError('not a JPEG picture: its markers end before the first scan')


def stated_size(payload: bytes) -> Tuple[int, int]:
    """
    Return (height, width) as a baseline picture of three 8-bit channels states them.

    :raises CodecError: when it is anything else
    """
    frames = []
    for marker, content in markers(payload):
        if marker in OTHER_FRAMES:
            raise CodecError('a JPEG picture of another kind than baseline: not used here')
        if marker == FRAME_BASELINE:
            frames.append(content)
    if len(frames) != 1 or len(frames[0]) != 6 + 3 * CHANNELS:
        raise CodecError('a JPEG picture without exactly one frame of three channels')
    frame = frames[0]
    if frame[0] != SAMPLE_BITS or frame[5] != CHANNELS:
        raise CodecError('a JPEG picture of %d bits and %d channels: 8 and 3 were expected' % (
            frame[0], frame[5]))
    return int.from_bytes(frame[1:3], 'big'), int.from_bytes(frame[3:5], 'big')


def decode_image(payload: bytes, height: int, width: int) -> np.ndarray:
    """
    Unpack an image of a known size.

    :returns: (height, width, 3) uint8, blue-green-red
    :raises CodecError: when it is not a whole baseline JPEG of exactly that size
    """
    if len(payload) > largest_image(height * width * CHANNELS):
        raise CodecError('a picture of %d bytes: %d are allowed' % (
            len(payload), largest_image(height * width * CHANNELS)))
    stated = stated_size(payload)
    if stated != (height, width):
        raise CodecError('a picture of %d x %d: %d x %d (height x width) was expected' % (
            *stated, height, width))
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8),
                             cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CodecError('a JPEG picture cannot be decoded: %s' % (
            ' '.join(str(error).split())[:100])) from error
    if image is None or image.shape != (height, width, CHANNELS):
        raise CodecError('a JPEG picture cannot be decoded: its content is damaged')
    return image
