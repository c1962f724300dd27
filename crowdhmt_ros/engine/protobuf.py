# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fields of protobuf messages, read in place and written: the format that ONNX files have."""
from __future__ import annotations

import struct
from typing import Iterator, List, Tuple, Union

Value = Union[int, memoryview]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10


class WireError(Exception):
    """The bytes are no message of the kind that is read."""


def fields(view: memoryview) -> Iterator[Tuple[int, Value]]:
    """Yield (number, value) of a protobuf message; groups are not read."""
    for number, value, _ in spans(view):
        yield number, value


def spans(view: memoryview) -> Iterator[Tuple[int, Value, memoryview]]:
    """Yield (number, value, the whole field as it lies there) of a protobuf message."""
    at, end = 0, len(view)
    while at < end:
        start = at
        key, at = _varint(view, at)
        kind = key & 7
        value: Value
        if kind == _VARINT:
            value, at = _varint(view, at)
        else:
            if kind == _BYTES:
                length, at = _varint(view, at)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise WireError('wire type %d at byte %d' % (kind, at))
            value, at = view[at:at + length], at + length
            if at > end:
                raise WireError('a field ends beyond its message')
        yield key >> 3, value, view[start:at]


def _varint(view: memoryview, at: int) -> Tuple[int, int]:
    result = 0
    for index in range(_MOST_VARINT_BYTES):
        byte = view[at + index]
        result |= (byte & 0x7f) << (7 * index)
        if byte < 0x80:
            return result, at + index + 1
    raise WireError('a number does not end')


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def whole(value: Value) -> int:
    """Return a field that must be a number."""
    if not isinstance(value, int):
        raise WireError('a number is missing')
    return _signed(value)


def view_of(value: Value) -> memoryview:
    """Return a field that must be a message or bytes."""
    if isinstance(value, int):
        raise WireError('a number stands where a message must')
    return value


def text(value: Value) -> str:
    """Return a field that must be text."""
    return bytes(view_of(value)).decode()


def numbers(value: Value) -> List[int]:
    """Return one number, or a packed list."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def floats(value: Value) -> List[float]:
    """Return a packed list of float32."""
    view = view_of(value)
    return [float(v) for v in struct.unpack('<%df' % (len(view) // 4), view)]


def field(number: int, content: bytes) -> bytes:
    """Return a field that holds a message, text or bytes."""
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def number_field(number: int, value: int) -> bytes:
    """Return a field that holds a number of at least 0."""
    return varint(number << 3 | _VARINT) + varint(value)


def varint(value: int) -> bytes:
    """Return a number of at least 0 as it is written."""
    found = bytearray()
    while value > 0x7f:
        found.append(value & 0x7f | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
