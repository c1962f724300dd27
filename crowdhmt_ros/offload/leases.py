# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The rights to run segments here: how many at once, for how long, for how many bytes.

A lease is renewed by asking again for the same segments. A robot that asks for others gets a
second lease beside the first, so that it can switch without a gap; its own idle leases make room
where there is none.
"""
from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Dict, Optional, Sequence, Tuple

IDLE_S = 2.0
"""A lease without a run for so long may be replaced by a newer one of the same robot."""


@dataclass(frozen=True)
class LeaseLimits:
    """
    What is granted at most.

    :param leases: at once, of all robots
    :param leases_per_peer: at once, of one robot
    :param memory_bytes: for the segments of all leases together
    :param longest_s: of one lease before it must be renewed
    """

    leases: int = 4
    leases_per_peer: int = 2
    memory_bytes: float = 64e6
    longest_s: float = 30.0


@dataclass(frozen=True)
class Granted:
    """
    One lease.

    :param peer: the robot that it was granted to, as authenticated
    :param boot_id: which of its starts asked
    :param until_s: end on this robot's monotonic clock
    :param used_s: last grant, renewal or run
    """

    lease_id: str
    peer: str
    boot_id: str
    segment_ids: Tuple[str, ...]
    until_s: float
    used_s: float


class Leases:
    """All leases. One thread at a time; times are this robot's monotonic clock."""

    def __init__(self, limits: LeaseLimits) -> None:
        self.limits = limits
        self._granted: Dict[str, Granted] = {}

    def __len__(self) -> int:
        return len(self._granted)

    @property
    def all(self) -> Tuple[Granted, ...]:
        """Every lease that was neither given back nor taken away."""
        return tuple(self._granted.values())

    @property
    def segment_ids(self) -> Tuple[str, ...]:
        """What all leases cover together, each once."""
        return tuple(sorted({s for g in self._granted.values() for s in g.segment_ids}))

    def get(self, lease_id: str) -> Optional[Granted]:
        """Return a lease, None for one that is not there any more."""
        return self._granted.get(lease_id)

    def same(self, peer: str, boot_id: str, segment_ids: Sequence[str]) -> Optional[Granted]:
        """Return the lease that such a request would renew."""
        wanted = tuple(sorted(set(segment_ids)))
        for granted in self._granted.values():
            if (granted.peer, granted.boot_id, granted.segment_ids) == (peer, boot_id, wanted):
                return granted
        return None

    def room_for(self, peer: str, now_s: float) -> Tuple[bool, Tuple[Granted, ...]]:
        """
        Tell whether one more lease of a robot fits.

        :returns: whether, and which of its own idle ones must go for that
        """
        own = sorted((g for g in self._granted.values() if g.peer == peer),
                     key=lambda granted: granted.used_s)
        over = max(len(own) + 1 - self.limits.leases_per_peer,
                   len(self._granted) + 1 - self.limits.leases, 0)
        going = tuple(g for g in own[:over] if now_s - g.used_s >= IDLE_S)
        return len(going) == over, going

    def retry_after_s(self, now_s: float) -> float:
        """Return when the next lease ends, at the latest."""
        ends = [granted.until_s - now_s for granted in self._granted.values()]
        return max(0.1, min([*ends, self.limits.longest_s]))

    def grant(self, peer: str, boot_id: str, segment_ids: Sequence[str], *,
              duration_s: float, now_s: float) -> Granted:
        """Add a lease; its length is the wish, at most the longest allowed."""
        granted = Granted(secrets.token_hex(8), peer, boot_id, tuple(sorted(set(segment_ids))),
                          now_s + min(duration_s, self.limits.longest_s), now_s)
        self._granted[granted.lease_id] = granted
        return granted

    def renew(self, granted: Granted, *, duration_s: float, now_s: float) -> Granted:
        """Extend a lease from now on; it never gets shorter."""
        until_s = now_s + min(duration_s, self.limits.longest_s)
        longer = replace(granted, until_s=max(until_s, granted.until_s), used_s=now_s)
        self._granted[granted.lease_id] = longer
        return longer

    def touch(self, granted: Granted, now_s: float) -> None:
        """Note a run under a lease."""
        if granted.lease_id in self._granted:
            self._granted[granted.lease_id] = replace(granted, used_s=now_s)

    def end(self, lease_id: str) -> Optional[Granted]:
        """Take a lease away; None when it was gone already."""
        return self._granted.pop(lease_id, None)

    def expire(self, now_s: float) -> Tuple[Granted, ...]:
        """Take away all whose time is up."""
        ended = tuple(g for g in self._granted.values() if g.until_s <= now_s)
        for granted in ended:
            del self._granted[granted.lease_id]
        return ended
