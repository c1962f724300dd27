# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Our engine and its peers in one process, in turns; prints seconds as JSON."""
from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any, Callable, Dict, List, Mapping

import numpy as np

from benchmarks import timing
from benchmarks._engine_memory_child import segment_of
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import AUTO, make_backend
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions

OURS, AGAIN = 'ours', 'ours again'
WARM_UP_RUNS = 3
TURN_S, MOST_RUNS = 0.02, 20
MOST_ROUNDS = 400
LONG_S = 0.1
"""A run that takes longer finds nothing in the caches, whoever was there before."""
Run = Callable[[], Any]


def ours(request: Mapping[str, Any], image: np.ndarray) -> Run:
    """Return a run as the robot does it."""
    executable = make_backend(AUTO).compile(segment_of(request['said']),
                                            EngineOptions(**request['options']))
    outputs = make_buffers(executable.outputs)
    return lambda: executable.run((image,), outputs)


def onnxruntime_peer(request: Mapping[str, Any], image: np.ndarray) -> Run:
    """Return a run of a session at its defaults, all optimisations on."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request['threads']
    session = onnxruntime.InferenceSession(request['said']['path'], options,
                                           providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})


def openvino_peer(request: Mapping[str, Any], image: np.ndarray) -> Run:
    """Return a run of a compiled model that is told to compute in f32, for low latency."""
    import openvino
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(request['said']['path']), 'CPU', {
        'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_NUM_THREADS': request['threads']})
    infer = compiled.create_infer_request()
    return lambda: infer.infer({0: image}, share_inputs=True)


def ncnn_peer(request: Mapping[str, Any], image: np.ndarray) -> Run:
    """Return a run of a net at its defaults in fp32; the graph is translated by us."""
    import ncnn

    from crowdhmt_ros.engine.backends.ncnn import _make_reader
    from crowdhmt_ros.engine.backends.ncnn_rules import to_ncnn
    from crowdhmt_ros.engine.onnx_file import read_graph
    model = to_ncnn(read_graph(request['said']['path']))
    net = ncnn.Net()
    net.opt.num_threads = request['threads']
    for flag in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic',
                 'use_bf16_storage'):
        setattr(net.opt, flag, False)
    net.load_param_mem(model.text)
    net.load_model(_make_reader(ncnn, model.weights))

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(model.inputs[0], ncnn.Mat(image[0]).clone())
        return np.array(extractor.extract(model.outputs[0])[1])
    return run


def compiled_peer(request: Mapping[str, Any], image: np.ndarray) -> Run:
    """Return a run of the same network under torch.compile, its weights frozen in."""
    import torch
    from torch._inductor import config

    from crowdhmt_ros.elastic.backbones import BACKBONES
    config.freezing = True
    torch.set_num_threads(request['threads'])
    net = BACKBONES[request['backbone']](1000, edge=request['edge']).eval()
    run = torch.compile(net)
    tensor = torch.from_numpy(image)

    def infer() -> Any:
        with torch.inference_mode():
            return run(tensor)
    return infer


PEERS: Mapping[str, Callable[[Mapping[str, Any], np.ndarray], Run]] = {
    'onnxruntime': onnxruntime_peer, 'openvino': openvino_peer, 'ncnn': ncnn_peer,
    'torch.compile': compiled_peer}


RUNNERS = {OURS: ours, AGAIN: ours, **PEERS}


def measure(request: Mapping[str, Any]) -> Dict[str, Any]:
    """
    Return engine -> seconds a turn, and who is missing for what reason.

    Ours is loaded twice, for the control. Who is loaded first lies otherwise in memory, which is
    worth percents, so that each process (`number`) loads them in another order.
    """
    image = np.random.default_rng(0).standard_normal(
        tuple(request['said']['inputs'][0][2])).astype(np.float32)
    runs: Dict[str, Run] = {}
    missing: Dict[str, str] = {}
    for name in timing.order([OURS, *request['peers'], AGAIN], request['number']):
        try:
            run = RUNNERS[name](request, image)
            run()
            runs[name] = run
        except (ImportError, BackendError, RuntimeError, OSError) as error:
            if name not in PEERS:
                raise
            missing[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    gc.collect()
    gc.disable()
    return {'times': in_turns(runs, request['span_s'], request['rounds']), 'missing': missing}


def in_turns(runs: Mapping[str, Run], span_s: float, rounds: int) -> Dict[str, List[float]]:
    """Return the seconds that each took in each round, so many rounds at least."""
    names, count = list(runs), 1
    times: Dict[str, List[float]] = {name: [] for name in names}
    longest_s = 0.0
    for name in names:
        for _ in range(WARM_UP_RUNS):
            began_s = time.perf_counter()
            runs[name]()
        single_s = time.perf_counter() - began_s
        longest_s = max(longest_s, single_s)
        count = max(count, min(MOST_RUNS, int(TURN_S / single_s)))
    until_s = time.perf_counter() + span_s
    for number in range(MOST_ROUNDS):
        if number >= rounds and time.perf_counter() >= until_s:
            break
        for name in timing.order(names, number):
            run = runs[name]
            if longest_s < LONG_S:
                run()  # what the others have left in the caches is not its fault
            began_s = time.perf_counter()
            for _ in range(count):
                run()
            times[name].append((time.perf_counter() - began_s) / count)
    return times


if __name__ == '__main__':
    print(json.dumps(measure(json.loads(sys.argv[1]))))
