# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs of one network in several ways, interleaved, in a process of its own.

    python -m benchmarks._engine_precision_child '{"ways": [...], "peer": true, ...}'

prints one JSON object: way -> seconds of each run. A way is 'ENGINE/PRECISION' through this
project's backends; the peer is OpenVINO's own interface on the same quantised file.
"""
from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Mapping

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before an engine is imported

import numpy as np  # noqa: E402

from crowdhmt_ros.engine.backend import make_buffers  # noqa: E402
from crowdhmt_ros.engine.backends import BACKENDS  # noqa: E402
from crowdhmt_ros.errors import BackendError  # noqa: E402
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec  # noqa: E402

PEER = 'peer'
WARM = 2
Run = Callable[[], Any]


def segment_of(said: Mapping[str, Any], precision: str) -> Segment:
    """Return the quantised graph for int8, the plain one for all others."""
    path = said['int8' if precision == 'int8' else 'plain']
    return Segment(said['name'], '', path, (TensorSpec('image', 'float32', tuple(said['shape'])),),
                   (TensorSpec('logits', 'float32', (1, said['classes'])),))


def picture(said: Mapping[str, Any]) -> np.ndarray:
    """Return an input, the same in every process."""
    return np.random.default_rng(0).standard_normal(said['shape']).astype(np.float32)


def ours(said: Mapping[str, Any], way: str, threads: int) -> Run:
    """
    Return what runs a way through this project's backends.

    :raises BackendError: the engine is absent or refuses
    """
    engine, precision = way.split('/')
    options = EngineOptions(engine, threads=threads, precision=precision)
    executable = BACKENDS[engine]().compile(segment_of(said, precision), options)
    inputs, found = (picture(said),), make_buffers(executable.outputs)
    return lambda: executable.run(inputs, found)


def peer(said: Mapping[str, Any], threads: int) -> Run:
    """Return what runs the quantised file through OpenVINO's own interface, as users do."""
    import openvino
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(said['int8']), 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1,
        'INFERENCE_PRECISION_HINT': 'f32'})
    request = compiled.create_infer_request()
    tensor = openvino.Tensor(picture(said), shared_memory=True)
    request.set_input_tensor(tensor)
    return lambda: request.infer(share_outputs=True)


def times(said: Mapping[str, Any], ways: List[str], threads: int, rounds: int,
          most_s: float) -> Dict[str, List[float]]:
    """Run all ways and the peer in turns; ways that an engine refuses are left out."""
    runs: Dict[str, Run] = {PEER: peer(said, threads)}
    for way in ways:
        try:
            runs[way] = ours(said, way, threads)
        except BackendError:
            continue
    found: Dict[str, List[float]] = {name: [] for name in runs}
    names, began_s = list(runs), time.perf_counter()
    for index in range(-WARM, rounds):
        if index > 3 and time.perf_counter() - began_s > most_s:
            break
        for name in names if index % 2 else reversed(names):
            start_s = time.perf_counter()
            runs[name]()
            if index >= 0:
                found[name].append(time.perf_counter() - start_s)
    return found


if __name__ == '__main__':
    print(json.dumps(times(**json.loads(sys.argv[1]))))
