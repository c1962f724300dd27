# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of peers: their adverts, and the links that this robot's engine has."""
from __future__ import annotations

import os
import time
from typing import Callable, FrozenSet, Optional, Tuple

from rclpy.node import Node

from crowdhmt_ros.msg import Advert
from crowdhmt_ros.nodes.convert_fleet import advert_from_msg
from crowdhmt_ros.nodes.diagnostics import ERROR, WARN, Health
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.topics import FLEET_ADVERT
from crowdhmt_ros.offload.fleet import FleetView, with_links
from crowdhmt_ros.offload.placement import is_reachable
from crowdhmt_ros.types import Feedback, PeerStatus

LINKS_STALE_S = 3.0
"""The engine tells of its links about once a second; older than this it tells nothing."""


class FleetEar:
    """
    Listens to the fleet for one node.

    :param node: whose thread calls everything here
    :param topic: of the adverts
    :param robot_id: of this robot; without a name it has no place in a fleet
    :param monotonic: clock of ages
    """

    def __init__(self, node: Node, topic: str, robot_id: str, *,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = node.get_logger()
        self._monotonic = monotonic
        self._fleet = FleetView(robot_id, ros_distro=os.environ.get('ROS_DISTRO', ''))
        self._links: Tuple[PeerStatus, ...] = ()
        self._links_s = monotonic()
        self._reachable: FrozenSet[str] = frozenset()
        self._clashed = False
        self._subscription = node.create_subscription(
            Advert, topic, self._on_advert, profile_of(FLEET_ADVERT.profile))

    def know_self(self, *, boot_id: str = '', bundle_sha256: str = '') -> None:
        """Take this robot's boot or bundle: nobody is compatible before both are known."""
        self._fleet.know_self(boot_id=boot_id, bundle_sha256=bundle_sha256)

    def take(self, window: Feedback, now_s: float) -> bool:
        """
        Take what the engine tells of its links.

        :param window: any feedback of this robot
        :param now_s: node clock
        :returns: whether a peer has become reachable or unreachable by that
        """
        self._links, self._links_s = window.peers, self._monotonic()
        reachable = frozenset(p.robot_id for p in window.peers if is_reachable(p, now_s))
        changed, self._reachable = reachable != self._reachable, reachable
        return changed

    def forget_links(self) -> None:
        """Forget the links: their times were of another clock."""
        self._links = ()

    def peers(self) -> Tuple[PeerStatus, ...]:
        """Return who could help now, with the links; nobody while another bears our name."""
        now_s = self._monotonic()
        found, lost = self._fleet.changes(now_s)
        for name in found:
            self._log.info(f'{name} is found')
        for name in lost:
            self._log.info(f'{name} is lost: no advert any more, or none that can be used')
        self._tell_clash()
        if self._fleet.clash:
            return ()
        fresh = now_s - self._links_s <= LINKS_STALE_S
        return with_links(self._fleet.peers(now_s), self._links if fresh else ())

    def health(self) -> Optional[Health]:
        """Return what is wrong with the fleet, None when nothing is."""
        self._fleet.peers(self._monotonic())
        problems = self._fleet.problems()
        if not problems:
            return None
        return Health(ERROR if self._fleet.clash else WARN, '; '.join(problems))

    def _on_advert(self, message: Advert) -> None:
        self._fleet.heard(advert_from_msg(message), self._monotonic())

    def _tell_clash(self) -> None:
        clash = self._fleet.clash
        if clash and not self._clashed:
            self._log.error(self._fleet.problems()[0])
        self._clashed = clash
