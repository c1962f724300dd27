# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The JSON header of a wire message, read so that no text of 4096 bytes can do harm."""
from __future__ import annotations

import json
from typing import Dict, Sequence, Tuple

from crowdhmt_ros.errors import CodecError
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.offload.wire_fields import one_line

HEADER_MAX_BYTES = 4096


def unique(pairs: Sequence[Tuple[str, object]]) -> Dict[str, object]:
    """
    Return the object of a JSON text.

    :raises ValueError: when a name comes twice: readers would differ in what it says
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError('a name comes twice')
    return found


def refuse_constant(name: str) -> float:
    """
    Refuse NaN and Infinity, which are no JSON.

    :raises ValueError: always
    """
    raise ValueError('%s is no number' % name)


DECODER = json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse_constant)
"""Made once: it is in the way of every frame."""


def read_header(header: bytes) -> Dict[str, object]:
    """
    Return the content of a header of this protocol version.

    :raises CodecError: when it is none
    """
    if len(header) > HEADER_MAX_BYTES:
        raise CodecError('a message header of %d bytes: %d are allowed' % (
            len(header), HEADER_MAX_BYTES))
    try:
        content = DECODER.decode(header.decode('ascii'))
    except (ValueError, RecursionError) as error:
        raise CodecError('a message header cannot be read: %s' % one_line(error, 80)) from error
    if not isinstance(content, dict):
        raise CodecError('a message header is not a JSON object')
    version = content.pop('protocol', None)
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise CodecError('a message of protocol %s, this robot speaks %d: update the older robot'
                         % (one_line(version, 20), PROTOCOL_VERSION))
    return content
