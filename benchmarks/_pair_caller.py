# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One process of the overhead bench: calls a server in another fresh process over loopback.

`python -m benchmarks._pair_caller JSON` prints JSON. `python -m benchmarks._pair_caller --serve
SIZES KEYS` is the server: the real door, server and turns before a segment that computes next to
nothing, so that what is left is the way there and back.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from benchmarks._peer_process import peer, serve
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.offload.channel import Call, LeaseWish
from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel
from crowdhmt_ros.types import Segment, TensorSpec

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
        serve([segment_of(size) for size in json.loads(sys.argv[2])], Firsts(), Path(sys.argv[3]))
        return
    options = json.loads(sys.argv[1])
    found: Dict[str, Dict[str, Any]] = {'overhead_s': {}, 'link_s': {}, 'paused_s': {}}
    with peer('benchmarks._pair_caller', '--serve', json.dumps(options['sizes']),
              largest_bytes=max(options['sizes'])) as open_:
        channel = open_()
        for size in options['sizes']:
            overhead_s, link_s = measure(channel, size, options['calls'])
            found['overhead_s'][str(size)] = overhead_s
            found['link_s'][str(size)] = link_s
            found['paused_s'][str(size)], _ = measure(channel, size, options['paused_calls'],
                                                      gap_s=GAP_S)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
