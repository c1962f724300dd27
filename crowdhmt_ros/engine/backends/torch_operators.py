# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX operators as functions of PyTorch.

A function is given torch, the node and its inputs (None where one is left out) and returns its
outputs. PyTorch itself is handed in: robots without it can import this module.
"""
from __future__ import annotations

import math
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.engine.onnx_file import Node

Operator = Callable[[Any, Node, Sequence[Any]], Tuple[Any, ...]]


class NotForTorchError(Exception):
    """Says which operator there is no function for, or in which form not."""


def _attribute(node: Node, name: str, default: Any) -> Any:
    return node.attributes.get(name, default)


def _ints(tensor: Any) -> List[int]:
    return [int(v) for v in tensor.reshape(-1).tolist()]


def _numbers(node: Node, name: str, inputs: Sequence[Any], index: int) -> Optional[List[int]]:
    """Return whole numbers that are an attribute or, in later opsets, an input."""
    if name in node.attributes:
        value: Any = node.attributes[name]
        return [int(v) for v in value]
    found = inputs[index] if index < len(inputs) else None
    return None if found is None else _ints(found)


def _pads(node: Node, extents: Sequence[int], kernel: Sequence[int]) -> List[int]:
    """Return pads as ONNX orders them: all before, all behind."""
    axes = len(kernel)
    auto = _attribute(node, 'auto_pad', 'NOTSET')
    if auto not in ('SAME_UPPER', 'SAME_LOWER'):
        given = _attribute(node, 'pads', (0,) * (2 * axes))
        return [0] * (2 * axes) if auto == 'VALID' else list(given)
    strides = _attribute(node, 'strides', (1,) * axes)
    dilations = _attribute(node, 'dilations', (1,) * axes)
    totals = [max(0, (math.ceil(e / s) - 1) * s + d * (k - 1) + 1 - e)
              for e, s, d, k in zip(extents, strides, dilations, kernel)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if auto == 'SAME_UPPER' else large + small


def _padded(torch: Any, x: Any, pads: Sequence[int], value: float) -> Any:
    """Pad the last axes; PyTorch wants them from the last one on, before and behind."""
    axes = len(pads) // 2
    order = [pads[axis + side * axes] for axis in reversed(range(axes)) for side in (0, 1)]
    return torch.nn.functional.pad(x, order, value=value) if any(order) else x


def _convolution(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x, weight = inputs[0], inputs[1]
    axes = weight.dim() - 2
    pads = _pads(node, x.shape[2:], weight.shape[2:])
    even = pads[:axes] == pads[axes:]
    if not even:
        x = _padded(torch, x, pads, 0.0)
    function = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}.get(axes)
    if function is None:
        raise NotForTorchError('%s has %d spatial axes' % (node.label, axes))
    return (function(
        x, weight, inputs[2] if len(inputs) > 2 else None,
        stride=_attribute(node, 'strides', (1,) * axes), padding=pads[:axes] if even else 0,
        dilation=_attribute(node, 'dilations', (1,) * axes),
        groups=_attribute(node, 'group', 1)),)


def _pool(maximum: bool) -> Operator:
    def operator(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
        x = inputs[0]
        kernel = _attribute(node, 'kernel_shape', ())
        axes = len(kernel)
        pads = _pads(node, x.shape[2:], kernel)
        ones = (1,) * axes
        count_all = bool(_attribute(node, 'count_include_pad', 0))
        ceil = bool(_attribute(node, 'ceil_mode', 0))
        even = pads[:axes] == pads[axes:]
        dilated = tuple(_attribute(node, 'dilations', ones)) != ones
        if axes not in (1, 2) or len(node.outputs) > 1 or (
                not maximum and (dilated or ceil or not (even or count_all))):
            raise NotForTorchError('%s has a form that is not translated' % node.label)
        if not even:
            x = _padded(torch, x, pads, -math.inf if maximum else 0.0)
        options = {'stride': _attribute(node, 'strides', ones), 'ceil_mode': ceil,
                   'padding': pads[:axes] if even else 0}
        functions = torch.nn.functional
        if maximum:
            pool = functions.max_pool2d if axes == 2 else functions.max_pool1d
            return (pool(x, kernel, dilation=_attribute(node, 'dilations', ones), **options),)
        pool = functions.avg_pool2d if axes == 2 else functions.avg_pool1d
        return (pool(x, kernel, count_include_pad=count_all, **options),)
    return operator


def _normalisation(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x, scale, shift, mean, variance = inputs
    return (torch.nn.functional.batch_norm(
        x, mean, variance, scale, shift, eps=_attribute(node, 'epsilon', 1e-5)),)


def _gemm(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    a = inputs[0].t() if _attribute(node, 'transA', 0) else inputs[0]
    b = inputs[1].t() if _attribute(node, 'transB', 0) else inputs[1]
    c = inputs[2] if len(inputs) > 2 else None
    alpha, beta = _attribute(node, 'alpha', 1.0), _attribute(node, 'beta', 1.0)
    if c is None:
        return (alpha * (a @ b),)
    return (torch.addmm(c, a, b, beta=beta, alpha=alpha),)


def _clip(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    limits = [_attribute(node, name, None) for name in ('min', 'max')]
    for index, given in enumerate(inputs[1:3]):
        limits[index] = limits[index] if given is None else given.item()
    if limits == [None, None]:
        return (inputs[0],)
    return (torch.clamp(inputs[0], *limits),)


def _softmax(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    return (torch.softmax(inputs[0], dim=_attribute(node, 'axis', -1)),)


def _flatten(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    axis = _attribute(node, 'axis', 1)
    rows = math.prod(inputs[0].shape[:axis])
    return (inputs[0].reshape(rows, -1),)


def _reshape(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x, wanted = inputs[0], _ints(inputs[1])
    if not _attribute(node, 'allowzero', 0):
        wanted = [x.shape[i] if v == 0 else v for i, v in enumerate(wanted)]
    return (x.reshape(wanted),)


def _squeeze(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    axes = _numbers(node, 'axes', inputs, 1)
    x = inputs[0]
    if axes is None:
        return (x.squeeze(),)
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.squeeze(axis)
    return (x,)


def _unsqueeze(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    axes, x = _numbers(node, 'axes', inputs, 1) or [], inputs[0]
    for axis in sorted(a % (inputs[0].dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return (x,)


def _concat(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    return (torch.cat(list(inputs), dim=_attribute(node, 'axis', 0)),)


def _split(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    axis, count = _attribute(node, 'axis', 0), len(node.outputs)
    sizes = _numbers(node, 'split', inputs, 1)
    whole = inputs[0].shape[axis]
    return tuple(torch.split(inputs[0], sizes or -(-whole // count), dim=axis))


def _slice(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x = inputs[0]
    starts = _numbers(node, 'starts', inputs, 1) or []
    ends = _numbers(node, 'ends', inputs, 2) or []
    axes = _numbers(node, 'axes', inputs, 3) or list(range(len(starts)))
    steps = _numbers(node, 'steps', inputs, 4) or [1] * len(starts)
    if min(steps, default=1) < 1:
        raise NotForTorchError('%s goes backwards' % node.label)
    parts = [slice(None)] * x.dim()
    for axis, first, last, step in zip(axes, starts, ends, steps):
        parts[axis] = slice(*slice(first, last, step).indices(x.shape[axis]))
    return (x[tuple(parts)],)


def _pad(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    pads = _numbers(node, 'pads', inputs, 1)
    if pads is None or _attribute(node, 'mode', 'constant') != 'constant' or len(inputs) > 3:
        raise NotForTorchError('%s does not pad all axes by a constant' % node.label)
    fixed = inputs[2] if len(inputs) > 2 else None
    value = _attribute(node, 'value', 0.0) if fixed is None else fixed.item()
    return (_padded(torch, inputs[0], pads, value),)


def _mean(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    axes = _numbers(node, 'axes', inputs, 1)
    if axes is None:
        axes = list(range(inputs[0].dim()))
    return (inputs[0].mean(dim=axes, keepdim=bool(_attribute(node, 'keepdims', 1))),)


def _global_pool(maximum: bool) -> Operator:
    def operator(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
        axes = tuple(range(2, inputs[0].dim()))
        reduce = torch.amax if maximum else torch.mean
        return (reduce(inputs[0], dim=axes, keepdim=True),)
    return operator


def _transpose(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    order = _attribute(node, 'perm', tuple(reversed(range(inputs[0].dim()))))
    return (inputs[0].permute(*order),)


def _per_axis(node: Node, x: Any, values: Any) -> Any:
    """Shape scales or zero points so that they go along the node's axis."""
    if values.dim() == 0 or values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[_attribute(node, 'axis', 1)] = -1
    return values.reshape(shape)


def _quantise(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x, scale = inputs[0], _per_axis(node, inputs[0], inputs[1])
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else torch.zeros(
        (), dtype=torch.uint8)
    limits = torch.iinfo(zero.dtype)
    shifted = torch.round(x / scale) + _per_axis(node, x, zero)
    return (torch.clamp(shifted, limits.min, limits.max).to(zero.dtype),)


def _dequantise(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    x, scale = inputs[0], _per_axis(node, inputs[0], inputs[1])
    whole = x.to(torch.int32)
    if len(inputs) > 2 and inputs[2] is not None:
        whole = whole - _per_axis(node, x, inputs[2]).to(torch.int32)
    return (whole.to(scale.dtype) * scale,)


def _plain(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda torch, node, inputs: (function(torch, inputs[0]),)


def _binary(function: Callable[[Any, Any, Any], Any]) -> Operator:
    def operator(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(torch, result, other)
        return (result,)
    return operator


def _identity(torch: Any, node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    return (inputs[0],)


def _divide(torch: Any, a: Any, b: Any) -> Any:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else 'trunc')


OPERATORS: Mapping[str, Operator] = {
    'Conv': _convolution, 'BatchNormalization': _normalisation, 'Gemm': _gemm,
    'MatMul': _binary(lambda torch, a, b: a @ b),
    'MaxPool': _pool(True), 'AveragePool': _pool(False),
    'GlobalMaxPool': _global_pool(True), 'GlobalAveragePool': _global_pool(False),
    'ReduceMean': _mean, 'Clip': _clip, 'Softmax': _softmax,
    'Relu': _plain(lambda torch, x: torch.relu(x)),
    'Sigmoid': _plain(lambda torch, x: torch.sigmoid(x)),
    'Tanh': _plain(lambda torch, x: torch.tanh(x)),
    'HardSwish': _plain(lambda torch, x: torch.nn.functional.hardswish(x)),
    'LeakyRelu': lambda torch, node, inputs: (torch.nn.functional.leaky_relu(
        inputs[0], _attribute(node, 'alpha', 0.01)),),
    'Elu': lambda torch, node, inputs: (torch.nn.functional.elu(
        inputs[0], _attribute(node, 'alpha', 1.0)),),
    'HardSigmoid': lambda torch, node, inputs: (torch.clamp(
        inputs[0] * _attribute(node, 'alpha', 0.2) + _attribute(node, 'beta', 0.5), 0.0, 1.0),),
    'Erf': _plain(lambda torch, x: torch.erf(x)), 'Abs': _plain(lambda torch, x: torch.abs(x)),
    'Neg': _plain(lambda torch, x: -x), 'Sqrt': _plain(lambda torch, x: torch.sqrt(x)),
    'Exp': _plain(lambda torch, x: torch.exp(x)), 'Log': _plain(lambda torch, x: torch.log(x)),
    'Reciprocal': _plain(lambda torch, x: torch.reciprocal(x)),
    'Add': _binary(lambda torch, a, b: a + b), 'Sub': _binary(lambda torch, a, b: a - b),
    'Mul': _binary(lambda torch, a, b: a * b), 'Div': _binary(_divide),
    'Max': _binary(lambda torch, a, b: torch.maximum(a, b)),
    'Min': _binary(lambda torch, a, b: torch.minimum(a, b)),
    'Pow': _binary(lambda torch, a, b: torch.pow(a, b)),
    'Flatten': _flatten, 'Reshape': _reshape, 'Squeeze': _squeeze, 'Unsqueeze': _unsqueeze,
    'Transpose': _transpose, 'Concat': _concat, 'Split': _split, 'Slice': _slice, 'Pad': _pad,
    'QuantizeLinear': _quantise, 'DequantizeLinear': _dequantise,
    'Identity': _identity, 'Dropout': _identity,
}
