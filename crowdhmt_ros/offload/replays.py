# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which requests have been seen: none is served twice, however it came.

Numbers of one boot rise, but two threads of the asker may swap neighbours on the way, so that a
window of the last 64 is kept, as IPsec does (RFC 4303, 3.4.3). Older ones count as replays.
"""
from __future__ import annotations

from collections import OrderedDict
from typing import Dict, Tuple

WINDOW = 64
BOOTS_KEPT = 64
NONCES_KEPT = 4096


class _Window:
    """The numbers of one boot."""

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0

    def enter(self, seq: int) -> bool:
        """Note a number; False for one that was seen or is too old to know."""
        if seq > self._highest:
            ahead = seq - self._highest
            # Not a shift by whatever a stranger names: 2^63 places would take all memory.
            shifted = self._seen << ahead if ahead < WINDOW else 0
            self._seen = (shifted | 1) & ((1 << WINDOW) - 1)
            self._highest = seq
            return True
        bit = 1 << min(self._highest - seq, WINDOW)
        if bit >> WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True


class Replays:
    """
    Tells first requests from repeated ones. One thread at a time.

    What one robot does never makes another's requests be forgotten.
    """

    def __init__(self) -> None:
        self._boots: Dict[str, OrderedDict[str, _Window]] = {}
        self._nonces: Dict[str, OrderedDict[bytes, None]] = {}

    def is_new(self, peer: str, boot_id: str, request_seq: int, nonce: bytes) -> bool:
        """
        Note a request of an authenticated robot.

        :param peer: who asks
        :param boot_id: which of its starts
        :param request_seq: from 1; 0 where the door carries no numbers and the nonce decides
        :returns: False when it was here before, or is older than all that are remembered
        """
        if request_seq == 0:
            return self._is_new_nonce(peer, nonce)
        boots = self._boots.setdefault(peer, OrderedDict())
        if boot_id not in boots:
            boots[boot_id] = _Window()
            if len(boots) > BOOTS_KEPT:
                boots.popitem(last=False)
        boots.move_to_end(boot_id)
        return boots[boot_id].enter(request_seq)

    def _is_new_nonce(self, peer: str, nonce: bytes) -> bool:
        nonces = self._nonces.setdefault(peer, OrderedDict())
        if nonce in nonces:
            return False
        nonces[nonce] = None
        if len(nonces) > NONCES_KEPT:
            nonces.popitem(last=False)
        return True

    @property
    def sizes(self) -> Tuple[int, int]:
        """Boots and nonces remembered in all."""
        return (sum(map(len, self._boots.values())), sum(map(len, self._nonces.values())))
