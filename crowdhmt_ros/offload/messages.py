# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The messages between two robots, and how they stand on the wire.

A message is two parts: a JSON header of at most 4096 bytes and the payload, which may be empty.
Names and digests travel, never a model and never a pickled object. Every field is checked at
both doors before anybody looks at it. `canonical` gives the bytes that a signature covers.
"""
from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union

from crowdhmt_ros.errors import CodecError
from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.offload.wire_fields import (
    DIGEST,
    NONCE,
    NONCE_OR_NONE,
    NUMBER,
    REASON,
    ROBOT,
    TEXT,
    TEXTS,
    TRUTH,
    UNKNOWN_OR_NUMBER,
    WHOLE,
    Kind,
    one_line,
    refuse_misfits,
)
from crowdhmt_ros.offload.wire_header import HEADER_MAX_BYTES as HEADER_MAX_BYTES
from crowdhmt_ros.offload.wire_header import read_header


@dataclass(frozen=True)
class LeaseRequest:
    """
    May I run these segments at yours for a while?

    :param robot_id: who asks; must be the robot whose key opened the connection
    :param boot_id: of who asks, drawn anew at each of its starts
    :param request_seq: rises with every request of one boot; not above the last one is a replay.
        The service `request_lease` has no such field: 0 there, and the nonce tells replays
    :param nonce: 16 random bytes
    :param memory_bytes: expected for all segments together
    """

    robot_id: str
    boot_id: str
    request_seq: int
    nonce: bytes
    bundle_sha256: str
    segment_ids: Tuple[str, ...]
    memory_bytes: float
    rate_hz: float
    duration_s: float
    key_fingerprint: str = ''
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class LeaseReply:
    """
    Yes, for so long, or no, and why.

    :param nonce: of the request, as `request_seq`
    :param duration_s: granted length, counted from this answer
    :param retry_after_s: when not granted; None when it makes no sense to ask again
    """

    nonce: bytes
    request_seq: int
    granted: bool
    reason: str = ''
    lease_id: str = ''
    duration_s: float = 0.0
    retry_after_s: Optional[float] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'reason', one_line(self.reason))


@dataclass(frozen=True)
class RunRequest:
    """
    Run one segment for one frame.

    :param boot_id: as in the lease; the service `run_segment` has no such field, its door takes
        it from the lease
    :param segment_sha256: of the weightless graph
    :param budget_s: time left for the whole request, a duration
    :param payload: packed inputs, see `codec`
    """

    robot_id: str
    boot_id: str
    lease_id: str
    request_seq: int
    nonce: bytes
    segment_id: str
    segment_sha256: str
    codec: str
    budget_s: float
    payload: bytes = dataclasses.field(default=b'', repr=False)


@dataclass(frozen=True)
class RunReply:
    """
    What the segment computed, or why not.

    :param lease_id: of the request, as nonce, request_seq and segment_id
    :param payload: packed outputs
    :param queue_s: wait at the peer
    :param run_s: unpacking, computing and packing at the peer
    """

    lease_id: str
    nonce: bytes
    request_seq: int
    segment_id: str
    ok: bool
    reason: str = ''
    codec: str = 'raw'
    payload: bytes = dataclasses.field(default=b'', repr=False)
    queue_s: float = 0.0
    run_s: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'reason', one_line(self.reason))


@dataclass(frozen=True)
class Ping:
    """Are you there? With a payload: how fast is the link?"""

    robot_id: str
    boot_id: str
    request_seq: int
    nonce: bytes
    payload: bytes = dataclasses.field(default=b'', repr=False)


@dataclass(frozen=True)
class Pong:
    """
    Here I am.

    :param robot_id: of who answers, as boot_id
    :param received_bytes: length of the ping's payload, which is not sent back
    """

    robot_id: str
    boot_id: str
    nonce: bytes
    request_seq: int
    received_bytes: int = 0


@dataclass(frozen=True)
class Cancel:
    """
    Nobody waits for that request any more. No answer.

    :param cancelled_seq: request_seq of the RunRequest
    """

    robot_id: str
    boot_id: str
    lease_id: str
    request_seq: int
    nonce: bytes
    cancelled_seq: int


@dataclass(frozen=True)
class Release:
    """The lease is given back. No answer."""

    robot_id: str
    boot_id: str
    lease_id: str
    request_seq: int
    nonce: bytes


@dataclass(frozen=True)
class Refusal:
    """
    The request was turned away before it was looked at: unreadable, replayed, a false name.

    :param nonce: of the request, empty when it could not be read
    :param request_seq: of the request, 0 when it could not be read
    :param retry_after_s: None when it makes no sense to ask again
    """

    reason: str
    nonce: bytes = b''
    request_seq: int = 0
    retry_after_s: Optional[float] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'reason', one_line(self.reason))


Request = Union[LeaseRequest, RunRequest, Ping, Cancel, Release]
Answer = Union[LeaseReply, RunReply, Pong, Refusal]
Message = Union[LeaseRequest, RunRequest, Ping, Cancel, Release, LeaseReply, RunReply, Pong,
                Refusal]
AnyMessage = TypeVar('AnyMessage', bound=Message)

ASKER: Dict[str, Kind] = {'robot_id': ROBOT, 'boot_id': TEXT, 'request_seq': WHOLE,
                          'nonce': NONCE}
ECHO: Dict[str, Kind] = {'nonce': NONCE, 'request_seq': WHOLE}
FIELDS: Mapping[Type[object], Mapping[str, Kind]] = {
    LeaseRequest: dict(ASKER, bundle_sha256=DIGEST, segment_ids=TEXTS, memory_bytes=NUMBER,
                       rate_hz=NUMBER, duration_s=NUMBER, key_fingerprint=TEXT,
                       protocol_version=WHOLE),
    LeaseReply: dict(ECHO, granted=TRUTH, reason=REASON, lease_id=TEXT, duration_s=NUMBER,
                     retry_after_s=UNKNOWN_OR_NUMBER),
    RunRequest: dict(ASKER, lease_id=TEXT, segment_id=TEXT, segment_sha256=DIGEST, codec=TEXT,
                     budget_s=NUMBER),
    RunReply: dict(ECHO, lease_id=TEXT, segment_id=TEXT, ok=TRUTH, reason=REASON, codec=TEXT,
                   queue_s=NUMBER, run_s=NUMBER),
    Ping: ASKER,
    Pong: dict(ECHO, robot_id=ROBOT, boot_id=TEXT, received_bytes=WHOLE),
    Cancel: dict(ASKER, lease_id=TEXT, cancelled_seq=WHOLE),
    Release: dict(ASKER, lease_id=TEXT),
    Refusal: {'reason': REASON, 'nonce': NONCE_OR_NONE, 'request_seq': WHOLE,
              'retry_after_s': UNKNOWN_OR_NUMBER}}
"""Message -> its header fields. The payload is the part that is in no header."""
WITH_PAYLOAD = (RunRequest, RunReply, Ping)
KINDS: Mapping[str, Type[object]] = {kind.__name__: kind for kind in FIELDS}


ENCODER = json.JSONEncoder(sort_keys=True, separators=(',', ':'), allow_nan=False)
"""Made once: it is in the way of every frame."""


def checked(message: AnyMessage) -> AnyMessage:
    """
    Return the message when each field holds what it may; the ROS door calls it as well.

    :raises CodecError: naming the first field that does not
    """
    refuse_misfits(FIELDS[type(message)], message)
    if not isinstance(getattr(message, 'payload', b''), bytes):
        raise CodecError('%s: the payload is not bytes' % type(message).__name__)
    return message


def header_of(message: Message) -> bytes:
    """
    Return the JSON header: sorted keys, no spaces, every number a float where it is one.

    :raises CodecError: when it is longer than 4096 bytes
    """
    content: Dict[str, object] = {
        name: kind.to_json(getattr(message, name)) for name, kind in FIELDS[type(message)].items()}
    content.update(message=type(message).__name__, protocol=PROTOCOL_VERSION)
    header = ENCODER.encode(content).encode()
    if len(header) > HEADER_MAX_BYTES:
        raise CodecError('%s: the header takes %d bytes, %d are allowed: name fewer segments'
                         % (type(message).__name__, len(header), HEADER_MAX_BYTES))
    return header


def pack(message: Message) -> List[bytes]:
    """
    Return the two parts of a message.

    :raises CodecError: when a field holds what it may not
    """
    return [header_of(checked(message)), getattr(message, 'payload', b'')]


def canonical(message: Message) -> bytes:
    """
    Return the bytes that a signature covers: every field, the kind of message, the payload.

    :raises CodecError: when a field holds what it may not
    """
    header, payload = pack(message)
    return struct.pack('>I', len(header)) + header + payload


def unpack(frames: Sequence[bytes], *, max_payload_bytes: int) -> Message:
    """
    Read a message; nothing larger than the cap is copied.

    :param frames: header and payload as they came, any bytes-like
    :param max_payload_bytes: longest payload that any segment here can ask for
    :raises CodecError: when it is not a message that `pack` could have written
    """
    if len(frames) != 2:
        raise CodecError('a message of %d parts: header and payload were expected' % len(frames))
    header, payload = frames
    if len(payload) > max_payload_bytes:
        raise CodecError('a payload of %d bytes: %d are allowed' % (
            len(payload), max_payload_bytes))
    content = read_header(bytes(header[:HEADER_MAX_BYTES + 1]))
    name = content.pop('message', None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CodecError('a message of the unknown kind %s' % one_line(name, 40))
    fields = FIELDS[kind]
    if set(content) != set(fields):
        raise CodecError('%s: the header has other fields than it should: %s' % (
            name, one_line(', '.join(sorted(set(content) ^ set(fields))), 120)))
    values: Dict[str, object] = {key: fields[key].from_json(value)
                                 for key, value in content.items()}
    if kind in WITH_PAYLOAD:
        values['payload'] = bytes(payload)
    elif len(payload):
        raise CodecError('%s: it carries no payload, %d bytes came' % (name, len(payload)))
    message: Message = kind(**values)  # type: ignore[assignment]
    return checked(message)
