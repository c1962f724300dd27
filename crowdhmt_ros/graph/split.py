# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Split a graph at a set of tensors into a head and a tail that together equal it. Offline.

A cut is a set of tensors: within a residual block one tensor alone does not part the graph.
Initialisers keep their names, so what is known of the whole graph's serves both parts.
"""
from __future__ import annotations

from typing import Dict, List, Sequence, Set, Tuple

import numpy as np
import onnx
import onnx.utils
from numpy.typing import NDArray

from crowdhmt_ros.errors import ExportError

TOLERANCE = 1e-6
"""Largest difference of a score between the whole graph and its two parts."""


def last_output(model: onnx.ModelProto, prefix: str) -> str:
    """
    Return the first output of the last node whose name starts with a prefix.

    :param model: nodes in the order in which they run
    :param prefix: for example '/stages.1.'
    :raises ExportError: no node is so named
    """
    found: List[str] = [node.output[0] for node in model.graph.node
                        if node.name.startswith(prefix)]
    if not found:
        raise ExportError('the graph has no node named %s...' % prefix)
    return found[-1]


def split(model: onnx.ModelProto, tensors: Sequence[str]
          ) -> Tuple[onnx.ModelProto, onnx.ModelProto]:
    """
    Split a graph at a set of tensors.

    :param model: whole graph with fixed shapes; it is not changed
    :param tensors: what shall cross from the head to the tail, in this order
    :returns: head (the graph's inputs to `tensors`), tail (`tensors` to the graph's outputs)
    :raises ExportError: a tensor is not computed by the graph, or the tail needs more than them
    """
    _check_parts(model, tensors)
    inputs, outputs = ([v.name for v in side] for side in (model.graph.input, model.graph.output))
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    head = extractor.extract_model(inputs, list(tensors))
    tail = extractor.extract_model(list(tensors), outputs)
    for part in (head, tail):
        del part.graph.value_info[:]  # robots infer them; they would double the file
        onnx.checker.check_model(part, full_check=True)
    return head, tail


def _check_parts(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    makers = {name: node for node in model.graph.node for name in node.output}
    unknown = sorted(set(tensors) - set(makers))
    if unknown or not tensors or len(set(tensors)) != len(tensors):
        raise ExportError('cut at %s: name distinct tensors that the graph computes'
                          % (', '.join(unknown or tensors) or 'nothing'))
    given = {v.name for v in model.graph.input} - {t.name for t in model.graph.initializer}
    outputs = [v.name for v in model.graph.output]
    missed = sorted(_reached(makers, outputs, set(tensors)) & given)
    if missed:
        raise ExportError('cut at %s: behind it the graph still needs %s; add the tensors that '
                          'go around the cut' % (', '.join(tensors), ', '.join(missed)))


def _reached(makers: Dict[str, onnx.NodeProto], start: Sequence[str], stop: Set[str]) -> Set[str]:
    """Return every tensor that `start` rests on, looking no further than `stop`."""
    seen: Set[str] = set()
    waiting: List[str] = list(start)
    while waiting:
        name = waiting.pop()
        if name in seen or name in stop:
            continue
        seen.add(name)
        if name in makers:
            waiting.extend(makers[name].input)
    return seen


def check_split(model: onnx.ModelProto, head: onnx.ModelProto, tail: onnx.ModelProto, *,
                tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """
    Compare head and tail with the whole graph on random input, through ONNX Runtime.

    :returns: largest difference
    :raises ExportError: it is above `tolerance`
    """
    rng = np.random.default_rng(seed)
    given = {v.name: rng.standard_normal(
        [d.dim_value for d in v.type.tensor_type.shape.dim]).astype(np.float32)
        for v in model.graph.input}
    wanted = _run(model, given)
    found = _run(tail, _run(head, given))
    worst = max(float(np.max(np.abs(wanted[name] - found[name]))) for name in wanted)
    if not worst <= tolerance:
        raise ExportError('head and tail differ from the whole graph by %g' % worst)
    return worst


def _run(model: onnx.ModelProto, given: Dict[str, NDArray[np.float32]]
         ) -> Dict[str, NDArray[np.float32]]:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    names = [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(names, given)))
