# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One channel to each peer that is there, compatible and trusted; free of ROS and of sockets.

Adverts say who could help, the trust store says who may, the channels say who does. A key that is
unknown or has changed is a line in the diagnostics and never a connection.
"""
from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Callable, Dict, FrozenSet, Mapping, Optional, Protocol, Tuple

from crowdhmt_ros.errors import OffloadError, TrustError
from crowdhmt_ros.nodes.kept_channel import AGAIN_S, KeptChannel
from crowdhmt_ros.offload.assist import RemotePart
from crowdhmt_ros.offload.breaker import Breaker
from crowdhmt_ros.offload.channel import Channel, ChannelHealth, LeaseWish
from crowdhmt_ros.offload.fleet import FleetView
from crowdhmt_ros.types import Advert, PeerStatus, Segment

KEPT_WITHOUT_ADVERT_S = 10.0
"""A channel outlives its peer's last advert so long: adverts are lost more easily than TCP."""
LEASE_TIMEOUT_S = 5.0
"""The peer may have to compile the segment first."""
LEASE_AGAIN_S = 10.0
"""A peer that did not answer a request for a lease is asked for none so long."""
LEASE_S = 30.0
LEASE_RATE_HZ = 20.0
_log = logging.getLogger(__name__)

Opener = Callable[[Advert, Breaker], Channel]
"""Opens the channel to who sent an advert; raises OffloadError."""


class Keys(Protocol):
    """Whom this robot trusts; `offload.trust.KeyStore` is one."""

    def objection(self, robot_id: str, key_fingerprint: str) -> str:
        """Return why an advert's key is not to be trusted, '' when it is the trusted one."""

    def reload(self) -> None:
        """Read the trusted keys again; raises TrustError."""


class _Link:
    """One open channel, and for which advert it was opened."""

    def __init__(self, advert: Advert, channel: KeptChannel) -> None:
        self.advert = advert
        self.channel = channel
        self.heard_s = 0.0

    def serves(self, advert: Advert) -> bool:
        """Tell whether the channel leads to who sends this advert."""
        return (advert.boot_id, advert.address, advert.key_fingerprint, advert.channels) == (
            self.advert.boot_id, self.advert.address, self.advert.key_fingerprint,
            self.advert.channels)


class PeerLinks:
    """
    All channels of this robot.

    `heard` and `tick` belong to one thread; the rest may be called from any.

    :param fleet: who is there
    :param keys: whom this robot trusts
    :param opener: opens a channel
    :param on_change: called by `tick` when a peer has become reachable or unreachable
    :param monotonic: clock of the fleet view and of leases, s
    :param node_now_s: clock of `PeerStatus.retry_at_s`, s
    """

    def __init__(self, fleet: FleetView, *, keys: Keys, opener: Opener,
                 on_change: Callable[[], None] = lambda: None,
                 monotonic: Callable[[], float] = time.monotonic,
                 node_now_s: Callable[[], float] = time.time) -> None:
        self.fleet = fleet
        self._keys = keys
        self._opener = opener
        self._on_change = on_change
        self._monotonic = monotonic
        self._node_now_s = node_now_s
        self._lock = threading.RLock()
        self._links: Dict[str, _Link] = {}
        self._breakers: Dict[str, Breaker] = {}
        self._objections: Dict[str, str] = {}
        self._not_before_s: Dict[str, float] = {}
        self._reachable: FrozenSet[str] = frozenset()
        self._closed = False

    # What the owner drives

    def heard(self, advert: Advert) -> None:
        """Take an advert; a channel is opened or closed at once where it says so."""
        with self._lock:
            self.fleet.heard(advert, self._monotonic())
        self.tick()

    def tick(self) -> None:
        """Open, close, renew, and tell changes; a few times a second and after each change."""
        if self._closed:
            return
        now_s = self._monotonic()
        with self._lock:
            peers = () if self.fleet.clash else self.fleet.peers(now_s)
            adverts = {p.robot_id: self.fleet.advert_of(p.robot_id) for p in peers}
            clash = self.fleet.clash
        for advert in adverts.values():
            if advert is not None:
                self._follow(advert, now_s)
        self._drop({n for n, link in self._links.items() if clash or (
            now_s - link.heard_s > KEPT_WITHOUT_ADVERT_S)})
        for name in set(self._objections) - set(adverts):
            self._objections.pop(name, None)
        for link in tuple(self._links.values()):
            link.channel.renew_when_due()
        self._tell()

    def close(self) -> None:
        """Give all leases back and take every connection down; safe to call twice."""
        self._closed = True
        self._drop(set(self._links))

    # What others ask

    def channel(self, robot_id: str) -> Optional[KeptChannel]:
        """Return the open channel to a peer, None without one; do not close it."""
        with self._lock:
            link = self._links.get(robot_id)
        return None if link is None else link.channel

    def remote_part(self, robot_id: str, segment: Segment, codec: str) -> RemotePart:
        """
        Lease a segment at a peer; may take a while, and not in the node's thread.

        :param codec: how a crossing is packed
        :raises OffloadError: it cannot be reached or refuses
        """
        channel = self.channel(robot_id)
        if channel is None:
            raise OffloadError(f'there is no channel to {robot_id}: it is gone, or is not trusted')
        wish = LeaseWish((segment.segment_id,), float(segment.weight_bytes), LEASE_RATE_HZ,
                         LEASE_S)
        try:
            lease = channel.lease(wish, LEASE_TIMEOUT_S)
        except OffloadError:
            self._hold(robot_id)
            raise
        return RemotePart(channel, lease, segment, codec)

    def _hold(self, robot_id: str) -> None:
        """Let a peer that grants nothing rest, so that plans do without it meanwhile."""
        breaker = self._breakers.get(robot_id)
        if breaker is not None and not breaker.is_open:  # open: it is known when to ask again
            breaker.hold(LEASE_AGAIN_S)

    def status(self) -> Tuple[PeerStatus, ...]:
        """Return every peer that is there, with the way to it; unknown where there is none."""
        with self._lock:
            peers = () if self.fleet.clash else self.fleet.peers(self._monotonic())
            links = dict(self._links)
        return tuple(self._status_of(peer, links.get(peer.robot_id)) for peer in peers)

    def health(self) -> Mapping[str, ChannelHealth]:
        """Return robot_id -> how the connection does, of every open channel."""
        with self._lock:
            links = dict(self._links)
        return {name: link.channel.health() for name, link in sorted(links.items())}

    def kinds(self) -> Mapping[str, str]:
        """Return robot_id -> kind of channel, of every open one."""
        with self._lock:
            return {name: link.channel.kind for name, link in sorted(self._links.items())}

    def problems(self) -> Tuple[str, ...]:
        """Return what keeps robots from helping each other, one line each."""
        with self._lock:
            return (*self.fleet.problems(), *(
                text for _, text in sorted(self._objections.items())))

    @property
    def clash(self) -> bool:
        """Whether another robot bears this robot's name: nobody is asked then."""
        return self.fleet.clash

    # Opening and closing

    def _follow(self, advert: Advert, now_s: float) -> None:
        """Have the channel to a peer, if it may be had."""
        name = advert.robot_id
        link = self._links.get(name)
        if link is not None and link.serves(advert):
            link.heard_s = now_s
            return
        if link is not None:
            self._drop({name})
        elif now_s < self._not_before_s.get(name, now_s):
            return
        self._not_before_s[name] = now_s + AGAIN_S
        objection = self._objection_to(advert)
        if not objection:
            objection = self._open(advert, now_s)
        self._note_objection(name, objection)

    def _objection_to(self, advert: Advert) -> str:
        try:
            self._keys.reload()
            return self._keys.objection(advert.robot_id, advert.key_fingerprint)
        except TrustError as error:
            return str(error)

    def _open(self, advert: Advert, now_s: float) -> str:
        """Open a channel and return '', or return why it cannot be."""
        breaker = self._breakers.setdefault(
            advert.robot_id, Breaker(monotonic=self._monotonic))
        try:
            channel = self._opener(advert, breaker)
        except (OffloadError, TrustError) as error:
            return str(error)
        link = _Link(advert, KeptChannel(channel, monotonic=self._monotonic))
        link.heard_s = now_s
        with self._lock:
            self._links[advert.robot_id] = link
        _log.info('%s is found: a %s channel to it is open', advert.robot_id, channel.kind)
        return ''

    def _note_objection(self, name: str, objection: str) -> None:
        with self._lock:
            if objection and self._objections.get(name) != objection:
                _log.warning('%s', objection)
            if objection:
                self._objections[name] = objection
            else:
                self._objections.pop(name, None)

    def _drop(self, names: set) -> None:
        for name in names:
            with self._lock:
                link = self._links.pop(name, None)
            if link is not None:
                link.channel.close()
                _log.info('the channel to %s is closed', name)

    # Telling

    def _tell(self) -> None:
        reachable = frozenset(name for name, health in self.health().items() if (
            health.connected and health.retry_in_s <= 0.0 and health.round_trip_s is not None))
        if reachable != self._reachable:
            self._reachable = reachable
            self._on_change()

    def _status_of(self, peer: PeerStatus, link: Optional[_Link]) -> PeerStatus:
        if link is None:
            return peer
        health = link.channel.health()
        retry_at_s = self._node_now_s() + health.retry_in_s if health.retry_in_s > 0.0 else None
        return replace(
            peer, link_bandwidth_bytes_per_s=health.bandwidth_bytes_per_s,
            link_round_trip_s=health.round_trip_s, failures=health.failures,
            retry_at_s=retry_at_s)
