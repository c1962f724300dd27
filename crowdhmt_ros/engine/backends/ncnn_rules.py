# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A segment's graph in the terms of ncnn, made on the robot when the segment is compiled.

One rule per ONNX operator. A rule is given the node, the constants and the shapes of what it
reads; it adds layers and says the shape of what it writes. What no rule covers is refused, never
approximated. Batch normalisation behind a convolution is folded into its weights.
"""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends.ncnn_layers import NcnnModel, Parameter
from crowdhmt_ros.engine.backends.ncnn_writer import NotForNcnnError, Shape, Writer, ints
from crowdhmt_ros.engine.onnx_file import GraphFile, Node

CONVOLUTIONS = ('Convolution', 'ConvolutionDepthWise')
_MOST = 3.4028234e38
Rule = Callable[[Writer, Node], None]


def _int(node: Node, name: str, default: int) -> int:
    return ints(node, name, (default,))[0]


def _float(node: Node, name: str, default: float) -> float:
    value: Any = node.attributes.get(name, default)
    return float(value)


def _window(node: Node, shape: Shape, kernel: Sequence[int]
            ) -> Tuple[Tuple[int, ...], Tuple[int, ...], Tuple[int, ...], Shape]:
    """Return strides, dilations, pads (top, left, bottom, right) and the output's extents."""
    if len(shape) != 4 or len(kernel) != 2:
        raise NotForNcnnError('%s has %d spatial axes, two are translated' % (
            node.label, len(shape) - 2))
    strides = ints(node, 'strides', (1, 1))
    dilations = ints(node, 'dilations', (1, 1))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel)]
    auto = str(node.attributes.get('auto_pad', 'NOTSET'))
    if auto in ('SAME_UPPER', 'SAME_LOWER'):
        totals = [max(0, (math.ceil(e / s) - 1) * s + r - e)
                  for e, s, r in zip(shape[2:], strides, reach)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = tuple(small + large if auto == 'SAME_UPPER' else large + small)
    else:
        pads = ints(node, 'pads', (0, 0, 0, 0)) if auto != 'VALID' else (0, 0, 0, 0)
    ceil = _int(node, 'ceil_mode', 0)
    extents = []
    for axis in range(2):
        room = shape[2 + axis] + pads[axis] + pads[axis + 2] - reach[axis]
        steps = -(-room // strides[axis]) if ceil else room // strides[axis]
        if ceil and steps * strides[axis] >= shape[2 + axis] + pads[axis]:
            steps -= 1  # the last window may not begin in the padding behind
        extents.append(steps + 1)
    if min(extents) < 1:
        raise NotForNcnnError('%s is larger than its input' % node.label)
    return strides, dilations, pads, tuple(extents)


def _convolution(writer: Writer, node: Node) -> None:
    shape, weight = writer.shape(node), writer.needed(node, 1)
    bias = writer.constant(node, 2)
    kernel = ints(node, 'kernel_shape', weight.shape[2:])
    strides, dilations, pads, extents = _window(node, shape, kernel)
    group = _int(node, 'group', 1)
    if weight.shape[1] * group != shape[1] or tuple(weight.shape[2:]) != kernel:
        raise NotForNcnnError('%s has weights %r for an input %r' % (
            node.label, weight.shape, shape))
    parameters: Dict[int, Parameter] = {
        0: weight.shape[0], 1: kernel[1], 11: kernel[0], 2: dilations[1], 12: dilations[0],
        3: strides[1], 13: strides[0], 4: pads[1], 15: pads[3], 14: pads[0], 16: pads[2],
        5: int(bias is not None), 6: weight.size}
    if group > 1:
        parameters[7] = group
    weights = [(weight, True)] + ([(bias, False)] if bias is not None else [])
    writer.add(CONVOLUTIONS[group > 1], node, (1, weight.shape[0], *extents), parameters, weights)


def _normalisation(writer: Writer, node: Node) -> None:
    scale, shift, mean, variance = (
        writer.needed(node, index).astype(np.float64) for index in range(1, 5))
    epsilon = _float(node, 'epsilon', 1e-5)
    shape = writer.shape(node)
    before = writer.producer(node.inputs[0])
    if before is None or before.kind not in CONVOLUTIONS or before.outputs != [
            writer.blob(node, node.inputs[0])]:
        writer.add('BatchNorm', node, shape, {0: shape[1], 1: epsilon}, [
            (scale, False), (mean, False), (variance, False), (shift, False)])
        return
    gain = scale / np.sqrt(variance + epsilon)
    weight = before.weights[0][0].astype(np.float64)
    bias = before.weights[1][0] if len(before.weights) > 1 else np.zeros(weight.shape[0])
    before.weights = [(weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), True),
                      ((bias - mean) * gain + shift, False)]
    before.parameters[5] = 1
    writer.alias(node)


def _gemm(writer: Writer, node: Node) -> None:
    weight, bias = writer.needed(node, 1), writer.constant(node, 2)
    if _int(node, 'transA', 0):
        raise NotForNcnnError('%s transposes its input' % node.label)
    weight = weight if _int(node, 'transB', 0) else weight.T
    alpha, beta = _float(node, 'alpha', 1.0), _float(node, 'beta', 1.0)
    if bias is not None:
        bias = np.broadcast_to(bias, (1, weight.shape[0]))[0] * np.float32(beta)
    _inner_product(writer, node, weight if alpha == 1.0 else weight * np.float32(alpha), bias)


def _matmul(writer: Writer, node: Node) -> None:
    _inner_product(writer, node, writer.needed(node, 1).T, None)


def _inner_product(writer: Writer, node: Node, weight: np.ndarray,
                   bias: Optional[np.ndarray]) -> None:
    shape = writer.shape(node)
    if len(shape) != 2 or weight.ndim != 2 or weight.shape[1] != shape[1]:
        raise NotForNcnnError('%s multiplies %r by %r, a vector by a matrix is translated' % (
            node.label, shape, weight.T.shape))
    weights = [(weight, True)] + ([(bias, False)] if bias is not None else [])
    writer.add('InnerProduct', node, (1, weight.shape[0]), {
        0: weight.shape[0], 1: int(bias is not None), 2: weight.size}, weights)


def _pool(kind: int) -> Rule:
    def rule(writer: Writer, node: Node) -> None:
        shape, kernel = writer.shape(node), ints(node, 'kernel_shape')
        strides, dilations, pads, extents = _window(node, shape, kernel)
        ceil = _int(node, 'ceil_mode', 0)
        if dilations != (1, 1) or _int(node, 'storage_order', 0) or (ceil and kind):
            raise NotForNcnnError('%s has dilations, column order, or averages that are rounded up'
                             % node.label)
        if max(pads[0], pads[2]) >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
            raise NotForNcnnError('%s pads by a whole window' % node.label)
        writer.add('Pooling', node, (*shape[:2], *extents), {
            0: kind, 1: kernel[1], 11: kernel[0], 2: strides[1], 12: strides[0], 3: pads[1],
            14: pads[3], 13: pads[0], 15: pads[2], 5: 0 if ceil else 1,
            6: _int(node, 'count_include_pad', 0)})
    return rule


def _global_pool(kind: int) -> Rule:
    def rule(writer: Writer, node: Node) -> None:
        _pool_all(writer, node, kind, keep=True)
    return rule


def _pool_all(writer: Writer, node: Node, kind: int, *, keep: bool) -> None:
    """Pool to a vector, as ncnn does; axes of extent 1 are made again where they are kept."""
    shape = writer.shape(node)
    if len(shape) != 4:
        raise NotForNcnnError('%s has %d spatial axes, two are translated' % (
            node.label, len(shape) - 2))
    layer = writer.add('Pooling', node, (1, shape[1], 1, 1) if keep else (1, shape[1]),
                       {0: kind, 4: 1})
    if keep:
        output = layer.outputs[0]
        layer.outputs = [output + 'v']
        writer.insert('Reshape', output, {0: 1, 1: 1, 2: shape[1]}, source=output + 'v')


def _mean(writer: Writer, node: Node) -> None:
    shape, axes = writer.shape(node), writer.setting(node, 'axes', 1)
    if len(shape) != 4 or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
        raise NotForNcnnError('%s reduces other axes than both spatial ones' % node.label)
    _pool_all(writer, node, 1, keep=bool(_int(node, 'keepdims', 1)))


def _elementwise(kind: str, **attributes: Tuple[int, float]) -> Rule:
    """Return the rule of a layer whose parameters are attributes: name=(number, default)."""
    def rule(writer: Writer, node: Node) -> None:
        writer.add(kind, node, writer.shape(node), {
            number: _float(node, name, default)
            for name, (number, default) in attributes.items()})
    return rule


def _hard_swish(writer: Writer, node: Node) -> None:
    writer.add('HardSwish', node, writer.shape(node), {0: 1.0 / 6.0, 1: 0.5})


def _clip(writer: Writer, node: Node) -> None:
    limits = []
    for index, (name, default) in enumerate((('min', -_MOST), ('max', _MOST)), 1):
        found = writer.constant(node, index)
        limits.append(_float(node, name, default) if found is None
                      else float(found.reshape(())))
    writer.add('Clip', node, writer.shape(node), {0: limits[0], 1: limits[1]})


def _unary(kind: int) -> Rule:
    def rule(writer: Writer, node: Node) -> None:
        writer.add('UnaryOp', node, writer.shape(node), {0: kind})
    return rule


def _binary(kind: int, swapped: Optional[int] = None) -> Rule:
    """
    Return the rule of an operator on two inputs.

    :param swapped: ncnn's number of the operator with its inputs swapped, None for the same one
    """
    def rule(writer: Writer, node: Node) -> None:
        if len(node.inputs) != 2:
            raise NotForNcnnError('%s has %d inputs, two are translated' % (
                node.label, len(node.inputs)))
        fixed = [index for index in (0, 1) if node.inputs[index] in writer.constants]
        if not fixed:
            shapes = writer.shape(node), writer.shape(node, 1)
            if len(shapes[0]) != len(shapes[1]):
                raise NotForNcnnError('%s broadcasts %r and %r' % (node.label, *shapes))
            writer.add('BinaryOp', node, np.broadcast_shapes(*shapes), {0: kind},
                       inputs=node.inputs)
            return
        value = writer.needed(node, fixed[0])
        shape = writer.shape(node, 1 - fixed[0])
        if value.dtype != np.float32 or np.broadcast_shapes(shape, value.shape) != shape:
            raise NotForNcnnError('%s takes a %s constant %r to %r' % (
                node.label, value.dtype, value.shape, shape))
        if value.size == 1:
            number = kind if fixed[0] == 1 or swapped is None else swapped
            writer.add('BinaryOp', node, shape, {0: number, 1: 1, 2: float(value.reshape(()))},
                       inputs=[node.inputs[1 - fixed[0]]])
            return
        _with_constant(writer, node, fixed[0], value, kind)
    return rule


def _with_constant(writer: Writer, node: Node, index: int, value: np.ndarray,
                   kind: int) -> None:
    name, shape = node.inputs[index], writer.shape(node, 1 - index)
    if name not in writer.shapes:
        extents = (1,) * (len(shape) - value.ndim) + value.shape
        blob = writer.new_blob(name, extents)
        numbers = {1: (0,), 2: (1, 0), 3: (2, 1, 0)}[len(shape) - 1]
        writer.insert('MemoryData', blob, dict(zip(numbers, extents[1:])), [(value, False)])
    writer.add('BinaryOp', node, shape, {0: kind}, inputs=node.inputs)


def _softmax(writer: Writer, node: Node) -> None:
    shape = writer.shape(node)
    axis = _int(node, 'axis', -1 if writer.graph.opset >= 13 else 1) % len(shape)
    if axis == 0 or (writer.graph.opset < 13 and axis != len(shape) - 1):
        raise NotForNcnnError('%s normalises over several axes or the batch' % node.label)
    writer.add('Softmax', node, shape, {0: axis - 1, 1: 1})


def _flatten(writer: Writer, node: Node) -> None:
    shape = writer.shape(node)
    if _int(node, 'axis', 1) % len(shape) != 1:
        raise NotForNcnnError('%s does not keep the batch apart' % node.label)
    writer.add('Flatten', node, (1, math.prod(shape)))


def _reshape(writer: Writer, node: Node) -> None:
    shape, wanted = writer.shape(node), [int(v) for v in writer.needed(node, 1).reshape(-1)]
    if _int(node, 'allowzero', 0) and 0 in wanted:
        raise NotForNcnnError('%s makes an empty tensor' % node.label)
    extents = [shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    if -1 in extents:
        extents[extents.index(-1)] = math.prod(shape) // max(1, -math.prod(extents))
    _to_shape(writer, node, tuple(extents))


def _squeeze(writer: Writer, node: Node) -> None:
    shape, axes = writer.shape(node), writer.setting(node, 'axes', 1)
    gone = {a % len(shape) for a in axes} if axes is not None else {
        a for a, extent in enumerate(shape) if extent == 1}
    _to_shape(writer, node, tuple(e for a, e in enumerate(shape) if a not in gone))


def _unsqueeze(writer: Writer, node: Node) -> None:
    shape, axes = writer.shape(node), writer.setting(node, 'axes', 1)
    rank = len(shape) + len(axes or ())
    new = {a % rank for a in axes or ()}
    left = iter(shape)
    _to_shape(writer, node, tuple(1 if a in new else next(left) for a in range(rank)))


def _to_shape(writer: Writer, node: Node, shape: Shape) -> None:
    numbers = {1: (0,), 2: (1, 0), 3: (2, 1, 0)}.get(len(shape) - 1, ())
    if math.prod(shape) != math.prod(writer.shape(node)):
        raise NotForNcnnError('%s gives %r another number of values' % (node.label, shape))
    writer.add('Reshape', node, shape, dict(zip(numbers, shape[1:])))


def _concat(writer: Writer, node: Node) -> None:
    shapes = [writer.shape(node, index) for index in range(len(node.inputs))]
    axis = _int(node, 'axis', 1) % len(shapes[0])
    if axis == 0:
        raise NotForNcnnError('%s joins batches' % node.label)
    extents = list(shapes[0])
    extents[axis] = sum(shape[axis] for shape in shapes)
    writer.add('Concat', node, tuple(extents), {0: axis - 1}, inputs=node.inputs)


def _split(writer: Writer, node: Node) -> None:
    shape, count = writer.shape(node), len(node.outputs)
    axis = _int(node, 'axis', 0) % len(shape)
    sizes = writer.setting(node, 'split', 1)
    if sizes is None:
        size = -(-shape[axis] // count)
        sizes = (*[size] * (count - 1), shape[axis] - size * (count - 1))
    if axis == 0 or sum(sizes) != shape[axis] or len(sizes) != count:
        raise NotForNcnnError('%s parts the batch or not all of its input' % node.label)
    writer.add_split(node, [(*shape[:axis], size, *shape[axis + 1:]) for size in sizes], axis)


def _slice(writer: Writer, node: Node) -> None:
    shape = writer.shape(node)
    starts, ends = writer.setting(node, 'starts', 1), writer.setting(node, 'ends', 2)
    axes, steps = writer.setting(node, 'axes', 3), writer.setting(node, 'steps', 4)
    if starts is None or ends is None:
        raise NotForNcnnError('%s has no bounds' % node.label)
    extents, bounds = list(shape), {}
    for axis, first, last in zip(axes or range(len(starts)), starts, ends):
        first, last, _ = slice(first, last).indices(shape[axis])
        bounds[axis % len(shape)] = (first, last)
        extents[axis] = last - first
    if any(step != 1 for step in steps or ()) or 0 in bounds or min(extents) < 1:
        raise NotForNcnnError('%s takes steps, cuts the batch, or keeps nothing' % node.label)
    writer.add('Crop', node, tuple(extents), {
        9: [b[0] for b in bounds.values()], 10: [b[1] for b in bounds.values()],
        11: [axis - 1 for axis in bounds]})


def _pad(writer: Writer, node: Node) -> None:
    shape, pads = writer.shape(node), writer.setting(node, 'pads', 1)
    value = writer.constant(node, 2)
    fixed = _float(node, 'value', 0.0) if value is None else float(value.reshape(()))
    if (len(shape) != 4 or pads is None or len(pads) != 8 or min(pads) < 0 or pads[0] or pads[4]
            or node.attributes.get('mode', 'constant') != 'constant'):
        raise NotForNcnnError('%s does not pad an image by a constant' % node.label)
    extents = tuple(e + pads[a] + pads[a + 4] for a, e in enumerate(shape))
    writer.add('Padding', node, extents, {
        0: pads[2], 1: pads[6], 2: pads[3], 3: pads[7], 4: 0, 5: fixed, 7: pads[1], 8: pads[5]})


RULES: Mapping[str, Rule] = {
    'Conv': _convolution, 'BatchNormalization': _normalisation, 'Gemm': _gemm,
    'MatMul': _matmul, 'MaxPool': _pool(0), 'AveragePool': _pool(1),
    'GlobalMaxPool': _global_pool(0), 'GlobalAveragePool': _global_pool(1), 'ReduceMean': _mean,
    'Relu': _elementwise('ReLU'), 'LeakyRelu': _elementwise('ReLU', alpha=(0, 0.01)),
    'Elu': _elementwise('ELU', alpha=(0, 1.0)), 'Sigmoid': _elementwise('Sigmoid'),
    'Tanh': _elementwise('TanH'), 'HardSwish': _hard_swish,
    'HardSigmoid': _elementwise('HardSigmoid', alpha=(0, 0.2), beta=(1, 0.5)),
    'Clip': _clip, 'Softmax': _softmax,
    'Abs': _unary(0), 'Neg': _unary(1), 'Sqrt': _unary(5), 'Exp': _unary(7), 'Log': _unary(8),
    'Reciprocal': _unary(15),
    'Add': _binary(0), 'Sub': _binary(1, 7), 'Mul': _binary(2), 'Div': _binary(3, 8),
    'Max': _binary(4), 'Min': _binary(5), 'Pow': _binary(6, 9),
    'Flatten': _flatten, 'Reshape': _reshape, 'Squeeze': _squeeze, 'Unsqueeze': _unsqueeze,
    'Concat': _concat, 'Split': _split, 'Slice': _slice, 'Pad': _pad,
    'Identity': Writer.alias, 'Dropout': Writer.alias,
}


def to_ncnn(graph: GraphFile) -> NcnnModel:
    """
    Return a graph as ncnn loads it.

    :raises NotForNcnnError: naming the first node that no rule covers
    """
    return Writer(graph, RULES).write()
