# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Times of graphs beside their fused forms, in a process of its own.

    python -m benchmarks._engine_fusion_child '{"folder": ..., "names": [...], "span_s": ...}'

prints one JSON object: name -> what was measured. One thread runs, and its own processor time
counts: who else is on the machine does not lengthen it by taking the core away.
"""
from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime

from benchmarks import timing
from crowdhmt_ros.engine.backend import Executable, make_buffers
from crowdhmt_ros.engine.backends import BACKENDS
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.graph.compare import Arrays, largest_difference, random_inputs, run_model
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

UNFUSING = ('torch', 'ncnn')
"""Engines of the robot's that compute the operators as they find them."""
LEAST_PAIRS, MOST_PAIRS, WARM = 6, 400, 2
Rounds = List[List[float]]


def session(path: Path, *, optimise: bool) -> onnxruntime.InferenceSession:
    """Return a session on one thread, with all of the engine's optimisations or none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def paired(first: Path, second: Path, given: Arrays, span_s: float, *, optimise: bool) -> Rounds:
    """Return the times of two models and the first again on the same input, interleaved."""
    return interleaved([partial(session(p, optimise=optimise).run, None, given)
                        for p in (first, second, first)], span_s)


def interleaved(runs: Sequence[Callable[[], object]], span_s: float) -> Rounds:
    """
    Return the processor times of some functions, round by round, in changing order.

    :param span_s: how long to go on, processor time; a few rounds are run in any case
    """
    times: Rounds = []
    begun = time.thread_time()
    for index in range(-WARM, MOST_PAIRS):
        if index >= LEAST_PAIRS and time.thread_time() - begun > span_s:
            break
        spent = [0.0] * len(runs)
        for place in timing.order(range(len(runs)), index + WARM):
            begin = time.thread_time()
            runs[place]()
            spent[place] = time.thread_time() - begin
        if index >= 0:
            times.append(spent)
    return times


def executable(engine: str, path: Path) -> Optional[Executable]:
    """Compile a model for an engine of the robot's; None where it is absent or refuses."""
    graph = onnx.load(str(path), load_external_data=False).graph
    segment = Segment('%s-%s' % (path.parent.name, path.stem), '', str(path),
                      _specs(graph.input), _specs(graph.output))
    options = EngineOptions(backend=engine)
    try:
        backend = BACKENDS[engine]()
        return None if backend.refusal(segment, options) else backend.compile(segment, options)
    except (BackendError, KeyError):
        return None


def _specs(values: Sequence[onnx.ValueInfoProto]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(
        v.name, str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(
            v.type.tensor_type.elem_type))),
        tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values)


def paired_on(engine: str, folder: Path, given: Arrays, span_s: float) -> Optional[Rounds]:
    """Return times of the fused and of the cleaned graph on an engine; None where it has none."""
    ready = [executable(engine, folder / name) for name in ('fused.onnx', 'clean.onnx')]
    runs = [partial(e.run, [given[i.name] for i in e.inputs], make_buffers(e.outputs))
            for e in ready if e is not None]
    return interleaved(runs, span_s) if len(runs) == len(ready) else None


def differences(folder: Path, given: Arrays) -> Dict[str, float]:
    """
    Return by engine how far the outputs of the fused graph are from the export's.

    ONNX Runtime without optimisation runs the export; the others stand beside it, so that
    what they round otherwise is in their figures.
    """
    first, fused = (onnx.load(str(folder / name)) for name in ('export.onnx', 'fused.onnx'))
    wanted = run_model(first, given, optimise=False)
    found = {'onnxruntime off': largest_difference(wanted, run_model(fused, given,
                                                                     optimise=False)),
             'onnxruntime on': largest_difference(wanted, run_model(fused, given))}
    for engine in (*UNFUSING, 'openvino'):
        ran = executable(engine, folder / 'fused.onnx')
        if ran is not None:
            outputs = make_buffers(ran.outputs)
            ran.run([given[i.name] for i in ran.inputs], outputs)
            found[engine] = largest_difference(wanted, dict(zip(
                (o.name for o in ran.outputs), outputs)))
    return found


def measure(folder: Path, span_s: float, *, more: bool) -> Dict[str, Any]:
    """
    Measure one network.

    :param more: other engines and differences, too
    """
    given = random_inputs(onnx.load(str(folder / 'export.onnx')))
    export, fused = folder / 'export.onnx', folder / 'fused.onnx'
    found: Dict[str, Any] = {
        'gain': paired(fused, export, given, span_s, optimise=False),
        'harm': paired(export, fused, given, span_s, optimise=True)}
    without = folder / 'without.onnx'
    if without.exists():
        found['family'] = paired(fused, without, given, span_s, optimise=False)
    if more:
        found['differences'] = differences(folder, given)
        others = {engine: paired_on(engine, folder, given, span_s) for engine in UNFUSING}
        found['others'] = {engine: pairs for engine, pairs in others.items() if pairs}
    return found


if __name__ == '__main__':
    request = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as cache:
        print(json.dumps({name: measure(Path(request['folder'], place), request['span_s'],
                                        more=request['more'])
                          for name, place in request['names'].items()}))
