# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What robots tell of each other <-> messages, both ways and exact."""
from __future__ import annotations

from builtin_interfaces.msg import Time

from crowdhmt_ros import types
from crowdhmt_ros.msg import Advert, PeerStatus
from crowdhmt_ros.nodes.scalars import number, optional

PEER_NUMBERS = ('age_s', 'capacity_macs_per_s', 'battery_ratio', 'memory_headroom_bytes',
                'link_bandwidth_bytes_per_s', 'link_round_trip_s', 'retry_at_s')
ADVERT_NUMBERS = ('capacity_macs_per_s', 'battery_ratio', 'memory_headroom_bytes')


def peer_to_msg(peer: types.PeerStatus) -> PeerStatus:
    """Convert what is known of a peer."""
    return PeerStatus(
        robot_id=peer.robot_id, boot_id=peer.boot_id, free_leases=peer.free_leases,
        failures=peer.failures, **{name: number(getattr(peer, name)) for name in PEER_NUMBERS})


def peer_from_msg(message: PeerStatus) -> types.PeerStatus:
    """Convert what is known of a peer."""
    return types.PeerStatus(
        robot_id=message.robot_id, boot_id=message.boot_id, free_leases=message.free_leases,
        failures=message.failures,
        **{name: optional(getattr(message, name)) for name in PEER_NUMBERS})


def advert_to_msg(advert: types.Advert, stamp: Time) -> Advert:
    """Convert what a robot offers."""
    message = Advert(
        robot_id=advert.robot_id, boot_id=advert.boot_id,
        protocol_version=advert.protocol_version, ros_distro=advert.ros_distro,
        bundle_sha256=advert.bundle_sha256, free_leases=advert.free_leases,
        channels=list(advert.channels), address=advert.address,
        key_fingerprint=advert.key_fingerprint,
        **{name: number(getattr(advert, name)) for name in ADVERT_NUMBERS})
    message.header.stamp = stamp
    return message


def advert_from_msg(message: Advert) -> types.Advert:
    """Convert what a robot says that it offers; nothing of it is trusted by that."""
    return types.Advert(
        robot_id=message.robot_id, boot_id=message.boot_id,
        protocol_version=message.protocol_version, ros_distro=message.ros_distro,
        bundle_sha256=message.bundle_sha256, free_leases=message.free_leases,
        channels=tuple(message.channels), address=message.address,
        key_fingerprint=message.key_fingerprint,
        **{name: optional(getattr(message, name)) for name in ADVERT_NUMBERS})
