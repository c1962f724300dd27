# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Bytes made fewer: zstd level 1, or zlib level 1 on a robot without the library zstandard.

Expanding is told the size beforehand and never allocates more, whatever the content claims.
"""
from __future__ import annotations

import importlib
import zlib
from types import ModuleType
from typing import Optional, Tuple

from crowdhmt_ros.errors import CodecError

ZLIB, ZSTD = 1, 2
LEVEL = 1
WINDOW_LEAST_BYTES = 1024


def zstandard_library() -> Optional[ModuleType]:
    """Return the library, None where it is not installed."""
    try:
        return importlib.import_module('zstandard')
    except ImportError:
        return None


ZSTANDARD = zstandard_library()


def compressed(levels: bytes) -> Tuple[int, bytes]:
    """Return (method, compressed bytes)."""
    if ZSTANDARD is None:
        return ZLIB, zlib.compress(levels, LEVEL)
    return ZSTD, ZSTANDARD.ZstdCompressor(level=LEVEL).compress(levels)


def expanded(method: int, packed: memoryview[int], size: int) -> bytes:
    """
    Decompress to exactly the expected size; never allocates more.

    :param size: in bytes
    :raises CodecError: when it would be another size, or cannot be decompressed
    """
    if method == ZLIB:
        return expanded_zlib(packed, size)
    if method == ZSTD:
        return expanded_zstd(packed, size)
    raise CodecError('an int8 payload packed by the unknown method %d' % method)


def expanded_zlib(packed: memoryview[int], size: int) -> bytes:
    """Decompress with zlib, see `expanded`."""
    machine = zlib.decompressobj()
    try:
        levels = machine.decompress(packed, size + 1)
    except zlib.error as error:
        raise CodecError('an int8 payload cannot be decompressed: %s' % error) from error
    if len(levels) != size or not machine.eof or machine.unused_data:
        raise CodecError('an int8 payload expands to another size than the %d bytes expected'
                         % size)
    return levels


def expanded_zstd(packed: memoryview[int], size: int) -> bytes:
    """Decompress with zstandard, see `expanded`; `max_output_size` alone bounds nothing there."""
    if ZSTANDARD is None:
        raise CodecError('an int8 payload packed by zstandard, which is not installed here: '
                         'pip install zstandard')
    try:
        stated = ZSTANDARD.get_frame_parameters(packed)
        if stated.content_size != size or stated.window_size > max(size, WINDOW_LEAST_BYTES):
            raise CodecError('an int8 payload states another size than the %d bytes expected'
                             % size)
        # In one piece into `size` bytes: its streaming form would pass a frame that lies.
        levels: bytes = ZSTANDARD.ZstdDecompressor().decompress(packed, max_output_size=size)
    except ZSTANDARD.ZstdError as error:
        raise CodecError('an int8 payload cannot be decompressed: %s' % error) from error
    if len(levels) != size:
        raise CodecError('an int8 payload expands to another size than the %d bytes expected'
                         % size)
    return levels
