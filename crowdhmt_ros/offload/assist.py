# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The part of a candidate that a peer computes, seen from the robot that asks (P III-D3).

One object per plan in force: it packs what crosses, asks, and unpacks what comes back, so that
the executor handles arrays and nothing of the wire.
"""
from __future__ import annotations

import threading
import time
from typing import Callable, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import OffloadError
from crowdhmt_ros.offload.channel import Call, Channel, Lease, Pending, Reply
from crowdhmt_ros.offload.codec import JPEG, RAW, decode, encode, encode_image
from crowdhmt_ros.types import Crossing, Segment

HOLD_OFF_S = 0.002
"""A call with less time than this left is not worth sending."""


class Asked:
    """
    One call under way.

    :param pending: of the channel
    :param encode_s: what packing has taken
    :param sent_bytes: length of the payload
    :param unpack: turns a reply into the segment's outputs
    """

    def __init__(self, pending: Pending, encode_s: float, sent_bytes: int, robot_id: str,
                 unpack: Callable[[bytes], Tuple[np.ndarray, ...]]) -> None:
        self._pending = pending
        self._encode_s = encode_s
        self._sent_bytes = sent_bytes
        self._robot_id = robot_id
        self._unpack = unpack

    def wait(self, timeout_s: float) -> Optional[Tuple[Tuple[np.ndarray, ...], Crossing]]:
        """
        Wait for the outputs.

        :param timeout_s: 0 or less only looks
        :returns: outputs of the segment and what the crossing has cost, None when they are not
            there in time
        :raises OffloadError: the peer refused, failed, is gone, or sent something else
        """
        reply = self._pending.wait(max(0.0, timeout_s))
        if reply is None:
            return None
        start_s = time.perf_counter()
        outputs = self._unpack(reply.payload)
        return outputs, self._crossing(reply, self._encode_s + time.perf_counter() - start_s)

    def cancel(self) -> None:
        """Forget the call."""
        self._pending.cancel()

    def _crossing(self, reply: Reply, encode_s: float) -> Crossing:
        link_s = max(0.0, reply.round_trip_s - reply.queue_s - reply.run_s)
        return Crossing(self._robot_id, encode_s, link_s, reply.queue_s, reply.run_s,
                        self._sent_bytes, len(reply.payload))


class RemotePart:
    """
    Asks one peer to run one segment, frame after frame, under one lease.

    :param channel: to the peer
    :param lease: covers the segment; the channel renews it
    :param segment: what the peer runs; only names, digest and specs are used
    :param codec: how the crossing is packed; 'jpeg' takes the resized image instead of tensors
    """

    def __init__(self, channel: Channel, lease: Lease, segment: Segment, codec: str) -> None:
        self._channel = channel
        self._lease = lease
        self._segment = segment
        self.codec = codec
        self._once = threading.Lock()

    @property
    def robot_id(self) -> str:
        """The peer."""
        return self._channel.robot_id

    @property
    def lost(self) -> bool:
        """Whether its channel was taken down: the peer has restarted, or was gone for long."""
        return bool(getattr(self._channel, 'closed', False))

    @property
    def takes_image(self) -> bool:
        """Whether `ask` takes the resized image, blue-green-red uint8, instead of tensors."""
        return self.codec == JPEG

    def ask(self, arrays: Sequence[np.ndarray], budget_s: float) -> Asked:
        """
        Send one frame's crossing.

        :param arrays: the segment's inputs, or the one resized image
        :param budget_s: time left for the whole call
        :raises OffloadError: the peer cannot be asked now, or no time is left
        """
        if budget_s <= HOLD_OFF_S:
            raise OffloadError('no time is left to ask %s' % self.robot_id)
        start_s = time.perf_counter()
        payload = encode_image(arrays[0]) if self.takes_image else encode(self.codec, arrays)
        packed_s = time.perf_counter() - start_s
        call = Call(self._lease.lease_id, self._segment.segment_id, self._segment.sha256,
                    self.codec, budget_s - packed_s, payload)
        return Asked(self._channel.submit(call), packed_s, len(payload), self.robot_id,
                     self._outputs)

    def release(self) -> None:
        """Give the lease back, once; never waits; from any thread."""
        if self._once.acquire(blocking=False):
            self._channel.release(self._lease)

    def _outputs(self, payload: bytes) -> Tuple[np.ndarray, ...]:
        return decode(RAW, payload, self._segment.outputs)
