# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which robots are there, from what they say of themselves (P III-D3).

Adverts are not authenticated: whatever they say is bounded here, and the trust store decides
later whether anybody connects. A robot's boot_id is the one that its resource_monitor draws and
every Plan carries; its adverts carry the same. Two boot_ids at a time under one name are two
robots, and nobody can tell which of them an answer would come from.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Set, Tuple

from crowdhmt_ros.offload.channel import PROTOCOL_VERSION
from crowdhmt_ros.types import HERE, Advert, PeerStatus

GONE_AFTER_S = 2.5
"""A robot whose last advert is older is gone."""
MOST_ROBOTS = 64
MOST_BOOTS = 4
"""Boots remembered of one robot."""
MOST_OWN_BOOTS = 16
MOST_LEASES = 1000
MOST_CHANNELS = 4
LONGEST_TEXT = 256
MOST_MACS_PER_S = 1e18
MOST_BYTES = 1e15
_ROBOT_ID = re.compile(r'[A-Za-z_][A-Za-z0-9_/]{0,99}')


@dataclass(frozen=True)
class _Boot:
    """One boot of one robot: its newest advert, when it was first and last heard."""

    advert: Advert
    first_s: float
    last_s: float


def _within(value: Optional[float], low: float, high: float) -> Optional[float]:
    if value is None or not math.isfinite(value) or not low <= value <= high:
        return None
    return float(value)


def sanitised(advert: Advert) -> Optional[Advert]:
    """
    Return an advert with every figure that cannot be true made unknown.

    :returns: None where its texts cannot be used: no name of a robot, or longer than any
    """
    texts = (advert.boot_id, advert.ros_distro, advert.bundle_sha256, advert.address,
             advert.key_fingerprint, *advert.channels)
    if not _ROBOT_ID.fullmatch(advert.robot_id) or advert.robot_id == HERE:
        return None
    if not advert.boot_id or len(advert.channels) > MOST_CHANNELS:
        return None
    if any(len(text) > LONGEST_TEXT or not text.isprintable() for text in texts):
        return None
    capacity = _within(advert.capacity_macs_per_s, 0.0, MOST_MACS_PER_S)
    return replace(
        advert, capacity_macs_per_s=capacity if capacity else None,
        free_leases=min(MOST_LEASES, max(0, int(advert.free_leases))),
        battery_ratio=_within(advert.battery_ratio, 0.0, 1.0),
        memory_headroom_bytes=_within(advert.memory_headroom_bytes, 0.0, MOST_BYTES))


class FleetView:
    """
    The other robots as this one hears them. No clock and no thread of its own.

    Times are of one monotonic clock of the caller.

    :param robot_id: this robot
    :param ros_distro: of this robot
    :param bundle_sha256: what this robot runs, '' while unknown: nobody is compatible then
    :param boot_id: of this robot, '' while unknown: no clash is seen then
    """

    def __init__(self, robot_id: str, *, ros_distro: str, bundle_sha256: str = '',
                 boot_id: str = '') -> None:
        self._robot_id = robot_id
        self._ros_distro = ros_distro
        self._bundle_sha256 = bundle_sha256
        self._own_boots: List[str] = [boot_id] if boot_id else []
        self._robots: Dict[str, Dict[str, _Boot]] = {}
        self._now_s = -math.inf
        self._refused_s = -math.inf
        self._full_s = -math.inf
        self._seen: Set[str] = set()

    def know_self(self, *, boot_id: str = '', bundle_sha256: str = '') -> None:
        """Take what is known of this robot by now; '' leaves it as it was."""
        if boot_id and boot_id not in self._own_boots:
            self._own_boots = [*self._own_boots, boot_id][-MOST_OWN_BOOTS:]
        self._bundle_sha256 = bundle_sha256 or self._bundle_sha256

    def heard(self, advert: Advert, now_s: float) -> None:
        """
        Take an advert, whoever sent it.

        :param advert: as it came
        :param now_s: when
        """
        self._look(now_s)
        usable = sanitised(advert)
        if usable is None:
            self._refused_s = now_s
            return
        if usable.robot_id == self._robot_id and (
                not self._own_boots or usable.boot_id in self._own_boots):
            return
        if usable.robot_id not in self._robots and len(self._robots) >= MOST_ROBOTS:
            self._full_s = now_s
            return
        boots = self._robots.setdefault(usable.robot_id, {})
        before = boots.get(usable.boot_id)
        if before is None and len(boots) >= MOST_BOOTS:
            del boots[min(boots, key=lambda name: boots[name].last_s)]
        boots[usable.boot_id] = _Boot(usable, before.first_s if before else now_s, now_s)

    def peers(self, now_s: float) -> Tuple[PeerStatus, ...]:
        """
        Return the robots that could help, in order of robot_id, their links unknown.

        Gone robots, incompatible ones and names that two robots bear are left out.
        """
        self._look(now_s)
        return tuple(
            PeerStatus(
                robot_id=name, boot_id=boot.advert.boot_id, age_s=max(0.0, now_s - boot.last_s),
                free_leases=boot.advert.free_leases,
                capacity_macs_per_s=boot.advert.capacity_macs_per_s,
                battery_ratio=boot.advert.battery_ratio,
                memory_headroom_bytes=boot.advert.memory_headroom_bytes)
            for name, boot in self._heard_lately()
            if not self._incompatible(boot.advert) and not self._is_doubled(name))

    def advert_of(self, robot_id: str) -> Optional[Advert]:
        """Return the newest advert of a robot that `peers` would list, None for any other."""
        boot = dict(self._heard_lately()).get(robot_id)
        if boot is None or self._incompatible(boot.advert) or self._is_doubled(robot_id):
            return None
        return boot.advert

    @property
    def clash(self) -> bool:
        """Whether another robot bore this robot's name at the last look."""
        return self._lately(self._robot_id) is not None

    def problems(self) -> Tuple[str, ...]:
        """Return what keeps robots from helping each other, one line each, as last looked."""
        lines = []
        if self.clash:
            lines.append(f'another robot is called {self._robot_id!r} too: nobody offloads until '
                         'one of them has another name (namespace or parameter robot_id)')
        for name, boot in self._heard_lately():
            reason = self._incompatible(boot.advert)
            if self._is_doubled(name):
                reason = 'two robots bear that name: give one another namespace or robot_id'
            if reason:
                lines.append(f'{name} is not asked: {reason}')
        if self._now_s - self._full_s <= GONE_AFTER_S:
            lines.append(f'more than {MOST_ROBOTS} robots advertise: the latest are not heard')
        if self._now_s - self._refused_s <= GONE_AFTER_S:
            lines.append('an advert without a usable robot_id or boot_id was dropped')
        return tuple(lines)

    def changes(self, now_s: float) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
        """Return the robots found and the robots lost since the last call, for logs."""
        present = {peer.robot_id for peer in self.peers(now_s)}
        found, lost = sorted(present - self._seen), sorted(self._seen - present)
        self._seen = present
        return tuple(found), tuple(lost)

    def _look(self, now_s: float) -> None:
        """Go on to a moment; who is gone is forgotten."""
        self._now_s = max(self._now_s, now_s)
        for name, boots in list(self._robots.items()):
            for boot_id, boot in list(boots.items()):
                if self._now_s - boot.last_s > GONE_AFTER_S:
                    del boots[boot_id]
            if not boots:
                del self._robots[name]

    def _alive(self, robot_id: str) -> List[_Boot]:
        """Return the boots of a robot, the newest last; this robot's own are no others."""
        own = self._own_boots if robot_id == self._robot_id else ()
        boots = (boot for boot_id, boot in self._robots.get(robot_id, {}).items()
                 if boot_id not in own)
        return sorted(boots, key=lambda b: (b.first_s, b.last_s, b.advert.boot_id))

    def _lately(self, robot_id: str) -> Optional[_Boot]:
        alive = self._alive(robot_id)
        return alive[-1] if alive else None

    def _heard_lately(self) -> List[Tuple[str, _Boot]]:
        """Return the other robots that are there, each with its newest boot, in order."""
        found = ((name, self._lately(name)) for name in sorted(self._robots)
                 if name != self._robot_id)
        return [(name, boot) for name, boot in found if boot is not None]

    def _is_doubled(self, robot_id: str) -> bool:
        """
        Whether two robots bear one name.

        A restarted robot leaves its old boot silent; of two robots the older speaks on.
        """
        alive = self._alive(robot_id)
        return any(older.last_s >= newer.first_s for older, newer in zip(alive, alive[1:]))

    def _incompatible(self, advert: Advert) -> str:
        """Return why a robot cannot be asked, '' when it can."""
        if advert.protocol_version != PROTOCOL_VERSION:
            return (f'it speaks protocol {advert.protocol_version}, this robot '
                    f'{PROTOCOL_VERSION}: give both one version of crowdhmt_ros')
        if advert.ros_distro != self._ros_distro:
            return (f'it runs ROS 2 {advert.ros_distro or "of an unknown distribution"}, this '
                    f'robot {self._ros_distro}: give both one distribution')
        if advert.bundle_sha256 != self._bundle_sha256:
            return (f'it has bundle {advert.bundle_sha256[:12] or "unknown"}, this robot '
                    f'{self._bundle_sha256[:12] or "none yet"}: give both the same bundle')
        return ''


def with_links(peers: Sequence[PeerStatus], told: Sequence[PeerStatus]
               ) -> Tuple[PeerStatus, ...]:
    """
    Return the peers as heard, with what this robot's channels know of the way to them.

    :param peers: of `FleetView.peers`
    :param told: newest of `Feedback.peers`; an entry of another boot says nothing
    """
    links = {peer.robot_id: peer for peer in told}
    return tuple(_with_link(peer, links.get(peer.robot_id)) for peer in peers)


def _with_link(peer: PeerStatus, link: Optional[PeerStatus]) -> PeerStatus:
    if link is None or (link.boot_id and link.boot_id != peer.boot_id):
        return peer
    return replace(
        peer, link_bandwidth_bytes_per_s=link.link_bandwidth_bytes_per_s,
        link_round_trip_s=link.link_round_trip_s, failures=link.failures,
        retry_at_s=link.retry_at_s)
