# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PeerLinks on a node: adverts in, channels of the wished kind out, health for diagnostics."""
from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Optional, Protocol

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from crowdhmt_ros.errors import OffloadError, TrustError
from crowdhmt_ros.msg import Advert as AdvertMessage
from crowdhmt_ros.nodes.convert_fleet import advert_from_msg
from crowdhmt_ros.nodes.diagnostics import ERROR, OK, WARN, Health
from crowdhmt_ros.nodes.peer_links import PeerLinks
from crowdhmt_ros.nodes.qos import profile_of
from crowdhmt_ros.nodes.ros_channel import RosChannel
from crowdhmt_ros.nodes.topics import FLEET_ADVERT
from crowdhmt_ros.offload.breaker import Breaker
from crowdhmt_ros.offload.calls import Asker, RequestSeq
from crowdhmt_ros.offload.channel import AUTO, ROS, ZEROMQ, Channel
from crowdhmt_ros.offload.codec import FP16, INT8, JPEG, RAW, largest_payload
from crowdhmt_ros.offload.fleet import FleetView
from crowdhmt_ros.offload.link import PROBE_BYTES
from crowdhmt_ros.offload.trust import KeyStore, default_keys_dir
from crowdhmt_ros.types import Advert, Segment

TICK_S = 0.1
OFF = 'off'
CODECS = (RAW, FP16, INT8, JPEG)


class Wishes(Protocol):
    """The parameters that are read; `CameraInferenceParameters` has them."""

    channel: str
    keys_dir: str
    fleet_advert_topic: str


class NodeLinks:
    """
    The links of one node: what it hears, opens, and ends.

    :param node: spun by an executor; adverts, timers and answers come through it
    :param links: made for it
    """

    def __init__(self, node: Node, links: PeerLinks, topic: str,
                 boot_id: Callable[[], str]) -> None:
        self._node = node
        self._boot_id = boot_id
        self.links = links
        self._closed = False
        self._adverts = node.create_subscription(
            AdvertMessage, topic, self._on_advert, profile_of(FLEET_ADVERT.profile))
        self._timer = node.create_timer(
            TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._bell = node.create_guard_condition(self._tick)

    def ring(self) -> None:
        """Have the links looked after in the node's thread soon; from any thread."""
        if not self._closed:
            self._bell.trigger()

    def close(self) -> None:
        """End all; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.links.close()
        self._node.destroy_subscription(self._adverts)
        self._node.destroy_timer(self._timer)
        self._node.destroy_guard_condition(self._bell)

    def _on_advert(self, message: AdvertMessage) -> None:
        self.links.fleet.know_self(boot_id=self._boot_id())
        self.links.heard(advert_from_msg(message))

    def _tick(self) -> None:
        if not self._closed:
            self.links.tick()


class _Opening:
    """Opens channels of the wished kind."""

    def __init__(self, node: Node, keys: KeyStore, wish: str, asker: Asker,
                 segments: Iterable[Segment]) -> None:
        self._node = node
        self._keys = keys
        self._wish = wish
        self._asker = asker
        known = tuple(segments)
        self._max_payload_bytes = max_payload_bytes(known)
        self._probe_bytes = min([PROBE_BYTES, max(
            (largest_payload(RAW, s.inputs) for s in known), default=0)])
        self.changed: Callable[[], None] = lambda: None

    def __call__(self, advert: Advert, breaker: Breaker) -> Channel:
        """
        Open the channel to who sent an advert, which is trusted.

        :raises OffloadError: the peer has no door of that kind, or it cannot be used
        """
        kind = self._wish
        if kind == AUTO:
            kind = ZEROMQ if ZEROMQ in advert.channels and advert.address else ROS
        if kind not in advert.channels:
            raise OffloadError(f'{advert.robot_id} offers no {kind} door '
                               f'({", ".join(advert.channels) or "none at all"}): set channel to '
                               'auto, or ros_door on it to true')
        return self._zeromq(advert, breaker) if kind == ZEROMQ else self._ros(advert, breaker)

    def _zeromq(self, advert: Advert, breaker: Breaker) -> Channel:
        try:
            from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel
        except ImportError as error:
            raise OffloadError('channel zeromq needs pyzmq: pip install pyzmq, or set channel to '
                               'ros') from error
        public = self._keys.public_of(advert.robot_id)
        assert public is not None  # no objection to it
        return ZeroMQChannel(
            advert.robot_id, advert.address, server_key=public, public_key=self._keys.public,
            secret_key=self._keys.secret, asker=self._asker, breaker=breaker,
            max_payload_bytes=self._max_payload_bytes,
            probe_bytes=self._probe_bytes, changed=self._ring)

    def _ros(self, advert: Advert, breaker: Breaker) -> Channel:
        secret = self._keys.secret_with(advert.robot_id)
        assert secret is not None  # no objection to it
        return RosChannel(self._node, advert.robot_id, secret=secret, asker=self._asker,
                          breaker=breaker, changed=self._ring)

    def _ring(self) -> None:
        self.changed()


def own_distro() -> str:
    """Return the ROS 2 distribution that this process runs on, '' where nobody says."""
    return os.environ.get('ROS_DISTRO', '')


def max_payload_bytes(segments: Iterable[Segment]) -> int:
    """Return the longest payload that any of the segments takes in or gives back."""
    longest = [0]
    for segment in segments:
        longest.append(largest_payload(RAW, segment.outputs))
        longest.extend(largest_payload(codec, segment.inputs) for codec in CODECS)
    return max(longest)


def open_peer_links(node: Node, wishes: Wishes, *, robot_id: str, bundle_sha256: str,
                    segments: Iterable[Segment], boot_id: Callable[[], str] = str,
                    on_change: Callable[[], None] = lambda: None) -> Optional[NodeLinks]:
    """
    Listen for peers and open channels to those that this robot trusts.

    :param node: spun by an executor in one thread
    :param wishes: parameters channel, keys_dir, fleet_advert_topic
    :param robot_id: of this robot
    :param bundle_sha256: what it runs
    :param segments: of the bundle; they bound what a payload may hold
    :param boot_id: of this robot as it stands in its adverts, '' while unknown
    :param on_change: called in the node's thread when a peer becomes reachable or unreachable
    :returns: None where offloading is off; the log says why
    """
    log = node.get_logger()
    if wishes.channel == OFF:
        log.info('offloading is off (channel is off)')
        return None
    folder = Path(wishes.keys_dir).expanduser() if wishes.keys_dir else default_keys_dir()
    try:
        keys = KeyStore(folder)
    except TrustError as error:
        log.info(f'offloading is off: {error}')
        return None
    asker = Asker(robot_id, uuid.uuid4().hex, bundle_sha256, keys.fingerprint, RequestSeq())
    opening = _Opening(node, keys, wishes.channel, asker, segments)
    fleet = FleetView(robot_id, ros_distro=own_distro(), bundle_sha256=bundle_sha256,
                      boot_id=boot_id())
    links = PeerLinks(
        fleet, keys=keys, opener=opening, on_change=on_change,
        node_now_s=lambda: float(node.get_clock().now().nanoseconds) / 1e9)
    made = NodeLinks(node, links, wishes.fleet_advert_topic, boot_id)
    opening.changed = made.ring
    return made


def peers_health(links: Optional[PeerLinks]) -> Health:
    """Return the health of all channels for `/diagnostics`; None is offloading that is off."""
    if links is None:
        return Health(message='offloading is off')
    values: Dict[str, Any] = {}
    problems = list(links.problems())
    for name, health in links.health().items():
        values[f'{name}.channel'] = links.kinds().get(name, '')
        for key in ('connected', 'round_trip_s', 'bandwidth_bytes_per_s', 'queued', 'reconnects',
                    'refused', 'failures', 'retry_in_s', 'sent_bytes', 'received_bytes'):
            value = getattr(health, key)
            values[f'{name}.{key}'] = 'unknown' if value is None else value
        if not health.connected or health.retry_in_s > 0.0:
            problems.append(f'{name} is not reachable: {health.problem or "no answers"}')
    if links.clash:
        return Health(ERROR, '; '.join(problems), values)
    if problems:
        return Health(WARN, '; '.join(problems), values)
    return Health(OK, f'{len(links.health())} peers', values)
