# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Weights rounded so that outputs stay, not each weight by itself. Offline.

What rounding one weight does to the output is made up for by those that are rounded behind it, as
the second moments of the layer's inputs say (Frantar et al. 2023, "GPTQ"). Per output channel, on
the grid of its own scale; where that is no better than the nearest, the nearest is taken.
"""
from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crowdhmt_ros.graph.compare import FATAL_ONLY
from crowdhmt_ros.graph.inference import inferred
from crowdhmt_ros.graph.ranges import Given

LEVELS = 64
"""Whole numbers on each side of 0: seven bits, see `graph.quantise`."""
MOST_INPUTS = 2304
"""Of one output; with more, the nearest is taken."""
PLACES = 48
"""Looked at in each picture."""
DAMPING = 0.01
BLOCK = 128
Matrix = NDArray[np.float64]


def rounded_weights(model: onnx.ModelProto, inputs: Sequence[Given]
                    ) -> Dict[str, NDArray[np.int8]]:
    """
    Round the weights of convolutions and of matrix products with weights on the right.

    :param model: with fixed shapes
    :param inputs: of calibration
    :returns: first output of the operator -> whole numbers, as its weights are shaped
    """
    values = {t.name: t for t in model.graph.initializer}
    layers = [n for n in model.graph.node if _can(n, values)]
    moments = _moments(model, layers, inputs, values)
    found: Dict[str, NDArray[np.int8]] = {}
    for node in layers:
        weight = onnx.numpy_helper.to_array(values[node.input[1]])
        rows, turned = _rows(node, weight)
        whole = _rounded(rows, moments[node.output[0]])
        back = whole.T if turned else whole
        found[node.output[0]] = np.ascontiguousarray(back.reshape(weight.shape))
    return found


def grid(rows: NDArray[Any]) -> Matrix:
    """Return the scale of each row, (rows, 1)."""
    largest: Matrix = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    return np.where(largest > 0, largest / LEVELS, 1.0)


def _can(node: onnx.NodeProto, values: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ('Conv', 'Gemm') or node.input[1] not in values:
        return False
    options = _options(node)
    dims = values[node.input[1]].dims
    if node.op_type == 'Gemm':
        return not options.get('transA') and options.get('alpha', 1.0) == 1.0 and (
            dims[1 if options.get('transB') else 0] <= MOST_INPUTS)
    return (len(dims) == 4 and options.get('group', 1) == 1 and 'auto_pad' not in options
            and int(np.prod(dims[1:])) <= MOST_INPUTS
            and set(options.get('dilations', (1,))) == {1})


def _options(node: onnx.NodeProto) -> Dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _rows(node: onnx.NodeProto, weight: NDArray[Any]) -> Tuple[NDArray[Any], bool]:
    """Return the weights of each output as a row, and whether that turned them."""
    if node.op_type == 'Gemm' and not _options(node).get('transB'):
        return weight.T, True
    return weight.reshape(weight.shape[0], -1), False


def _moments(model: onnx.ModelProto, layers: Sequence[onnx.NodeProto], inputs: Sequence[Given],
             values: Mapping[str, onnx.TensorProto]) -> Dict[str, Matrix]:
    """Return the sum over places of input times input, by the operator's first output."""
    session, names = _tapped(model, sorted({n.input[0] for n in layers}))
    rng = np.random.default_rng(0)
    found: Dict[str, Matrix] = {}
    for given in inputs:
        seen = dict(given)
        seen.update(zip(names, session.run(names, {
            i.name: given[i.name] for i in session.get_inputs()})))
        for node in layers:
            patches = _patches(node, seen[node.input[0]], values[node.input[1]].dims, rng)
            product = patches.T @ patches
            known = found.get(node.output[0])
            found[node.output[0]] = product if known is None else known + product
    return found


def _tapped(model: onnx.ModelProto, wanted: Sequence[str]
            ) -> Tuple[onnxruntime.InferenceSession, List[str]]:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    given = {v.name for v in (*model.graph.input, *model.graph.output)}
    tapped.graph.output.extend(v for v in inferred(model).value_info
                               if v.name in wanted and v.name not in given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options,
                                           providers=['CPUExecutionProvider'])
    return session, [o.name for o in session.get_outputs()]


def _patches(node: onnx.NodeProto, value: NDArray[Any], dims: Sequence[int],
             rng: np.random.Generator) -> Matrix:
    """Return what single outputs are computed from, (places, inputs)."""
    if node.op_type == 'Gemm':
        return value.reshape(-1, value.shape[-1]).astype(np.float64)
    options = _options(node)
    pads = options.get('pads', [0, 0, 0, 0])
    strides = options.get('strides', [1, 1])
    padded = np.pad(value, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    views = sliding_window_view(padded, (dims[2], dims[3]), axis=(2, 3))
    views = views[:, :, ::strides[0], ::strides[1]]
    count = views.shape[2] * views.shape[3]
    places = (np.arange(count) if count <= PLACES
              else rng.choice(count, PLACES, replace=False))
    rows, columns = np.divmod(places, views.shape[3])
    taken = views[0, :, rows, columns]  # (places, channels, height, width)
    return taken.reshape(len(places), -1).astype(np.float64)


def _rounded(rows: NDArray[Any], moments: Matrix) -> NDArray[np.int8]:
    exact = rows.astype(np.float64)
    scale = grid(rows)
    nearest = np.clip(np.round(exact / scale), -LEVELS, LEVELS)
    factor = _factor(moments)
    if factor is None:
        return nearest.astype(np.int8)
    order, upper = factor
    made = np.empty_like(nearest)
    made[:, order] = _in_order(exact[:, order], scale, upper)
    near, other = (_error(exact - whole * scale, moments) for whole in (nearest, made))
    return np.where((other < near)[:, None], made, nearest).astype(np.int8)


def _error(gap: Matrix, moments: Matrix) -> Matrix:
    found: Matrix = np.einsum('ij,ij->i', gap @ moments, gap)
    return found


def _factor(moments: Matrix) -> Optional[Tuple[NDArray[np.int64], Matrix]]:
    """Return the order, busiest inputs first, and the factor of the inverse in that order."""
    busy = np.diag(moments)
    order = np.argsort(-busy, kind='stable')
    damped = moments[np.ix_(order, order)].copy()
    damped[np.diag_indices_from(damped)] += max(DAMPING * float(busy.mean()), 1e-12)
    try:
        upper: Matrix = np.linalg.cholesky(np.linalg.inv(damped)).T
    except np.linalg.LinAlgError:
        return None
    return order, upper


def _in_order(exact: Matrix, scale: Matrix, upper: Matrix) -> Matrix:
    """Round column by column; each hands its error on to those behind it."""
    left, made = exact.copy(), np.empty_like(exact)
    for start in range(0, exact.shape[1], BLOCK):
        stop = min(start + BLOCK, exact.shape[1])
        errors = np.empty((exact.shape[0], stop - start))
        for j in range(start, stop):
            made[:, j] = np.clip(np.round(left[:, j] / scale[:, 0]), -LEVELS, LEVELS)
            errors[:, j - start] = (left[:, j] - made[:, j] * scale[:, 0]) / upper[j, j]
            left[:, j + 1:stop] -= np.outer(errors[:, j - start], upper[j, j + 1:stop])
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return made
