# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What one field of a wire message may hold, and how it stands in the JSON header."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Mapping, Optional

from crowdhmt_ros.errors import CodecError

TEXT_MAX, REASON_MAX, TEXTS_MAX = 128, 200, 64
NONCE_BYTES = 16
SEQ_MAX = 2 ** 63 - 1
NUMBER_MAX = 1e300
ROBOT_ID_MAX = 64
ROBOT_ID = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*')
SHA256 = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True)
class Kind:
    """
    One kind of field.

    :param what: the allowed values, for the error line
    :param fits: tells whether a value of the message is allowed
    :param to_json: value of the message -> value of the header
    :param from_json: the reverse; a value of another type passes through and then does not fit
    """

    what: str
    fits: Callable[[object], bool]
    to_json: Callable[[object], object] = lambda value: value
    from_json: Callable[[object], object] = lambda value: value


def is_plain(value: object, limit: int = TEXT_MAX) -> bool:
    """Tell whether a value is printable ASCII of limited length."""
    return (isinstance(value, str) and len(value) <= limit and value.isascii()
            and value.isprintable())


def is_robot_id(value: object) -> bool:
    """Tell whether a value names a robot: a ROS namespace without the outer slashes."""
    return (isinstance(value, str) and len(value) <= ROBOT_ID_MAX
            and ROBOT_ID.fullmatch(value) is not None)


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number of at least 0."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 <= value <= NUMBER_MAX)


def is_texts(value: object) -> bool:
    """Tell whether a value is a tuple of short texts."""
    return (isinstance(value, tuple) and len(value) <= TEXTS_MAX
            and all(is_plain(text) and text for text in value))


def is_whole(value: object) -> bool:
    """Tell whether a value is an integer of 0 .. 2^63 - 1."""
    return type(value) is int and 0 <= value <= SEQ_MAX


def number_from(value: object) -> object:
    """Return a float for a number, anything else as it is."""
    return float(value) if isinstance(value, int) and is_number(value) else value


def bytes_from(value: object) -> object:
    """Return the bytes of a text of hexadecimal digits, anything else as it is."""
    if isinstance(value, str) and len(value) <= 2 * TEXT_MAX:
        try:
            return bytes.fromhex(value)
        except ValueError:
            return value
    return value


def hex_of(value: object) -> object:
    """Return bytes as hexadecimal digits."""
    assert isinstance(value, bytes)
    return value.hex()


def tuple_from(value: object) -> object:
    """Return a list as a tuple, anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def list_of(value: object) -> object:
    """Return a tuple as a list."""
    assert isinstance(value, tuple)
    return list(value)


def float_of(value: object) -> object:
    """Return a number as a float, so that equal numbers are written equally."""
    assert isinstance(value, (int, float))
    return float(value)


TEXT = Kind('printable ASCII of at most %d characters' % TEXT_MAX, is_plain)
REASON = Kind('printable ASCII of at most %d characters' % REASON_MAX,
              lambda value: is_plain(value, REASON_MAX))
ROBOT = Kind('a robot_id of letters, digits, _, - and inner slashes, at most %d characters'
             % ROBOT_ID_MAX, is_robot_id)
DIGEST = Kind('64 hexadecimal digits', lambda value: isinstance(value, str)
              and SHA256.fullmatch(value) is not None)
NUMBER = Kind('a finite number of at least 0', is_number, float_of, number_from)
UNKNOWN_OR_NUMBER = Kind(
    'a finite number of at least 0, or unknown', lambda value: value is None or is_number(value),
    lambda value: None if value is None else float_of(value), number_from)
WHOLE = Kind('a whole number of 0 to 2^63 - 1', is_whole)
TRUTH = Kind('true or false', lambda value: isinstance(value, bool))
TEXTS = Kind('at most %d short texts' % TEXTS_MAX, is_texts, list_of, tuple_from)
NONCE = Kind('%d bytes' % NONCE_BYTES,
             lambda value: isinstance(value, bytes) and len(value) == NONCE_BYTES,
             hex_of, bytes_from)
NONCE_OR_NONE = Kind('%d bytes or none' % NONCE_BYTES,
                     lambda value: isinstance(value, bytes) and len(value) in (0, NONCE_BYTES),
                     hex_of, bytes_from)


def one_line(text: object, limit: int = REASON_MAX) -> str:
    """Return any text as one line of printable ASCII, cut to its limit."""
    words = ' '.join(str(text).split())
    plain = ''.join(c if c.isascii() and c.isprintable() else '?' for c in words[:limit])
    return plain if len(words) <= limit else plain[:limit - 3] + '...'


def first_misfit(kinds: Mapping[str, Kind], message: object) -> Optional[str]:
    """Return the line for the first field that holds what it may not, None when all is well."""
    for name, kind in kinds.items():
        if not kind.fits(getattr(message, name)):
            return '%s: %s is not %s' % (type(message).__name__, name, kind.what)
    return None


def refuse_misfits(kinds: Mapping[str, Kind], message: object) -> None:
    """
    Check the fields of a message.

    :raises CodecError: naming the first field that holds what it may not
    """
    problem = first_misfit(kinds, message)
    if problem:
        raise CodecError('%s: both robots need the same release of this package' % problem)
