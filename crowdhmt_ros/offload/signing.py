# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Signatures of messages that travel over ROS, where no connection vouches for the sender.

The key pair of CURVE gives two robots a shared secret: X25519, then HKDF-SHA256 bound to both
public keys. A signature is HMAC-SHA256 over `messages.canonical`.
"""
from __future__ import annotations

import hashlib
import hmac

from crowdhmt_ros.errors import TrustError
from crowdhmt_ros.offload.curve import public_of_secret, raw_key

HKDF_INFO = b'crowdhmt_ros messages 1'
SECRET_BYTES = 32
LIBRARY = ('the ROS door needs the library cryptography: pip install cryptography, or apt-get '
           'install python3-cryptography')


def shared_secret(own_secret: bytes, peer_public: bytes) -> bytes:
    """
    Return the 32 bytes that two robots, and nobody else, can compute.

    :param own_secret: Z85
    :param peer_public: Z85, from the trust store
    :raises TrustError: not keys, or the library `cryptography` is missing
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise TrustError(LIBRARY) from error
    try:
        own = x25519.X25519PrivateKey.from_private_bytes(raw_key(own_secret))
        agreed = own.exchange(x25519.X25519PublicKey.from_public_bytes(raw_key(peer_public)))
        pair = sorted((public_of_secret(own_secret), peer_public))
    except ValueError as error:
        raise TrustError('two keys that agree on no secret: make them anew with crowdhmt keys '
                         'make') from error
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None,
                info=HKDF_INFO + b''.join(pair)).derive(agreed)


def sign(secret: bytes, content: bytes) -> bytes:
    """
    Return the signature (32 bytes) of a message.

    :param secret: of `shared_secret`
    :param content: of `messages.canonical`
    """
    return hmac.new(secret, content, hashlib.sha256).digest()


def verify(secret: bytes, content: bytes, signature: bytes) -> bool:
    """Tell whether a signature is that of a message, in a time that tells nothing."""
    return hmac.compare_digest(sign(secret, content), signature)
