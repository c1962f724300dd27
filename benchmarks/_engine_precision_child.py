# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs of one network in several ways, interleaved, in a process of its own.

    python -m benchmarks._engine_precision_child '{"what": "times", "ways": [...], ...}'

prints one JSON object: way -> seconds of each run. A way is 'ENGINE/PRECISION' through this
project's backends; peers are OpenVINO's own interface on a file. Or "answers": what a peer says.
"""
from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable, Dict, List, Mapping

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before an engine is imported

import numpy as np  # noqa: E402

from benchmarks import timing  # noqa: E402
from crowdhmt_ros.engine.backend import make_buffers  # noqa: E402
from crowdhmt_ros.engine.backends import BACKENDS  # noqa: E402
from crowdhmt_ros.errors import BackendError  # noqa: E402
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec  # noqa: E402

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


def request_of(path: str, threads: int) -> Any:
    """Return OpenVINO's own request on a file, as users make it."""
    import openvino
    core = openvino.Core()
    return core.compile_model(core.read_model(path), 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1,
        'INFERENCE_PRECISION_HINT': 'f32'}).create_infer_request()


def peer(said: Mapping[str, Any], path: str, threads: int) -> Run:
    """Return what runs a file through OpenVINO's own interface."""
    import openvino
    request = request_of(path, threads)
    request.set_input_tensor(openvino.Tensor(picture(said), shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def answers(paths: Mapping[str, str], pictures: str) -> Dict[str, List[Any]]:
    """Return what OpenVINO makes of pictures, an .npy file, with each of some files."""
    return {name: [np.array(next(iter(request.infer({0: one}).values()))).tolist()
                   for request in [request_of(path, 1)] for one in np.load(pictures)]
            for name, path in paths.items()}


def times(said: Mapping[str, Any], ways: List[str], peers: Mapping[str, str], threads: int,
          rounds: int, most_s: float) -> Dict[str, List[float]]:
    """
    Run all ways and peers in turns; ways that an engine refuses are left out.

    :param peers: name -> file
    """
    runs: Dict[str, Run] = {name: peer(said, path, threads) for name, path in peers.items()}
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
        for name in timing.order(names, index + WARM):
            start_s = time.perf_counter()
            runs[name]()
            if index >= 0:
                found[name].append(time.perf_counter() - start_s)
    return found


TASKS: Mapping[str, Callable[..., Any]] = {'times': times, 'answers': answers}


if __name__ == '__main__':
    asked = json.loads(sys.argv[1])
    print(json.dumps(TASKS[asked.pop('what')](**asked)))
