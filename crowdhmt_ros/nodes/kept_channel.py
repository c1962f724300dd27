# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A channel that keeps its leases for as long as somebody here has them; free of ROS."""
from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Optional, Tuple

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.offload.channel import (
    Call,
    Channel,
    ChannelHealth,
    Lease,
    LeaseWish,
    Pending,
)

AGAIN_S = 2.0
"""Between two tries to open a channel, to find a key that was not trusted, or to renew a lease."""
RENEW_TIMEOUT_S = 2.0
_log = logging.getLogger(__name__)


@dataclass
class _Kept:
    """
    A lease that is renewed.

    :param current_id: as the peer calls it now
    :param renew_s: when it is renewed
    :param holders: who has it, or is asking for it again
    """

    wish: LeaseWish
    current_id: str
    renew_s: float
    holders: int = 1


class KeptChannel:
    """
    A channel whose leases are renewed at half time until all who have them released them.

    The peer prolongs a lease that is asked for again, so that two who ask for the same segments
    have one lease between them.

    :param channel: the way to the peer
    """

    def __init__(self, channel: Channel, *,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._kept: Dict[str, _Kept] = {}
        self._closed = False
        self._renewing: Optional[threading.Thread] = None

    @property
    def robot_id(self) -> str:
        """The peer."""
        return self._channel.robot_id

    @property
    def kind(self) -> str:
        """'zeromq' or 'ros'."""
        return self._channel.kind

    @property
    def closed(self) -> bool:
        """Whether it was taken down: nothing can be asked through it ever again."""
        return self._closed

    def lease(self, wish: LeaseWish, timeout_s: float) -> Lease:
        """
        Ask for a lease, wait for the answer, and keep the lease.

        :raises OffloadError: refused (with the peer's reason), or no answer in time
        """
        with self._asking:
            name = self._join(wish)
            try:
                lease = self._channel.lease(wish, timeout_s)
            except OffloadError:
                if name:
                    self.release(Lease(name, wish.segment_ids, 0.0))
                raise
            if name:
                self._goes_on(name, lease)
                return replace(lease, lease_id=name)
            with self._lock:
                self._kept[lease.lease_id] = _Kept(wish, lease.lease_id, self._half_of(lease))
            return lease

    def submit(self, call: Call) -> Pending:
        """
        Send a call.

        :raises OffloadError: the peer cannot be asked now
        """
        return self._channel.submit(call)

    def release(self, lease: Lease) -> None:
        """Give a lease back; never waits."""
        with self._lock:
            kept = self._kept.get(lease.lease_id)
            if kept is not None:
                kept.holders -= 1
                if kept.holders:
                    return
                del self._kept[lease.lease_id]
        self._channel.release(lease)

    def health(self) -> ChannelHealth:
        """Return how the connection does, now."""
        return self._channel.health()

    def close(self) -> None:
        """Give all leases back and take the connection down."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, {}
        for name, one in kept.items():
            self._channel.release(Lease(name, one.wish.segment_ids, 0.0))
        self._channel.close()

    def renew_when_due(self) -> None:
        """Renew what has reached half its time, in a thread of its own."""
        now_s = self._monotonic()
        with self._lock:
            due = [(name, kept.wish) for name, kept in self._kept.items()
                   if kept.renew_s <= now_s]
            if not due or (self._renewing is not None and self._renewing.is_alive()):
                return
            self._renewing = threading.Thread(
                target=self._renew, args=(due,), name=f'leases-{self.robot_id}', daemon=True)
            self._renewing.start()

    def _renew(self, due: List[Tuple[str, LeaseWish]]) -> None:
        for name, wish in due:
            with self._asking:
                if name not in self._kept:
                    continue
                try:
                    lease = self._channel.lease(wish, RENEW_TIMEOUT_S)
                except OffloadError as error:
                    _log.warning('a lease at %s cannot be renewed: %s', self.robot_id, error)
                    self._again_later(name)
                else:
                    self._goes_on(name, lease)

    def _join(self, wish: LeaseWish) -> str:
        """Return the name of a lease on the same segments, held once more; '' without one."""
        with self._lock:
            for name, kept in self._kept.items():
                if kept.wish.segment_ids == wish.segment_ids:
                    kept.holders += 1
                    return name
        return ''

    def _goes_on(self, name: str, lease: Lease) -> None:
        """Note that a lease was prolonged, or granted anew where it had ended."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                kept.renew_s = self._half_of(lease)
                renamed = kept.current_id != lease.lease_id
                kept.current_id = lease.lease_id
        if kept is None:  # given back while the peer was asked, perhaps before it was
            self._channel.release(lease)
        elif renamed:
            rename = getattr(self._channel, 'rename', None)
            if rename is not None:
                rename(name, lease.lease_id)

    def _again_later(self, name: str) -> None:
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                kept.renew_s = self._monotonic() + AGAIN_S

    def _half_of(self, lease: Lease) -> float:
        now_s = self._monotonic()
        return now_s + 0.5 * max(0.0, lease.until_s - now_s)
