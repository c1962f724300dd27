# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Who may open a connection: ZeroMQ asks here at each handshake (RFC 27, ZAP 1.0).

A handshake proves that the other end has the secret of a public key; this tells whether that key
is trusted. It goes with every message of the connection as its User-Id, so that a robot that is
trusted no longer is heard no longer.
"""
from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Tuple

from crowdhmt_ros.errors import TrustError

ENDPOINT = 'inproc://zeromq.zap.01'
VERSION, CURVE = b'1.0', b'CURVE'
ALLOWED, REFUSED = b'200', b'400'
PARTS = 7
KEY_BYTES = 32

RobotOf = Callable[[bytes], Optional[str]]
"""Public key in Z85 -> robot_id, None for a stranger; may raise TrustError."""


def answer(request: Sequence[bytes], robot_of: RobotOf,
           refused: Callable[[str], None]) -> Optional[List[bytes]]:
    """
    Answer one question of ZeroMQ.

    :param request: version, request id, domain, address, identity, mechanism, key
    :param robot_of: whose key it is
    :param refused: told why a connection is not made
    :returns: the parts of the answer; None for what is no question
    """
    if len(request) < PARTS - 1 or request[0] != VERSION:
        return None
    key, problem = b'', 'it does not use CURVE'
    if request[5] == CURVE and len(request) == PARTS and len(request[6]) == KEY_BYTES:
        key, problem = _checked(request[6], robot_of)
    if not key:
        refused('%s: %s' % (request[3].decode('ascii', 'replace')[:64] or 'a peer', problem))
        return [VERSION, request[1], REFUSED, b'not trusted', b'', b'']
    return [VERSION, request[1], ALLOWED, b'OK', key, b'']


def _checked(raw: bytes, robot_of: RobotOf) -> Tuple[bytes, str]:
    """Return (trusted key in Z85 or nothing, why nothing)."""
    from zmq.utils import z85
    try:
        key = bytes(z85.encode(raw))
        return (key if robot_of(key) else b''), 'its key is not trusted here'
    except TrustError as error:
        return b'', str(error)
