# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a fuzzer feeds to every reader of what comes from another robot.

Random bytes seldom get past the first check, so most inputs are right ones with a few bytes,
fields or sizes wrong; and bombs.
"""
from __future__ import annotations

import functools
import json
import random
import struct
import zlib
from typing import Any, List, Tuple

import numpy as np
from hypothesis import strategies as st

from crowdhmt_ros.offload import compression
from crowdhmt_ros.offload.codec import encode
from crowdhmt_ros.offload.image_payload import encode_image
from crowdhmt_ros.offload.messages import (
    Cancel,
    LeaseReply,
    LeaseRequest,
    Message,
    Ping,
    Pong,
    Refusal,
    Release,
    RunReply,
    RunRequest,
    pack,
)
from crowdhmt_ros.types import TensorSpec

SPECS = (TensorSpec('map', 'float32', (1, 4, 8, 8)), TensorSpec('skip', 'float32', (1, 2, 4)))
SIZES = sum(int(np.prod(spec.shape)) for spec in SPECS)
HEIGHT, WIDTH = 48, 64
NONCE, SHA = bytes(range(16)), 'ab' * 32
MAX_PAYLOAD_BYTES = 4096
BOMB_BYTES = 1 << 26
ASKER: Any = {'robot_id': 'vehicle', 'boot_id': 'b', 'request_seq': 7, 'nonce': NONCE}
MESSAGES: Tuple[Message, ...] = (
    RunRequest(**ASKER, lease_id='l', segment_id='tail', segment_sha256=SHA, codec='raw',
               budget_s=0.1, payload=b'payload'),
    LeaseRequest(**ASKER, bundle_sha256=SHA, segment_ids=('tail',), memory_bytes=1.0,
                 rate_hz=20.0, duration_s=30.0),
    LeaseReply(NONCE, 7, True, lease_id='l', duration_s=30.0),
    RunReply('l', NONCE, 7, 'tail', True, payload=b'logits'), Ping(**ASKER, payload=b'probe'),
    Pong('drone', 'b', NONCE, 7), Cancel(**ASKER, lease_id='l', cancelled_seq=6),
    Release(**ASKER, lease_id='l'), Refusal('no', NONCE, 7))
NASTY = (10 ** 400, 1e308, -0.0, 2 ** 63, -1, 2 ** 64, True, None, '', '../../x', 'x' * 3000,
         '\ud800', '\x00', 'a\nb', 'NaN', '00' * 16, 'zz' * 16, SHA, [], [[]] * 50, ['a'] * 400,
         {}, {'a': {'a': {'a': 1}}}, 'l', 'tail', 'int8', 'jpeg', 'drone', 'vehicle')


def samples_of_tensors() -> Tuple[np.ndarray, ...]:
    """Return tensors of `SPECS`."""
    rng = np.random.default_rng(0)
    return tuple(np.maximum(rng.standard_normal(s.shape), 0).astype(np.float32) for s in SPECS)


@functools.cache
def int8_samples() -> List[bytes]:
    """Return payloads of codec int8: by both methods, and bombs."""
    tensors, ranges = samples_of_tensors(), struct.pack('<dddd', 0, 1, 0, 1)
    zeros = bytes(BOMB_BYTES)
    found = [encode('int8', tensors),
             bytes((compression.ZLIB,)) + ranges + zlib.compress(bytes(SIZES), 1),
             bytes((compression.ZLIB,)) + ranges + zlib.compress(zeros, 9)]
    if compression.ZSTANDARD is not None:
        head = bytes((compression.ZSTD,)) + ranges
        packed = compression.ZSTANDARD.ZstdCompressor().compress(zeros)
        lie = packed.replace(struct.pack('<I', BOMB_BYTES), struct.pack('<I', SIZES), 1)
        huge = packed.replace(struct.pack('<I', BOMB_BYTES), b'\xff\xff\xff\xff', 1)
        unsized = compression.ZSTANDARD.ZstdCompressor(write_content_size=False).compress(zeros)
        skipped = struct.pack('<II', 0x184D2A50, SIZES) + bytes(SIZES)
        found += [head + one for one in (packed, lie, huge, unsized, skipped)]
    return found


@functools.cache
def image_samples() -> List[bytes]:
    """Return JPEG pictures: a right one, another size, and one that claims to be huge."""
    ramp = np.linspace(0, 255, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    right = encode_image(ramp)
    at = right.index(b'\xff\xc0') + 5
    return [right, encode_image(ramp, quality=30), encode_image(ramp[:, ::2]),
            right[:at] + b'\xff\xff\xff\xff' + right[at + 4:]]


def damage(sample: bytes, seed: int) -> bytes:
    """Return a right payload with up to four things wrong with it, the same for the same seed."""
    rng = random.Random(seed)
    content = bytearray(sample)
    for _ in range(rng.randrange(5)):
        # Near the start, where what is read first lies, or anywhere.
        at = rng.randrange(1 + min(len(content), rng.choice((16, 64, MAX_PAYLOAD_BYTES))))
        how = rng.randrange(5)
        if how == 0:
            content[at:at + 1] = bytes((rng.randrange(256),))
        elif how == 1:
            del content[at:]
        elif how == 2:
            content[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 24)))
        elif how == 3:
            content[at:at + 4] = struct.pack('<I', rng.getrandbits(rng.choice((8, 16, 32))))
        else:
            content += content[at:at + rng.randrange(1, 64)]
    return bytes(content)


def damaged(samples: List[bytes]) -> st.SearchStrategy[bytes]:
    """Return right payloads with a few things wrong."""
    return st.builds(damage, st.sampled_from(samples), st.integers(0, 2 ** 64 - 1))


def payloads(samples: List[bytes]) -> st.SearchStrategy[bytes]:
    """Return damaged payloads, and now and then any bytes."""
    return st.one_of(damaged(samples), damaged(samples), damaged(samples),
                     st.binary(max_size=1500))


def raw_payloads() -> st.SearchStrategy[bytes]:
    """Return payloads of codec raw: right lengths with any bytes, and others."""
    length = 4 * SIZES
    return st.one_of(st.integers(0, 2 ** 32 - 1).map(
        lambda seed: np.random.default_rng(seed).bytes(length)),
        damaged([encode('raw', samples_of_tensors())]))


VALUES = st.one_of(
    st.sampled_from(NASTY), st.none(), st.booleans(), st.integers(), st.floats(),
    st.text(max_size=40), st.binary(max_size=20).map(bytes.hex),
    st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=6))
"""What may stand in a JSON header."""
FIELD_VALUES = st.one_of(VALUES, st.binary(max_size=20), st.just(NONCE),
                         st.lists(st.text(max_size=8), max_size=4).map(tuple))
"""What a generated ROS message, or a defect of ours, may put into a field."""


@st.composite
def headers(draw: Any) -> List[bytes]:
    """Draw the frames of a message with fields missing, doubled, added, or of wrong values."""
    header, payload = pack(draw(st.sampled_from(MESSAGES)))
    content = json.loads(header)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from((*sorted(content), 'message', 'protocol', 'extra')))
        if draw(st.booleans()) or name not in content:
            content[name] = draw(VALUES)
        else:
            del content[name]
    text = json.dumps(content).encode()
    if draw(st.integers(0, 9)) == 0:
        text = text[:1] + text[1:-1] + b',' + text[1:]
    return [text, draw(st.sampled_from((payload, b'', bytes(MAX_PAYLOAD_BYTES + 1))))]


DEEP = (b'[' * 4096, b'{"":' * 1024, b'1' * 4096, b'"' * 4096, b'-' + b'9' * 4000)
HEADERS = damaged([*(pack(m)[0] for m in MESSAGES), *DEEP])


@st.composite
def frames(draw: Any) -> List[bytes]:
    """Draw any parts: damaged headers, deep nesting, wrong numbers of parts."""
    header = draw(HEADERS)
    return draw(st.sampled_from(([header, b''], [header, b'payload'], [header], [],
                                 [header, b'', b''], [b'', header])))


@st.composite
def changed(draw: Any) -> Message:
    """Draw a message that has not been checked, as the ROS door makes them."""
    message = draw(st.sampled_from(MESSAGES))
    values = dict(vars(message))
    for _ in range(draw(st.integers(1, 2))):
        values[draw(st.sampled_from(sorted(values)))] = draw(FIELD_VALUES)
    made: Message = type(message)(**values)
    return made
