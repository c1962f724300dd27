# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of the bare call of an engine and of ours, of one segment; printed as JSON."""
from __future__ import annotations

import gc
import json
import sys
from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence, Tuple

import numpy as np

from benchmarks import timing
from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import AUTO, ENGINES, make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.turns import Turns
from crowdhmt_ros.types import Candidate, EngineOptions, Segment

Buffers = Sequence[np.ndarray]
Run = Callable[[], Any]


def onnxruntime_call(segment: Segment, options: EngineOptions, given: Buffers, taken: Buffers
                     ) -> Run:
    """Return the call of a session with bound buffers."""
    import onnxruntime
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(segment.path, chosen,
                                           providers=['CPUExecutionProvider'])
    binding = session.io_binding()
    for spec, buffer, bind in (
            *((s, b, binding.bind_input) for s, b in zip(segment.inputs, given)),
            *((s, b, binding.bind_output) for s, b in zip(segment.outputs, taken))):
        bind(spec.name, 'cpu', 0, buffer.dtype.type, spec.shape, buffer.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def openvino_call(segment: Segment, options: EngineOptions, given: Buffers, taken: Buffers
                  ) -> Run:
    """Return the call of a request whose tensors are set."""
    import openvino

    from crowdhmt_ros.engine.backends.openvino import DEVICE
    from crowdhmt_ros.engine.backends.openvino import _settings as settings_of
    core = openvino.Core()
    request = core.compile_model(core.read_model(segment.path), DEVICE, settings_of(options)
                                 ).create_infer_request()
    for index, buffer in enumerate(given):
        request.set_input_tensor(index, openvino.Tensor(buffer, shared_memory=True))
    for index, buffer in enumerate(taken):
        request.set_output_tensor(index, openvino.Tensor(buffer, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def ncnn_call(segment: Segment, options: EngineOptions, given: Buffers, taken: Buffers) -> Run:
    """Return an extraction on a net that our backend has loaded."""
    made: Any = ENGINES['ncnn'].make().compile(segment, options)
    net, model, ncnn = made._net, made._model, made._ncnn
    values, lent = ncnn.Mat(given[0][0]), model.lent[0]

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(model.inputs[0], values if lent else values.clone())
        return [extractor.extract(blob) for blob in model.outputs]
    return run


CALLS: Mapping[str, Callable[[Segment, EngineOptions, Buffers, Buffers], Run]] = {
    'onnxruntime': onnxruntime_call, 'openvino': openvino_call, 'ncnn': ncnn_call}


def pairs(engine: str, count: int) -> Sequence[Tuple[float, float]]:
    """Return (bare, ours) seconds, interleaved."""
    bundle = open_bundle('campus7')
    segments = materialise(bundle, default_cache_dir())
    leanest = min(bundle.candidates((1,), ('fast',)), key=lambda c: bundle.macs(c.variant_id))
    candidate: Candidate = replace(leanest, engine=EngineOptions(backend=engine))
    pool = Pool(make_backend(AUTO), segments, turns=Turns())
    executable = pool.prepare(candidate)
    given, taken = make_buffers(executable.inputs), make_buffers(executable.outputs)
    segment = segments[candidate.placement.segments[0].segment_id]
    bare = CALLS[engine](segment, candidate.engine, given, make_buffers(executable.outputs))
    gc.disable()
    for _ in range(20):
        bare()
        executable.run(given, taken)
    return timing.interleave(timing.timed(bare),
                             timing.timed(lambda: executable.run(given, taken)), count)


if __name__ == '__main__':
    asked = json.loads(sys.argv[1])
    print(json.dumps({'pairs': pairs(asked['engine'], asked['pairs'])}))
