# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks as converters from TensorFlow and Paddle write them, for the transformation."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR, SEED = 17, 8, 20260721
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
Attribute = Union[int, float, str, Sequence[int], Sequence[float], onnx.TensorProto,
                  onnx.GraphProto]


class Writer:
    """
    Writes one graph, operator by operator.

    :param constant_nodes: write constants as operators, as Paddle's converter does
    """

    def __init__(self, name: str, *, constant_nodes: bool = False, opset: int = OPSET) -> None:
        self.name, self.opset, self.constant_nodes = name, opset, constant_nodes
        self.rng = np.random.default_rng(SEED)
        self.nodes: List[onnx.NodeProto] = []
        self.constants: List[onnx.TensorProto] = []
        self.inputs: List[onnx.ValueInfoProto] = []
        self.outputs: List[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[Union[int, str]],
              kind: int = TensorProto.FLOAT) -> str:
        """Add an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, tensor: str, name: str, shape: Sequence[Union[int, str]],
               kind: int = TensorProto.FLOAT) -> None:
        """Add an output of the graph, through the Identity that converters put there."""
        self.nodes.append(helper.make_node('Identity', [tensor], [name], 'out/' + name))
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def constant(self, value: object, kind: type = np.float32) -> str:
        """Add a constant; equal ones are not shared."""
        name = 'const_%d' % (len(self.constants) + len(self.nodes))
        tensor = numpy_helper.from_array(np.asarray(value, kind), name)
        if self.constant_nodes:
            self.nodes.append(helper.make_node('Constant', [], [name], name, value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def whole(self, value: object) -> str:
        """Add a constant of whole numbers."""
        return self.constant(value, np.int64)

    def weights(self, *shape: int) -> str:
        """Add random weights that keep the scale of what they multiply."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(fan_in))

    def near(self, centre: float, *shape: int) -> str:
        """Add random numbers near one."""
        return self.constant(centre + 0.2 * self.rng.standard_normal(shape))

    def op(self, kind: str, inputs: Sequence[str], *, outputs: int = 1,
           attributes: Optional[Dict[str, Attribute]] = None) -> str:
        """Add an operator and return its first output."""
        name = '%s/%s_%d' % (self.name, kind, len(self.nodes))
        made = [name + ':%d' % i for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name, **(attributes or {})))
        return made[0]

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        """Add a transposition."""
        return self.op('Transpose', [x], attributes={'perm': perm})

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs,
                                  self.constants)
        model = helper.make_model(graph, ir_version=IR,
                                  opset_imports=[helper.make_opsetid('', self.opset)])
        onnx.checker.check_model(model, full_check=True)
        return model


def last_conv(w: Writer, x: str, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1,
              group: int = 1, pad: bool = False) -> str:
    """Convolve channels-last: a pair of transpositions, the bias outside, padding apart."""
    if pad:
        edge = kernel // 2
        x = w.op('Pad', [x, w.whole([0, edge, edge, 0, 0, edge, edge, 0]), w.constant(0.0)])
    x = w.transpose(x, TO_FIRST)
    attributes: Dict[str, Attribute] = {'kernel_shape': [kernel] * 2, 'strides': [stride] * 2,
                                        'group': group}
    if not pad:
        attributes['auto_pad'] = 'SAME_UPPER'
    x = w.op('Conv', [x, w.weights(outputs, inputs // group, kernel, kernel)],
             attributes=attributes)
    return w.op('Add', [w.transpose(x, TO_LAST), w.near(0.0, outputs)])


def relu6(w: Writer, x: str) -> str:
    """Write relu6 as TensorFlow's converter does."""
    return w.op('Min', [w.op('Max', [x, w.constant(0.0)]), w.constant(6.0)])


def last_norm(w: Writer, x: str, channels: int) -> str:
    """Write a normalisation as factor and summand."""
    return w.op('Add', [w.op('Mul', [x, w.near(1.0, channels)]), w.near(0.0, channels)])


def identities(w: Writer, x: str, count: int) -> str:
    """Write a chain of copies."""
    for _ in range(count):
        x = w.op('Identity', [x])
    return x


def dense(w: Writer, x: str, inputs: int, outputs: int) -> str:
    """Write a fully connected layer as product and sum."""
    return w.op('Add', [w.op('MatMul', [x, w.weights(inputs, outputs)]), w.near(0.0, outputs)])


def tensorflow_plain(batch: Union[int, str] = 1) -> onnx.ModelProto:
    """Write a plain channels-last network."""
    w = Writer('plain')
    x = w.input('image', [batch, 32, 32, 3])
    x = w.op('Mul', [w.op('Sub', [x, w.constant([0.4, 0.5, 0.6])]), w.constant(4.0)])
    x = identities(w, relu6(w, last_conv(w, x, 3, 8, stride=2, pad=True)), 2)
    x = relu6(w, last_norm(w, last_conv(w, x, 8, 8, group=8), 8))
    x = w.op('Relu', [last_norm(w, last_conv(w, x, 8, 16, kernel=1), 16)])
    x = w.op('Pad', [x, w.whole([0, 0, 0, 0, 0, 1, 1, 0]), w.constant(0.0)])
    x = w.transpose(w.op('MaxPool', [w.transpose(x, TO_FIRST)], attributes={
        'kernel_shape': [3, 3], 'strides': [2, 2]}), TO_LAST)
    x = w.op('Relu', [last_conv(w, x, 16, 16)])
    x = w.op('ReduceMean', [x], attributes={'axes': [1, 2], 'keepdims': 0})
    x = w.op('Softmax', [dense(w, identities(w, x, 1), 16, 10)], attributes={'axis': -1})
    w.output(x, 'scores', [batch, 10])
    return w.model()


def squeeze_excite(w: Writer, x: str, channels: int) -> str:
    """Write a gate per channel, channels-last."""
    gate = w.op('ReduceMean', [x], attributes={'axes': [1, 2], 'keepdims': 1})
    gate = w.op('Relu', [last_conv(w, gate, channels, channels // 4, kernel=1)])
    gate = w.op('Sigmoid', [last_conv(w, gate, channels // 4, channels, kernel=1)])
    return w.op('Mul', [x, gate])


def tensorflow_residual(batch: Union[int, str] = 1) -> onnx.ModelProto:
    """Write residual blocks with gates and two outputs, channels-last."""
    w = Writer('residual')
    x = w.input('image', [batch, 32, 32, 3])
    x = relu6(w, last_norm(w, last_conv(w, x, 3, 16, stride=2), 16))
    for _ in range(3):
        y = w.op('Relu', [last_norm(w, last_conv(w, x, 16, 16, pad=True), 16)])
        y = last_norm(w, last_conv(w, y, 16, 16), 16)
        x = w.op('Relu', [w.op('Add', [x, squeeze_excite(w, y, 16)])])
    early = w.op('ReduceMean', [x], attributes={'axes': [1, 2], 'keepdims': 0})
    w.output(dense(w, early, 16, 4), 'early', [batch, 4])
    both = w.op('Concat', [x, w.op('Tanh', [x])], attributes={'axis': 3})
    x = w.op('Relu', [last_conv(w, both, 32, 16, stride=2)])
    w.output(identities(w, x, 2), 'features', [batch, 8, 8, 16])
    return w.model()


def tensorflow_dense() -> onnx.ModelProto:
    """Write a channels-last network that flattens before its dense layers."""
    w = Writer('dense')
    x = w.input('image', [1, 16, 16, 3])
    for inputs, outputs in ((3, 8), (8, 16)):
        x = w.op('Relu', [last_conv(w, x, inputs, outputs, stride=2)])
    shape = w.op('Cast', [w.op('Shape', [x])], attributes={'to': TensorProto.INT32})
    batch = w.op('Slice', [shape, w.whole([0]), w.whole([1]), w.whole([0])])
    target = w.op('Concat', [batch, w.constant([256], np.int32)], attributes={'axis': 0})
    x = w.op('Reshape', [x, w.op('Cast', [target], attributes={'to': TensorProto.INT64})])
    x = w.op('Relu', [dense(w, x, 256, 32)])
    x = w.op('Dropout', [x, w.constant(0.5)])
    w.output(dense(w, x, 32, 10), 'logits', [1, 10])
    return w.model()


def first_norm(w: Writer, x: str, channels: int) -> str:
    """Write a normalisation that is not fused."""
    return w.op('BatchNormalization', [
        x, w.near(1.0, channels), w.near(0.0, channels), w.near(0.0, channels),
        w.constant(0.5 + w.rng.random(channels))], attributes={'epsilon': 1e-5})


def first_conv(w: Writer, x: str, inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3,
               group: int = 1) -> str:
    """Convolve channels-first without a bias."""
    return w.op('Conv', [x, w.weights(outputs, inputs // group, kernel, kernel)], attributes={
        'kernel_shape': [kernel] * 2, 'strides': [stride] * 2, 'pads': [kernel // 2] * 4,
        'group': group})


def paddle_swish(w: Writer, x: str) -> str:
    """Write hard swish as Paddle's converter does for old opsets."""
    gate = w.op('Clip', [w.op('Add', [x, w.constant(3.0)]), w.constant(0.0), w.constant(6.0)])
    return w.op('Div', [w.op('Mul', [x, gate]), w.constant(6.0)])


def paddle_flatten(w: Writer, x: str, rest: int) -> str:
    """Flatten by shape arithmetic."""
    shape = w.op('Shape', [x])
    batch = w.op('Squeeze', [w.op('Slice', [shape, w.whole([0]), w.whole([1]), w.whole([0])]),
                             w.whole([0])])
    batch = w.op('Unsqueeze', [w.op('Cast', [batch], attributes={'to': TensorProto.INT64}),
                               w.whole([0])])
    target = w.op('Concat', [batch, w.whole([rest])], attributes={'axis': 0})
    return w.op('Reshape', [x, target])


def paddle_mobile(batch: Union[int, str] = 1) -> onnx.ModelProto:
    """Write unfused normalisations, constants as operators, copies of scales, shapes computed."""
    w = Writer('mobile', constant_nodes=True)
    x = w.input('x', [batch, 3, 32, 32])
    x = paddle_swish(w, first_norm(w, first_conv(w, x, 3, 8, stride=2), 8))
    for _ in range(2):
        y = w.op('Relu', [first_norm(w, first_conv(w, x, 8, 8, group=8), 8)])
        y = w.op('Cast', [y], attributes={'to': TensorProto.FLOAT})
        y = first_norm(w, first_conv(w, y, 8, 8, kernel=1), 8)
        y = w.op('Add', [w.op('Mul', [y, w.constant(1.0)]), w.constant(0.0)])
        x = w.op('Add', [x, identities(w, y, 1)])
    x = w.op('Clip', [w.op('Relu', [x]), w.constant(0.0), w.constant(6.0)])
    x = w.op('GlobalAveragePool', [x])
    x = w.op('Dropout', [paddle_flatten(w, x, 8), w.constant(0.2)])
    w.output(w.op('Softmax', [dense(w, x, 8, 5)], attributes={'axis': -1}), 'y', [batch, 5])
    return w.model()


def paddle_attention() -> onnx.ModelProto:
    """Write an attention block: three projections of one tensor, heads, squeezes in pairs."""
    w = Writer('attention', constant_nodes=True)
    x = w.input('x', [1, 12, 32])
    parts = []
    for _ in range(3):
        y = w.op('Reshape', [dense(w, x, 32, 32), w.whole([0, 0, 4, 8])])
        parts.append(w.transpose(y, [0, 2, 1, 3]))
    query = w.op('Mul', [parts[0], w.constant(8 ** -0.5)])
    match = w.op('MatMul', [query, w.transpose(parts[1], [0, 1, 3, 2])])
    match = w.op('Softmax', [match], attributes={'axis': -1})
    mixed = w.transpose(w.op('MatMul', [match, parts[2]]), [0, 2, 1, 3])
    y = dense(w, w.op('Reshape', [mixed, w.whole([0, 0, 32])]), 32, 32)
    y = w.op('Squeeze', [w.op('Unsqueeze', [y, w.whole([1])]), w.whole([1])])
    y = w.op('Add', [x, w.op('Dropout', [y])])
    w.output(decomposed_norm(w, y, 32), 'y', [1, 12, 32])
    return w.model()


def decomposed_norm(w: Writer, x: str, width: int) -> str:
    """Write layer normalisation operator by operator."""
    axes: Dict[str, Attribute] = {'axes': [-1], 'keepdims': 1}
    centred = w.op('Sub', [x, w.op('ReduceMean', [x], attributes=axes)])
    square = w.op('Pow', [centred, w.constant(2.0)])
    spread = w.op('Sqrt', [w.op('Add', [w.op('ReduceMean', [square], attributes=axes),
                                        w.constant(1e-5)])])
    scaled = w.op('Mul', [w.op('Div', [centred, spread]), w.near(1.0, width)])
    return w.op('Add', [scaled, w.near(0.0, width)])


def shape_arithmetic(batch: Union[int, str] = 1) -> onnx.ModelProto:
    """Write position codes from shapes: Range, ConstantOfShape, Expand, Tile, casts in a row."""
    w = Writer('shapes')
    x = w.input('x', [batch, 6, 8])
    shape = w.op('Shape', [x])
    length = w.op('Gather', [shape, w.whole(1)], attributes={'axis': 0})
    places = w.op('Range', [w.whole(0), length, w.whole(1)])
    for kind in (TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT):
        places = w.op('Cast', [places], attributes={'to': kind})
    places = w.op('Unsqueeze', [places, w.whole([1])])
    ones = w.op('ConstantOfShape', [w.op('Concat', [
        w.op('Unsqueeze', [length, w.whole([0])]), w.whole([8])], attributes={'axis': 0})],
        attributes={'value': numpy_helper.from_array(np.ones(1, np.float32))})
    codes = w.op('Sin', [w.op('Mul', [ones, places])])
    codes = w.op('Where', [w.op('Equal', [ones, w.constant(1.0)]), codes, ones])
    y = w.op('Add', [x, w.op('Expand', [w.op('Unsqueeze', [codes, w.whole([0])]),
                                        w.whole([1, 6, 8])])])
    y = w.op('Reshape', [y, w.op('Concat', [
        w.op('Slice', [shape, w.whole([0]), w.whole([1])]), w.whole([48])],
        attributes={'axis': 0})])
    y = w.op('Tile', [w.op('Reshape', [y, w.whole([-1, 6, 8])]), w.whole([1, 1, 1])])
    w.output(w.op('Transpose', [y], attributes={'perm': [0, 2, 1]}), 'y', [batch, 8, 6])
    return w.model()


def duplicates() -> onnx.ModelProto:
    """Write the same operators and constants several times, and branches that nothing reads."""
    w = Writer('duplicates')
    x = w.input('x', [1, 8, 8, 8])
    weights = w.rng.standard_normal((8, 8, 1, 1)) / 3
    branches = []
    for _ in range(3):
        y = w.op('Conv', [x, w.constant(weights)], attributes={'kernel_shape': [1, 1]})
        branches.append(w.op('Relu', [w.op('Add', [y, w.constant(np.full((8, 1, 1), 0.1))])]))
        w.op('Sigmoid', [w.op('Exp', [branches[-1]])])
    y = w.op('Add', [w.op('Mul', branches[:2]), branches[2]])
    y = w.op('Sum', [y])
    parts = w.op('Split', [y, w.whole([4, 4])], outputs=2, attributes={'axis': 1})
    y = w.op('Concat', [parts, parts[:-1] + '1'], attributes={'axis': 1})
    w.output(y, 'y', [1, 8, 8, 8])
    w.output(branches[1], 'branch', [1, 8, 8, 8])
    return w.model()


def views_and_slices() -> onnx.ModelProto:
    """Write views, slices, concatenations and reductions in rows."""
    w = Writer('views')
    x = w.input('x', [2, 6, 8])
    y = x
    for axis, start, end in ((1, 1, 6), (2, 0, 6), (1, 0, 4)):
        y = w.op('Slice', [y, w.whole([start]), w.whole([end]), w.whole([axis])])
    y = w.op('Slice', [y, w.whole([0]), w.whole([2**31]), w.whole([2])])
    for axis in (0, 2, 4):
        y = w.op('Unsqueeze', [y, w.whole([axis])])
    y = w.op('Flatten', [w.op('Squeeze', [y, w.whole([0])])], attributes={'axis': 1})
    y = w.op('Reshape', [y, w.whole([2, 4, 6])])
    inner = w.op('Concat', [y, w.op('Neg', [y])], attributes={'axis': 1})
    y = w.op('Concat', [inner, w.op('Abs', [y])], attributes={'axis': -2})
    y = w.op('Unsqueeze', [w.op('ReduceMax', [y], attributes={'axes': [1], 'keepdims': 0}),
                           w.whole([1])])
    y = w.op('Div', [w.op('Mul', [w.op('Mul', [y, w.constant(3.0)]), w.constant(0.5)]),
                     w.constant(2.0)])
    w.output(w.op('Transpose', [w.op('Transpose', [y], attributes={'perm': [1, 0, 2]})],
                  attributes={'perm': [1, 2, 0]}), 'y', [2, 6, 1])
    return w.model()


def constant_branch() -> onnx.ModelProto:
    """Write an If over a condition that is known."""
    w = Writer('branch')
    x = w.input('x', [1, 4])

    def branch(name: str, kind: str) -> onnx.GraphProto:
        nodes = [helper.make_node(kind, [x], [name + '_a'], name + '_1'),
                 helper.make_node('Add', [name + '_a', name + '_c'], [name + '_b'], name + '_2')]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(
                name + '_b', TensorProto.FLOAT, [1, 4])],
            [numpy_helper.from_array(np.full(4, 0.5, np.float32), name + '_c')])
    rank = w.op('Size', [w.op('Shape', [x])])
    known = w.op('Equal', [rank, w.whole(2)])
    y = w.op('If', [known], attributes={'then_branch': branch('then', 'Relu'),
                                        'else_branch': branch('else', 'Neg')})
    w.output(w.op('Sub', [y, w.constant(1.0)]), 'y', [1, 4])
    return w.model()


WRITERS: Dict[str, Callable[[], onnx.ModelProto]] = {
    'tensorflow/plain': tensorflow_plain,
    'tensorflow/plain_open_batch': lambda: tensorflow_plain('batch'),
    'tensorflow/residual': tensorflow_residual,
    'tensorflow/residual_open_batch': lambda: tensorflow_residual('batch'),
    'tensorflow/dense': tensorflow_dense,
    'paddle/mobile': paddle_mobile,
    'paddle/mobile_open_batch': lambda: paddle_mobile('batch'),
    'paddle/attention': paddle_attention,
    'written/shape_arithmetic': shape_arithmetic,
    'written/shape_arithmetic_open_batch': lambda: shape_arithmetic('batch'),
    'written/duplicates': duplicates,
    'written/views_and_slices': views_and_slices,
    'written/constant_branch': constant_branch}


def converter_models() -> List[Tuple[str, onnx.ModelProto]]:
    """Return all networks."""
    return [(name, write()) for name, write in WRITERS.items()]
