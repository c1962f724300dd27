# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What two graphs that should be equal give on the same random input. Offline."""
from __future__ import annotations

from typing import Dict, Mapping, Tuple, Type

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from crowdhmt_ros.errors import ExportError

FATAL_ONLY = 4
Arrays = Dict[str, NDArray[np.generic]]


def _engine_errors() -> Tuple[Type[Exception], ...]:
    """Return what ONNX Runtime raises: its own classes differ between its releases."""
    own = [value for value in vars(_state).values()
           if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


_ENGINE_ERRORS = _engine_errors()


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> Arrays:
    """
    Return an input of the graph's types and shapes: normal numbers, or 0 and 1 where whole.

    :param model: with fixed input shapes
    """
    rng = np.random.default_rng(seed)
    initialisers = {t.name for t in model.graph.initializer}
    given: Arrays = {}
    for value in model.graph.input:
        if value.name in initialisers:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        given[value.name] = np.asarray(
            rng.standard_normal(shape) if dtype.kind == 'f' else rng.integers(0, 2, shape)
        ).astype(dtype)
    return given


def largest_difference(wanted: Mapping[str, NDArray[np.generic]],
                       found: Mapping[str, NDArray[np.generic]]) -> float:
    """
    Return the largest difference, per output on the scale of its largest value, or of 1.

    Equal infinities and values that are no numbers on both sides are equal.

    :param wanted: name -> values
    :param found: the same names, perhaps more
    :returns: infinity where shapes or types disagree or one side only is finite
    """
    worst = 0.0
    for name, value in wanted.items():
        other = found[name]
        if value.shape != other.shape or value.dtype != other.dtype:
            return float('inf')
        one, two = value.astype(np.float64), other.astype(np.float64)
        apart = ~((one == two) | (np.isnan(one) & np.isnan(two)))
        if not apart.any():
            continue
        finite = np.abs(one[np.isfinite(one)])
        scale = max(1.0, float(finite.max())) if finite.size else 1.0
        gap = float(np.max(np.abs(one[apart] - two[apart])))
        worst = max(worst, gap / scale if np.isfinite(gap) else float('inf'))
    return worst


def run_model(model: onnx.ModelProto, given: Mapping[str, NDArray[np.generic]],
              optimise: bool = True) -> Arrays:
    """
    Run a model with ONNX Runtime, one thread.

    :param given: at least the inputs of the model
    :param optimise: False computes the operators as they stand
    :returns: output name -> values
    :raises ExportError: ONNX Runtime refuses the model
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider'])
        names = [v.name for v in session.get_outputs()]
        taken = {v.name: given[v.name] for v in session.get_inputs()}
        return dict(zip(names, session.run(names, taken)))
    except _ENGINE_ERRORS as error:
        raise ExportError('ONNX Runtime cannot run the graph: %s'
                          % ' '.join(str(error).split())[:300]) from error
