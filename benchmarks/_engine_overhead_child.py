# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rounds of the bare call of an engine, twice, and of ours, of one segment; printed as JSON."""
from __future__ import annotations

import gc
import json
import sys
from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from benchmarks import timing
from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import AUTO, ENGINES, make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.turns import Turns
from crowdhmt_ros.types import Candidate, EngineOptions, Segment

BARE, AGAIN, OURS = 'bare', 'bare again', 'ours'
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


def rounds(engine: str, count: int) -> Sequence[Mapping[str, float]]:
    """Return seconds, interleaved; ours asks the pool for what is resident, and runs it."""
    bundle = open_bundle('campus7')
    segments = materialise(bundle, default_cache_dir())
    leanest = min(bundle.candidates((1,), ('fast',)), key=lambda c: bundle.macs(c.variant_id))
    candidate: Candidate = replace(leanest, engine=EngineOptions(backend=engine))
    pool = Pool(make_backend(AUTO), segments, turns=Turns())
    executable = pool.prepare(candidate)
    given, taken = make_buffers(executable.inputs), make_buffers(executable.outputs)
    segment = segments[candidate.placement.segments[0].segment_id]
    bare = CALLS[engine](segment, candidate.engine, given, make_buffers(executable.outputs))

    def ours() -> None:
        found = pool.get(candidate)
        assert found is not None
        found.run(given, taken)
    gc.disable()
    for _ in range(20):
        bare()
        ours()
    return timing.in_rounds({BARE: timing.timed(bare), AGAIN: timing.timed(bare),
                             OURS: timing.timed(ours)}, count)


if __name__ == '__main__':
    asked = json.loads(sys.argv[1])
    print(json.dumps({'rounds': rounds(asked['engine'], asked['rounds'])}))
