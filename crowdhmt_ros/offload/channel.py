# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The seam between this robot and one peer: what a caller asks for and what it gets (P III-D3).

A call never carries a model: names and digests of prebuilt segments, and packed tensors. A call
carries the time that is left for it, never a clock reading.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Tuple

PROTOCOL_VERSION = 1
ZEROMQ = 'zeromq'
ROS = 'ros'
AUTO = 'auto'
ROS_PAYLOAD_MAX_BYTES = 32768
"""Largest payload through `run_segment`: beyond it DDS over a thin link loses messages."""


@dataclass(frozen=True)
class LeaseWish:
    """
    The right to run segments at a peer for a while, as asked for.

    :param segment_ids: to be compiled and kept ready
    :param memory_bytes: expected for all of them together
    :param rate_hz: requests a second
    :param duration_s: wished length
    """

    segment_ids: Tuple[str, ...]
    memory_bytes: float
    rate_hz: float
    duration_s: float


@dataclass(frozen=True)
class Lease:
    """
    The right as granted.

    :param lease_id: goes with every call
    :param segment_ids: what it covers
    :param until_s: end on this robot's monotonic clock
    """

    lease_id: str
    segment_ids: Tuple[str, ...]
    until_s: float


@dataclass(frozen=True)
class Call:
    """
    One segment to be run for one frame.

    :param lease_id: of a lease that covers the segment
    :param segment_id: name in the bundle
    :param segment_sha256: of the weightless graph
    :param codec: how `payload` is packed, see `offload.codec`
    :param budget_s: time left for the whole call, both ways
    :param payload: the packed input of the segment
    """

    lease_id: str
    segment_id: str
    segment_sha256: str
    codec: str
    budget_s: float
    payload: bytes


@dataclass(frozen=True)
class Reply:
    """
    What a peer computed.

    :param payload: packed outputs of the segment, codec 'raw'
    :param queue_s: wait at the peer
    :param run_s: unpacking, computing and packing at the peer
    :param round_trip_s: from `submit` to the arrival of the reply, on this robot's clock
    """

    payload: bytes
    queue_s: float
    run_s: float
    round_trip_s: float


class Pending(Protocol):
    """A call under way."""

    def wait(self, timeout_s: float) -> Optional[Reply]:
        """
        Wait for the reply.

        :returns: None when it is not there in time; it may be waited for again
        :raises OffloadError: the peer refused, failed or is gone
        """

    def cancel(self) -> None:
        """Forget the call; a reply that comes later is dropped and the peer is told."""


@dataclass(frozen=True)
class ChannelHealth:
    """
    How the connection to one peer does.

    :param connected: a handshake succeeded and nothing has spoken against it since
    :param round_trip_s: of a request without payload, smoothed; None while unknown
    :param bandwidth_bytes_per_s: of payloads, smoothed; None while unknown
    :param failures: calls in a row without an answer
    :param retry_in_s: 0 when it may be asked, else how long the breaker stays open
    :param queued: calls under way
    :param reconnects: connections made again
    :param sent_bytes: in all
    :param received_bytes: in all
    :param refused: replies dropped: late, doubled, for no call of ours, or not readable
    :param problem: one line, '' when there is none
    """

    connected: bool
    round_trip_s: Optional[float] = None
    bandwidth_bytes_per_s: Optional[float] = None
    failures: int = 0
    retry_in_s: float = 0.0
    queued: int = 0
    reconnects: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    refused: int = 0
    problem: str = ''


class Channel(Protocol):
    """The way to one peer. All methods may be called from any thread."""

    @property
    def robot_id(self) -> str:
        """The peer."""

    @property
    def kind(self) -> str:
        """'zeromq' or 'ros'."""

    def lease(self, wish: LeaseWish, timeout_s: float) -> Lease:
        """
        Ask for a lease and wait for the answer.

        :raises OffloadError: refused (with the peer's reason), or no answer in time
        """

    def submit(self, call: Call) -> Pending:
        """
        Send a call.

        :raises OffloadError: at once, when the peer is known not to be reachable, the breaker
            is open, or the payload is larger than this kind of channel takes
        """

    def release(self, lease: Lease) -> None:
        """Give a lease back; never waits."""

    def health(self) -> ChannelHealth:
        """Return how the connection does, now."""

    def close(self) -> None:
        """Take it down; calls under way fail."""
