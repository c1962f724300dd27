# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A peer in another process, for benches: the real door, server, keys and channel over loopback.

The peer's process calls `serve`, the other one `peer`.
"""
from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence

from crowdhmt_ros.engine.turns import Turns
from crowdhmt_ros.offload.calls import Asker, RequestSeq
from crowdhmt_ros.offload.leases import LeaseLimits
from crowdhmt_ros.offload.served import Served, ServerSettings
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.offload.trust import KeyStore, throw_away
from crowdhmt_ros.offload.zeromq_channel import PAYLOAD_MAX_BYTES, ZeroMQChannel
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor
from crowdhmt_ros.types import EngineOptions, Segment

BUNDLE = 'b' * 64
CALLER, PEER = 'vehicle', 'drone'
TIMEOUT_S = 20.0
LEASE_S = 600.0


class OnePool:
    """
    A pool that has one executable for whatever is asked.

    :param executable: that is had
    """

    held_bytes = 0.0

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def hold(self, segment_id: str, options: EngineOptions) -> Any:
        """Return the executable."""
        return self._executable

    def unhold(self, segment_id: str, options: EngineOptions) -> None:
        """Undo one `hold`: it stays."""

    def segment_bytes(self, segment_id: str, options: EngineOptions) -> float:
        """Return what one segment takes: it is there already."""
        return 0.0


def serve(segments: Sequence[Segment], executable: Any, keys: Path) -> None:
    """Serve until the input ends; the first line of output is the address."""
    server = SegmentServer({s.segment_id: Served(s) for s in segments}, OnePool(executable),
                           Turns(), settings=ServerSettings(
                               PEER, BUNDLE, leases=LeaseLimits(longest_s=LEASE_S)))
    server.start()
    door = ZeroMQDoor(server, KeyStore(keys), boot_id=lambda: 'd1')
    door.start()
    print(door.address, flush=True)
    sys.stdin.read()
    door.close()
    server.stop()


@contextlib.contextmanager
def peer(module: str, *arguments: str, largest_bytes: int = PAYLOAD_MAX_BYTES
         ) -> Iterator[Callable[[], ZeroMQChannel]]:
    """
    Start a peer; yields what opens a channel to it.

    :param module: that serves; it gets the folder of the peer's keys behind the arguments
    :param largest_bytes: of a payload
    """
    with tempfile.TemporaryDirectory() as folder:
        keys = throw_away(Path(folder) / 'keys', (CALLER, PEER))
        child = subprocess.Popen([sys.executable, '-m', module, *arguments, str(keys[PEER])],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        opened: List[ZeroMQChannel] = []
        try:
            address = child.stdout.readline().strip()

            def open_() -> ZeroMQChannel:
                opened.append(_channel(address, KeyStore(keys[CALLER]), largest_bytes))
                _wait_for(opened[-1])
                return opened[-1]
            yield open_
        finally:
            for channel in opened:
                channel.close()
            child.communicate()


def _channel(address: str, own: KeyStore, largest_bytes: int) -> ZeroMQChannel:
    public = own.public_of(PEER)
    assert public is not None
    return ZeroMQChannel(PEER, address, server_key=public, public_key=own.public,
                         secret_key=own.secret, max_payload_bytes=largest_bytes,
                         asker=Asker(CALLER, 'v1', BUNDLE, own.fingerprint, RequestSeq()))


def _wait_for(channel: ZeroMQChannel) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while channel.health().round_trip_s is None:
        if time.monotonic() > deadline_s:
            raise RuntimeError('no connection: %s' % channel.health().problem)
        time.sleep(0.01)
