# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A graph in whole numbers of eight bits, as pairs of QuantizeLinear and DequantizeLinear. Offline.

Weights get seven bits of their eight, a scale per channel; activations get eight. On processors
without instructions for dot products of bytes, engines add two products in 16 bits first: with
eight bits of weight these sums overflow, and networks answer wrongly there without a word. Seven
bits never do, so that what is measured here holds on every robot. How weights are rounded is
`graph.rounding`'s concern; what that shifts on the mean goes into the biases (Nagel et al. 2019,
section 4.2). Outputs of a graph stay as they are computed.
"""
from __future__ import annotations

import logging
from typing import Container, Dict, List, Mapping, Optional, Set

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.graph.ranges import Observed, Range
from crowdhmt_ros.graph.rounding import grid

LEAST_OPSET = 13
"""Scales per channel came with it."""
WEIGHTED = ('Conv', 'Gemm', 'MatMul')
UNITS = (*WEIGHTED, 'Add', 'GlobalAveragePool', 'AveragePool', 'Concat')
"""Operators that may be left out one by one."""
CARRIERS = ('Relu', 'Clip', 'MaxPool', 'Flatten', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze')
"""Operators that hand on what they get: whole numbers where their input is so."""
Arrays = Dict[str, NDArray[np.generic]]
_LOGGERS = ('', 'onnxruntime.quantization')


def units(model: onnx.ModelProto) -> List[str]:
    """Return the operators that can be quantised, each named by its first output, in order."""
    constant = {t.name for t in model.graph.initializer}
    return [node.output[0] for node in model.graph.node
            if node.op_type in UNITS and _flows(node, constant)]


def _flows(node: onnx.NodeProto, constant: Container[str]) -> bool:
    """Tell whether it has a weight where it needs one, and only tensors where it needs none."""
    if node.op_type in WEIGHTED:
        return len(node.input) > 1 and node.input[1] in constant
    return not any(name in constant for name in node.input)


def quantised(model: onnx.ModelProto, observed: Mapping[str, Observed], *, rule: str = 'extremes',
              exclude: Container[str] = (),
              weights: Optional[Mapping[str, NDArray[np.int8]]] = None) -> onnx.ModelProto:
    """
    Return a graph with QuantizeLinear and DequantizeLinear around what shall be whole numbers.

    :param model: it is not changed
    :param observed: of its tensors, or of the graph's that it is a part of
    :param rule: by which ranges are chosen, see `graph.ranges`
    :param exclude: of `units`, what stays in fp32
    :param weights: first output of an operator -> its weights in whole numbers, see
        `graph.rounding`; others are rounded to the nearest
    :raises ExportError: the graph is too old, or a tensor was not observed
    """
    _check(model)
    named = _named(model)
    chosen = {u for u in units(named) if u not in exclude}
    left = [n.name for n in named.graph.node
            if n.op_type in UNITS and n.output[0] not in chosen]
    tensors = _used(named, chosen)
    missing = sorted(t for t in tensors if t not in observed)
    if missing:
        raise ExportError('tensor %s was not seen in the calibration' % missing[0])
    if not chosen:
        return named
    sources = _sources(named)
    made = _pairs(named, {t: observed[t].range_by(rule) for t in observed}, left)
    _put_weights(made, model, sources, weights or {})
    _correct_biases(made, model, sources, observed)
    _bare_outputs(made)
    _sort(made)
    return made


def _check(model: onnx.ModelProto) -> None:
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    if opset < LEAST_OPSET:
        raise ExportError('int8 needs operator set %d or newer, the graph has %d: export it again'
                          % (LEAST_OPSET, opset))


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with types of all tensors, whose operators bear distinct names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {v.name for v in (*copy.graph.value_info, *copy.graph.input, *copy.graph.output)}
    constant = {t.name for t in copy.graph.initializer}
    copy.graph.value_info.extend(v for v in inferred(model).value_info
                                 if v.name not in known and v.name not in constant)
    taken: Set[str] = set()
    for number, node in enumerate(copy.graph.node):
        if not node.name or node.name in taken:
            node.name = '%s_%d' % (node.op_type, number)
        taken.add(node.name)
    return copy


def _sources(named: onnx.ModelProto) -> Dict[str, onnx.NodeProto]:
    """Return the operators by their names, as they are before pairs rename what they read."""
    found = {}
    for node in named.graph.node:
        found[node.name] = onnx.NodeProto()
        found[node.name].CopyFrom(node)
    return found


def _used(model: onnx.ModelProto, chosen: Container[str]) -> Set[str]:
    constant = {t.name for t in model.graph.initializer}
    return {name for node in model.graph.node if node.output[0] in chosen
            for name in (*node.input, *node.output) if name and name not in constant}


def _pairs(model: onnx.ModelProto, ranges: Mapping[str, Range], left: List[str]
           ) -> onnx.ModelProto:
    data = TensorsData(CalibrationMethod.MinMax, {
        name: TensorData(lowest=np.float32(low), highest=np.float32(max(high, low + 1e-6)))
        for name, (low, high) in ranges.items()})
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        made: onnx.ModelProto = QDQQuantizer(
            model, True, True, QuantType.QInt8, QuantType.QUInt8, data, [], left,
            [*UNITS, *CARRIERS], {}).quantize_model()
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    del made.graph.value_info[:]
    return made


def _put_weights(made: onnx.ModelProto, model: onnx.ModelProto,
                 sources: Mapping[str, onnx.NodeProto],
                 weights: Mapping[str, NDArray[np.int8]]) -> None:
    """Replace whole numbers by others on the same grid."""
    values = {t.name: t for t in made.graph.initializer}
    floats = {t.name: t for t in model.graph.initializer}
    makers = {n.output[0]: n for n in made.graph.node if n.op_type == 'DequantizeLinear'}
    for node in made.graph.node:
        source = sources.get(node.name)
        weight = makers.get(node.input[1]) if len(node.input) > 1 else None
        if (source is None or weight is None or source.output[0] not in weights
                or weight.input[0] not in values):
            continue
        exact = onnx.numpy_helper.to_array(floats[source.input[1]])
        axis = next((a.i for a in weight.attribute if a.name == 'axis'), 0)
        scale = onnx.numpy_helper.to_array(values[weight.input[1]])
        rows = np.moveaxis(exact, axis, 0).reshape(exact.shape[axis], -1)
        if scale.shape == (len(rows),) and np.allclose(scale, grid(rows)[:, 0], rtol=1e-4):
            values[weight.input[0]].CopyFrom(onnx.numpy_helper.from_array(
                weights[source.output[0]], weight.input[0]))


def _correct_biases(made: onnx.ModelProto, model: onnx.ModelProto,
                    sources: Mapping[str, onnx.NodeProto],
                    observed: Mapping[str, Observed]) -> None:
    """Add to each bias what the rounded weights take from the mean output."""
    values = {t.name: t for t in made.graph.initializer}
    floats = {t.name: t for t in model.graph.initializer}
    makers = {n.output[0]: n for n in made.graph.node if n.op_type == 'DequantizeLinear'}
    for node in made.graph.node:
        source = sources.get(node.name)
        if node.op_type not in ('Conv', 'Gemm') or source is None or len(node.input) < 3:
            continue
        weight, bias = (makers.get(name) for name in node.input[1:3])
        seen = observed.get(source.input[0])
        if weight is None or bias is None or seen is None or seen.means is None or (
                weight.input[0] not in values or bias.input[0] not in values):
            continue
        shift = _shift(source, floats, values, weight, seen.means)
        if shift is not None:
            scale = onnx.numpy_helper.to_array(values[bias.input[1]])
            old = onnx.numpy_helper.to_array(values[bias.input[0]])
            new = old + np.round(shift / scale).astype(np.int64)
            values[bias.input[0]].CopyFrom(onnx.numpy_helper.from_array(
                np.clip(new, -2**31, 2**31 - 1).astype(np.int32), bias.input[0]))


def _shift(source: onnx.NodeProto, floats: Mapping[str, onnx.TensorProto],
           values: Mapping[str, onnx.TensorProto], weight: onnx.NodeProto,
           means: NDArray[np.float64]) -> Optional[NDArray[np.float64]]:
    """Return (exact - rounded weights) times the mean input, per output channel."""
    exact = onnx.numpy_helper.to_array(floats[source.input[1]]).astype(np.float64)
    whole = onnx.numpy_helper.to_array(values[weight.input[0]]).astype(np.float64)
    scale = onnx.numpy_helper.to_array(values[weight.input[1]]).astype(np.float64)
    options = {a.name: a for a in source.attribute}
    axis = next((a.i for a in weight.attribute if a.name == 'axis'), 0)
    shape = [1] * exact.ndim
    shape[axis] = -1
    gap = exact - whole * (scale.reshape(shape) if scale.ndim else scale)
    if source.op_type == 'Gemm':
        if 'transB' not in options or not options['transB'].i:
            gap = gap.T
        return gap @ means if gap.shape[1] == len(means) and not (
            'alpha' in options and options['alpha'].f != 1.0) else None
    groups = options['group'].i if 'group' in options else 1
    per_input = gap.reshape(*gap.shape[:2], -1).sum(2)
    parts = np.repeat(means.reshape(groups, -1), gap.shape[0] // groups, axis=0)
    return (per_input * parts).sum(1) if parts.shape == per_input.shape else None


def _bare_outputs(made: onnx.ModelProto) -> None:
    """Take the pair off each output that an operator computes, where nothing else reads it."""
    for output in made.graph.output:
        makers = {n.output[0]: n for n in made.graph.node}
        last = makers.get(output.name)
        first = makers.get(last.input[0]) if last is not None else None
        if (last is None or first is None or last.op_type != 'DequantizeLinear'
                or first.op_type != 'QuantizeLinear' or first.input[0] not in makers):
            continue
        if any(first.output[0] in n.input and n is not last for n in made.graph.node):
            continue
        computed = first.input[0]
        for node in made.graph.node:
            for i, name in enumerate(node.output):
                if name == computed:
                    node.output[i] = output.name
            for i, name in enumerate(node.input):
                if name == computed:
                    node.input[i] = output.name
        made.graph.node.remove(last)
        made.graph.node.remove(first)
    used = {name for node in made.graph.node for name in node.input}
    spare = [t for t in made.graph.initializer if t.name not in used]
    for tensor in spare:
        made.graph.initializer.remove(tensor)


def _sort(made: onnx.ModelProto) -> None:
    """Put every operator behind those that it reads; pairs were added at the end."""
    left = list(made.graph.node)
    made_by_left = {name for node in left for name in node.output}
    ordered: List[onnx.NodeProto] = []
    while left:
        ready = [n for n in left if not any(i in made_by_left for i in n.input)]
        if not ready:
            raise ExportError('the quantised graph runs in a circle; report this as a defect')
        ordered += ready
        made_by_left -= {name for node in ready for name in node.output}
        left = [n for n in left if any(o in made_by_left for o in n.output)]
    copies = []
    for node in ordered:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del made.graph.node[:]
    made.graph.node.extend(copies)
