# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Other robots: what they offer, what is known of them, and what a crossing to them costs."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

DISPATCH_S = 0.0005
"""What a peer needs beside computing: taking the request in, waking up. *Reconstructed*."""


@dataclass(frozen=True)
class Advert:
    """
    What a robot offers to its peers; field names are the wire names.

    :param robot_id: namespace of the robot without slashes
    :param boot_id: drawn anew at each start
    :param capacity_macs_per_s: measured with the bundle's own segments
    :param free_leases: how many more it would grant now
    :param channels: open doors, of 'zeromq' and 'ros'
    :param address: of the data channel, 'tcp://host:port', '' without one
    :param key_fingerprint: a name to look up in the local trust store, nothing more
    """

    robot_id: str
    boot_id: str
    protocol_version: int
    ros_distro: str
    bundle_sha256: str
    capacity_macs_per_s: Optional[float] = None
    free_leases: int = 0
    battery_ratio: Optional[float] = None
    memory_headroom_bytes: Optional[float] = None
    channels: Tuple[str, ...] = ()
    address: str = ''
    key_fingerprint: str = ''


@dataclass(frozen=True)
class PeerStatus:
    """
    What is known of one peer at a moment. Field names are the wire names; None is unknown.

    :param robot_id: the peer
    :param boot_id: of its last advert
    :param age_s: since its last advert
    :param link_bandwidth_bytes_per_s: from real transfers and, when idle, probes
    :param link_round_trip_s: of a request without payload; None while no channel is open
    :param failures: requests in a row that it left unanswered
    :param retry_at_s: node clock; it is not asked before, None when it may be asked
    """

    robot_id: str
    boot_id: str = ''
    age_s: Optional[float] = None
    free_leases: int = 0
    capacity_macs_per_s: Optional[float] = None
    battery_ratio: Optional[float] = None
    memory_headroom_bytes: Optional[float] = None
    link_bandwidth_bytes_per_s: Optional[float] = None
    link_round_trip_s: Optional[float] = None
    failures: int = 0
    retry_at_s: Optional[float] = None


@dataclass(frozen=True)
class Crossing:
    """
    What one frame's way to a peer and back has cost.

    :param robot_id: the peer
    :param encode_s: packing and unpacking here
    :param link_s: on the way, both directions: all that neither robot accounts for
    :param remote_queue_s: wait at the peer
    :param remote_infer_s: unpacking and computing at the peer
    :param sent_bytes: payload towards the peer
    :param received_bytes: payload back
    """

    robot_id: str
    encode_s: float
    link_s: float
    remote_queue_s: float
    remote_infer_s: float
    sent_bytes: int
    received_bytes: int

    @property
    def offload_s(self) -> float:
        """Crossing and remote time together."""
        return self.encode_s + self.link_s + self.remote_queue_s + self.remote_infer_s


@dataclass(frozen=True)
class Away:
    """
    The part of a candidate that a peer computes, under the link of the moment.

    :param robot_id: the peer
    :param macs: multiply-accumulates there
    :param capacity_macs_per_s: as the peer advertises
    :param sent_bytes: expected payload of one frame towards the peer
    :param received_bytes: expected payload back
    :param codec_s: packing and unpacking, both ends
    :param bandwidth_bytes_per_s: of the link
    :param round_trip_s: of the link
    """

    robot_id: str
    macs: int
    capacity_macs_per_s: float
    sent_bytes: float
    received_bytes: float
    codec_s: float
    bandwidth_bytes_per_s: float
    round_trip_s: float

    @property
    def link_s(self) -> float:
        """Both directions of one frame."""
        return (self.round_trip_s
                + (self.sent_bytes + self.received_bytes) / self.bandwidth_bytes_per_s)

    @property
    def remote_s(self) -> float:
        """Time at the peer by its advertised rate, before any correction."""
        return DISPATCH_S + self.macs / self.capacity_macs_per_s
