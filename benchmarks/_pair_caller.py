# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One process of the overhead bench: calls a server in another fresh process over loopback.

`python -m benchmarks._pair_caller JSON` prints JSON. `python -m benchmarks._pair_caller --serve
KEYS SIZES` is the server: the real door, server and turns before a segment that computes next to
nothing, so that what is left is the way there and back.
"""
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.turns import Turns
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.offload.calls import Asker, RequestSeq
from crowdhmt_ros.offload.channel import Call, LeaseWish
from crowdhmt_ros.offload.served import Served, ServerSettings
from crowdhmt_ros.offload.server import SegmentServer
from crowdhmt_ros.offload.trust import KeyStore, throw_away
from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

BUNDLE = 'b' * 64
GAP_S = 0.05
"""Between two calls of a camera of 20 Hz whose robot does nothing else."""
WARM_UP = 5
TIMEOUT_S = 10.0
LOGITS = TensorSpec('logits', 'float32', (1, 4))


def segment_of(payload_bytes: int) -> Segment:
    """Return a segment whose packed input has so many bytes."""
    features = TensorSpec('features', 'float32', (1, payload_bytes // 4))
    return Segment('tail%d' % payload_bytes, '%064x' % payload_bytes, '', (features,), (LOGITS,))


class Firsts:
    """A segment that answers the first four values of its input."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute outputs from inputs."""
        outputs[0][0] = inputs[0][0, :4]


class FirstsPool:
    """Holds such segments."""

    held_bytes = 0.0

    def hold(self, segment_id: str, options: EngineOptions) -> Firsts:
        """Return the executable of a segment."""
        return Firsts()

    def unhold(self, segment_id: str, options: EngineOptions) -> None:
        """Undo one `hold`: nothing is kept."""

    def segment_bytes(self, segment_id: str, options: EngineOptions) -> float:
        """Return what one segment takes."""
        return 0.0


def serve(keys: Path, sizes: Sequence[int]) -> None:
    """Serve until the input ends; the first line of output is the address."""
    segments = [segment_of(size) for size in sizes]
    server = SegmentServer({s.segment_id: Served(s) for s in segments}, FirstsPool(), Turns(),
                           settings=ServerSettings('drone', BUNDLE))
    server.start()
    door = ZeroMQDoor(server, KeyStore(keys), boot_id=lambda: 'd1')
    door.start()
    print(door.address, flush=True)
    sys.stdin.read()
    door.close()
    server.stop()


@contextlib.contextmanager
def opened(sizes: Sequence[int]) -> Iterator[ZeroMQChannel]:
    """Start the server and open a channel to it."""
    with tempfile.TemporaryDirectory() as folder:
        keys = throw_away(Path(folder) / 'keys', ('vehicle', 'drone'))
        own = KeyStore(keys['vehicle'])
        public = own.public_of('drone')
        assert public is not None
        child = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks._pair_caller', '--serve', str(keys['drone']),
             json.dumps(list(sizes))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        channel = ZeroMQChannel(
            'drone', child.stdout.readline().strip(), server_key=public, public_key=own.public,
            secret_key=own.secret, max_payload_bytes=max(sizes),
            asker=Asker('vehicle', 'v1', BUNDLE, own.fingerprint, RequestSeq()))
        try:
            deadline_s = time.monotonic() + TIMEOUT_S
            while channel.health().round_trip_s is None:
                if time.monotonic() > deadline_s:
                    raise RuntimeError('no connection: %s' % channel.health().problem)
                time.sleep(0.01)
            yield channel
        finally:
            channel.close()
            child.communicate()


def measure(channel: ZeroMQChannel, payload_bytes: int, calls: int, *, gap_s: float = 0.0
            ) -> Tuple[List[float], List[float]]:
    """
    Return the seconds of overhead and of the link alone, of each call.

    :param gap_s: between two calls; with 0 no processor falls asleep, which on a robot its own
        frames take care of
    """
    segment = segment_of(payload_bytes)
    lease = channel.lease(LeaseWish((segment.segment_id,), 0.0, 20.0, 30.0), TIMEOUT_S)
    values = np.random.default_rng(0).random(payload_bytes // 4).astype(np.float32)
    payload = values.tobytes()
    overhead_s, link_s = [], []
    for number in range(WARM_UP + calls):
        time.sleep(gap_s)
        start_s = time.monotonic()
        reply = channel.submit(Call(lease.lease_id, segment.segment_id, segment.sha256, 'raw',
                                    TIMEOUT_S, payload)).wait(TIMEOUT_S)
        taken_s = time.monotonic() - start_s
        if reply is None or reply.payload != payload[:16]:
            raise RuntimeError('a call was not answered, or wrongly')
        if number >= WARM_UP:
            overhead_s.append(taken_s - reply.run_s)
            link_s.append(reply.round_trip_s - reply.queue_s - reply.run_s)
    return overhead_s, link_s


def main() -> None:
    """Run as the server, or measure and print."""
    sys.setswitchinterval(THREAD_TURN_S)  # as in the robot's processes
    if sys.argv[1] == '--serve':
        serve(Path(sys.argv[2]), json.loads(sys.argv[3]))
        return
    options = json.loads(sys.argv[1])
    found: Dict[str, Dict[str, Any]] = {'overhead_s': {}, 'link_s': {}, 'paused_s': {}}
    with opened(options['sizes']) as channel:
        for size in options['sizes']:
            overhead_s, link_s = measure(channel, size, options['calls'])
            found['overhead_s'][str(size)] = overhead_s
            found['link_s'][str(size)] = link_s
            found['paused_s'][str(size)], _ = measure(channel, size, options['paused_calls'],
                                                      gap_s=GAP_S)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
