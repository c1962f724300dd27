# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One row of the ladder in a process of its own, and the peer that computes its tail in another.

    python -m benchmarks._engine_ladder_child '{"engine": ..., "threads": ..., "whole": ...}'

prints what it has taken in memory, then for each line with a number the seconds of so many
inferences. With "head" and "tail" instead of "whole", the tail is computed by a peer that this
process starts: the real door, server, channel and turns between two processes.
"""
from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks._engine_memory_child import PlainExecutable, memory_mb, segment_of
from benchmarks._peer_process import LEASE_S, TIMEOUT_S, peer, serve
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import BACKENDS
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.offload.assist import RemotePart
from crowdhmt_ros.offload.channel import LeaseWish
from crowdhmt_ros.offload.zeromq_channel import ZeroMQChannel
from crowdhmt_ros.types import EngineOptions

PLAIN = 'plain'
"""ONNX Runtime without optimisation, from a file: what every row starts from."""
CODEC = 'raw'
WARM_UP = 3
Arrays = Sequence[NDArray[Any]]


def executable(said: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
    """Return what runs a graph as a row says."""
    if row['engine'] != PLAIN:
        options = EngineOptions(backend=row['engine'], threads=row['threads'],
                                memory_mode=row['memory'])
        return BACKENDS[row['engine']]().compile(segment_of(said), options)
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 4
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = row['threads'], 1
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return PlainExecutable(onnxruntime.InferenceSession(
        said['plain_path'], chosen, providers=['CPUExecutionProvider']))


class Shared:
    """Head here, tail at the peer."""

    def __init__(self, row: Mapping[str, Any], channel: ZeroMQChannel) -> None:
        self._head = executable(row['head'], row)
        tail = segment_of(row['tail'])
        self._crossing = make_buffers(segment_of(row['head']).outputs)
        lease = channel.lease(LeaseWish((tail.segment_id,), 0.0, 20.0, LEASE_S), TIMEOUT_S)
        self._part = RemotePart(channel, lease, tail, CODEC)

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """
        Compute both parts.

        :raises RuntimeError: the peer did not answer in time
        """
        self._head.run(inputs, self._crossing)
        answer = self._part.ask(self._crossing, TIMEOUT_S).wait(TIMEOUT_S)
        if answer is None:
            raise RuntimeError('the peer did not answer in %g s' % TIMEOUT_S)
        for buffer, value in zip(outputs, answer[0]):
            buffer[...] = value


def pin(processor: Optional[int]) -> None:
    """Stay on one processor, or not."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})


def work(row: Mapping[str, Any], open_: Optional[Callable[[], ZeroMQChannel]]) -> None:
    """Say what was taken, then run as often as asked."""
    first, last = (row['whole'],) * 2 if open_ is None else (row['head'], row['tail'])
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(d) for _, d, s in first['inputs']]
    outputs = make_buffers(segment_of(last).outputs)
    for buffer in outputs:
        buffer.fill(0)
    before = memory_mb()
    ran = executable(row['whole'], row) if open_ is None else Shared(row, open_())
    for _ in range(WARM_UP):
        ran.run(inputs, outputs)
    after = memory_mb()
    print(json.dumps({'rss_mb': after['rss'] - before['rss'],
                      'anon_mb': after['anon'] - before['anon'],
                      'answer': outputs[0].ravel()[:32].tolist()}), flush=True)
    for line in sys.stdin:
        times_s = []
        for _ in range(int(line)):
            began_s = time.perf_counter()
            ran.run(inputs, outputs)
            times_s.append(time.perf_counter() - began_s)
        print(json.dumps(times_s), flush=True)


def main() -> None:
    """Run a row, or the peer of one."""
    sys.setswitchinterval(THREAD_TURN_S)  # as in the robot's processes
    row: Dict[str, Any] = json.loads(sys.argv[1])
    if len(sys.argv) > 2:
        pin(row.get('peer_processor'))
        serve([segment_of(row['tail'])], executable(row['tail'], row), Path(sys.argv[2]))
        return
    if 'whole' in row:
        pin(row.get('processor'))
        work(row, None)
        return
    with peer('benchmarks._engine_ladder_child', json.dumps(row)) as open_:
        pin(row.get('processor'))
        work(row, open_)


if __name__ == '__main__':
    main()
