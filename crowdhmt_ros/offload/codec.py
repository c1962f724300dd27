# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tensors as payloads: 'raw', 'fp16', 'int8' (P III-B1: what crosses the border of two devices).

Types and shapes are known to both ends from the bundle's manifest and never travel: the payload
is checked against them before a byte is allocated. 'int8' is ``q = round((x - low) / step)`` in
0..255 with `low` and `step` per tensor, then zstd level 1, or zlib where zstandard is missing;
which of the two is the first byte. Little-endian, C order. Images: `offload.image_payload`.
"""
from __future__ import annotations

import math
import struct
import sys
from typing import List, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import CodecError
from crowdhmt_ros.offload.compression import compressed, expanded
from crowdhmt_ros.offload.image_payload import decode_image, encode_image, largest_image
from crowdhmt_ros.types import TensorSpec

RAW, FP16, INT8, JPEG = 'raw', 'fp16', 'int8', 'jpeg'
CODECS = (RAW, FP16, INT8, JPEG)
LARGEST = 1e38
SMALLEST_STEP = 1e-30
RANGE = struct.Struct('<dd')
FP16_MAX = 65504.0
FLOATS = ('float16', 'float32', 'float64')
LITTLE = sys.byteorder == 'little'

__all__ = ['CODECS', 'decode', 'decode_image', 'encode', 'encode_image', 'largest_payload']


def elements(spec: TensorSpec) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(spec.shape)


def wire_dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    """
    Return the little-endian type of a tensor.

    :raises CodecError: when the manifest names a type that is no plain number
    """
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise CodecError('tensor %s has the unknown type %s' % (spec.name, spec.dtype)) from error
    if dtype.kind not in 'iufb':
        raise CodecError('tensor %s of type %s cannot travel' % (spec.name, spec.dtype))
    little: np.dtype[np.generic] = dtype.newbyteorder('<')
    return little


def need_floats(codec: str, types: Sequence[str]) -> None:
    """
    Check that a codec that rounds meets floating-point tensors only.

    :raises CodecError: otherwise
    """
    others = [name for name in types if name not in FLOATS]
    if others:
        raise CodecError("codec %s rounds, a tensor of type %s must not be: use 'raw'" % (
            codec, others[0]))


def largest_payload(codec: str, specs: Sequence[TensorSpec]) -> int:
    """
    Return the most bytes that a payload of these tensors may have; bounds what a door takes in.

    :param specs: for 'jpeg' one tensor (1, 3, height, width)
    :raises CodecError: unknown codec
    """
    count = sum(elements(spec) for spec in specs)
    if codec == RAW:
        return sum(elements(spec) * wire_dtype(spec).itemsize for spec in specs)
    if codec == FP16:
        return 2 * count
    if codec == INT8:  # what does not compress grows by its block headers
        return 1 + RANGE.size * len(specs) + count + count // 128 + 128
    if codec == JPEG:
        return largest_image(count)
    raise unknown(codec)


def unknown(codec: str) -> CodecError:
    """Return the error for a codec that does not exist, or is not for tensors."""
    if codec == JPEG:
        return CodecError('codec jpeg is for images: it was met with tensors')
    return CodecError('unknown codec %r: choose from %s' % (codec[:40], ', '.join(CODECS)))


def encode(codec: str, arrays: Sequence[np.ndarray]) -> bytes:
    """
    Pack tensors.

    :param codec: 'raw', 'fp16' or 'int8'
    :param arrays: in the order of the segment's tensors; types as in the manifest
    :raises CodecError: unknown codec, or values that it cannot carry
    """
    if codec == RAW:
        return b''.join(np.ascontiguousarray(a, a.dtype.newbyteorder('<')).tobytes()
                        for a in arrays)
    if codec == FP16:
        need_floats(codec, [a.dtype.name for a in arrays])
        return b''.join(np.clip(a, -FP16_MAX, FP16_MAX).astype('<f2').tobytes() for a in arrays)
    if codec == INT8:
        need_floats(codec, [a.dtype.name for a in arrays])
        return pack_int8(arrays)
    raise unknown(codec)


def decode(codec: str, payload: bytes, specs: Sequence[TensorSpec]) -> Tuple[np.ndarray, ...]:
    """
    Unpack tensors of known types and shapes.

    :param specs: what is expected, from the manifest
    :returns: arrays as in `specs`; those of 'raw' are read-only views of the payload
    :raises CodecError: when the payload is not exactly that, or a value is not finite
    """
    if codec == RAW:
        found = views(payload, [(spec, wire_dtype(spec)) for spec in specs])
    elif codec == FP16:
        need_floats(codec, [spec.dtype for spec in specs])
        halves = views(payload, [(spec, np.dtype('<f2')) for spec in specs])
        found = tuple(half.astype(spec.dtype) for half, spec in zip(halves, specs))
    elif codec == INT8:
        need_floats(codec, [spec.dtype for spec in specs])
        return unpack_int8(payload, specs)
    else:
        raise unknown(codec)
    refuse_unfinite(found, specs)
    return found


def refuse_unfinite(arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> None:
    """
    Check that there is neither NaN nor infinity: no answer can be made of them.

    :raises CodecError: otherwise
    """
    for array, spec in zip(arrays, specs):
        if array.dtype.kind == 'f' and not np.isfinite(array).all():
            raise CodecError('tensor %s holds values that are not finite' % spec.name)


def views(payload: bytes, layout: Sequence[Tuple[TensorSpec, np.dtype[np.generic]]]
          ) -> Tuple[np.ndarray, ...]:
    """
    Return the tensors that lie one behind the other in a payload.

    :raises CodecError: when its length is another than theirs together
    """
    expected = sum(elements(spec) * dtype.itemsize for spec, dtype in layout)
    if len(payload) != expected:
        raise CodecError('a payload of %d bytes: %d were expected for %s' % (
            len(payload), expected, ', '.join('%s %s' % (spec.name, list(spec.shape))
                                              for spec, _ in layout)))
    found: List[np.ndarray] = []
    at = 0
    for spec, dtype in layout:
        view = np.frombuffer(payload, dtype, elements(spec), at).reshape(spec.shape)
        found.append(view if LITTLE else view.astype(dtype.newbyteorder('=')))
        at += view.nbytes
    return tuple(found)


def pack_int8(arrays: Sequence[np.ndarray]) -> bytes:
    """
    Pack tensors of floats in one byte an element.

    :raises CodecError: when a value is not finite
    """
    ranges, levels = [], []
    for array in arrays:
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if not (abs(low) < LARGEST and abs(high) < LARGEST):
            raise CodecError("codec int8 met a value that is not finite or beyond 1e38: use 'raw'")
        step = (high - low) / 255.0 if high - low > SMALLEST_STEP else 0.0
        ranges.append(RANGE.pack(low, step))
        kind = np.result_type(array.dtype, np.float32).type
        scaled = np.atleast_1d(array) - kind(low)  # 0 to 255 steps, and less than half a step
        scaled *= kind(1.0 / step if step else 0.0)
        levels.append(np.rint(scaled, out=scaled).astype(np.uint8).tobytes())
    how, packed = compressed(b''.join(levels))
    return b''.join((bytes((how,)), *ranges, packed))


def unpack_int8(payload: bytes, specs: Sequence[TensorSpec]) -> Tuple[np.ndarray, ...]:
    """
    Unpack tensors of floats from one byte an element.

    :raises CodecError: when the payload is not exactly these tensors
    """
    start = 1 + RANGE.size * len(specs)
    if not start <= len(payload) <= largest_payload(INT8, specs):
        raise CodecError('an int8 payload of %d bytes: %d to %d were expected' % (
            len(payload), start, largest_payload(INT8, specs)))
    ranges = [RANGE.unpack_from(payload, 1 + RANGE.size * i) for i in range(len(specs))]
    tables = [table_of(low, step, spec) for (low, step), spec in zip(ranges, specs)]
    levels = expanded(payload[0], memoryview(payload)[start:], sum(map(elements, specs)))
    quantised = views(levels, [(spec, np.dtype(np.uint8)) for spec in specs])
    return tuple(table.take(q) for table, q in zip(tables, quantised))


def table_of(low: float, step: float, spec: TensorSpec) -> np.ndarray:
    """
    Return the 256 values of a tensor, of its type.

    :raises CodecError: when one is not finite
    """
    if math.isfinite(low) and math.isfinite(step) and step >= 0:
        with np.errstate(over='ignore', invalid='ignore'):
            table = (low + step * np.arange(256)).astype(spec.dtype)
        if np.isfinite(table).all():
            return table
    raise CodecError('an int8 payload with a range that tensor %s cannot have' % spec.name)
