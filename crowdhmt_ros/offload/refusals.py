# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Why a server turns a request away: one word for the counters, one line for the asker."""
from __future__ import annotations

from typing import Optional

from crowdhmt_ros.errors import OffloadError

CLOSED = 'closed'
NAME = 'false_name'
PROTOCOL = 'other_protocol'
BUNDLE = 'other_bundle'
REPLAY = 'replayed'
LEASE = 'no_such_lease'
NO_LEASE = 'all_leases_granted'
MEMORY = 'no_memory'
SEGMENT = 'unknown_segment'
DIGEST = 'other_segment'
CODEC = 'wrong_codec'
SIZE = 'too_large'
PAYLOAD = 'bad_payload'
BUSY = 'busy'
EXPIRED = 'expired'
FAILED = 'failed'
UNREADABLE = 'unreadable'
UNKNOWN_KEY = 'unknown_key'
SIGNATURE = 'wrong_signature'
HANDSHAKE = 'failed_handshake'
LATER_S = 1.0
"""When to ask again where nothing better is known."""
KINDS = (CLOSED, NAME, PROTOCOL, BUNDLE, REPLAY, LEASE, NO_LEASE, MEMORY, SEGMENT, DIGEST, CODEC,
         SIZE, PAYLOAD, BUSY, EXPIRED, FAILED, UNREADABLE, UNKNOWN_KEY, SIGNATURE, HANDSHAKE)
"""Every counter of a server, in the order in which `/diagnostics` shows them."""
HOSTILE = (NAME, REPLAY, DIGEST, SIZE, PAYLOAD, UNREADABLE, UNKNOWN_KEY, SIGNATURE, HANDSHAKE)
"""Those that no robot in order causes."""


class Refused(OffloadError):  # noqa: N818 (it is the answer, no fault of ours)
    """
    A request is turned away.

    :param kind: one of `KINDS`
    :param reason: one line for the asker
    :param retry_after_s: None when it makes no sense to ask again
    """

    def __init__(self, kind: str, reason: str, retry_after_s: Optional[float] = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after_s = retry_after_s
