# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Curve25519 keys in ZeroMQ's Z85 text: 40 characters for 32 bytes."""
from __future__ import annotations

import struct
from types import ModuleType
from typing import Tuple

from crowdhmt_ros.errors import TrustError

KEY_BYTES, Z85_CHARACTERS = 32, 40
LIBRARY = ('keys need the library pyzmq: pip install pyzmq, or apt-get install python3-zmq')
NO_KEY = 'not a key: `crowdhmt keys show` prints one as %d hexadecimal digits' % (2 * KEY_BYTES)


def zeromq() -> ModuleType:
    """
    Return the library.

    :raises TrustError: when it is missing, or was built without CURVE
    """
    try:
        import zmq
        import zmq.utils.z85
    except ImportError as error:
        raise TrustError(LIBRARY) from error
    if not zmq.has('curve'):
        raise TrustError('the library pyzmq was built without CURVE: pip install pyzmq')
    return zmq


def new_pair() -> Tuple[bytes, bytes]:
    """
    Draw a key pair.

    :returns: public, secret
    """
    public, secret = zeromq().curve_keypair()
    return bytes(public), bytes(secret)


def public_of_secret(secret: bytes) -> bytes:
    """
    Return the public key that belongs to a secret one.

    :raises TrustError: when it is no key
    """
    raw_key(secret)
    return bytes(zeromq().curve_public(secret))


def raw_key(key: bytes) -> bytes:
    """
    Return the 32 bytes of a key.

    :raises TrustError: when it is none
    """
    z85 = zeromq().utils.z85
    try:
        raw = bytes(z85.decode(key)) if len(key) == Z85_CHARACTERS else b''
    except (ValueError, KeyError, struct.error):
        raw = b''
    if len(raw) != KEY_BYTES:
        raise TrustError(NO_KEY)
    return raw


def key_of(text: str) -> bytes:
    """
    Return a key from what a person gives: 64 hexadecimal digits, or Z85 itself.

    :raises TrustError: when it is neither
    """
    given = text.strip()
    try:
        if len(given) == 2 * KEY_BYTES:
            return bytes(zeromq().utils.z85.encode(bytes.fromhex(given)))
        key = given.encode('ascii')
    except (ValueError, struct.error) as error:
        raise TrustError(NO_KEY) from error
    raw_key(key)
    return key


def public_text(public: bytes) -> str:
    """
    Return a public key as people pass it on: 64 hexadecimal digits, safe in any shell.

    :raises TrustError: when it is no key
    """
    return raw_key(public).hex()
