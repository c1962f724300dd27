# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small ONNX graphs, one for each thing that an engine may get wrong."""
import hashlib

import numpy as np
import pytest

from crowdhmt_ros.types import Segment, TensorSpec

onnx = pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
OPSET, IR = 17, 8


class Builder:
    """Collects nodes and weights; `node` returns the name of its output."""

    def __init__(self, **inputs):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(5)

    def node(self, operator, *inputs, outputs=1, **attributes):
        names = ['t%d_%d' % (len(self.nodes), i) for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, *shape, values=None):
        if values is None:
            values = self.random.standard_normal(shape).astype(np.float32) * 0.5
        name = 'w%d' % len(self.weights)
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def whole(self, *values):
        return self.weight(values=np.array(values, np.int64))

    def real(self, value):
        return self.weight(values=np.array(value, np.float32))

    def conv(self, x, channels, out, kernel=3, group=1, bias=True, **attributes):
        weights = [self.weight(out, channels // group, kernel, kernel)]
        weights += [self.weight(out)] if bias else []
        return self.node('Conv', x, *weights, group=group, **attributes)

    def normalise(self, x, channels):
        weights = [self.weight(channels) for _ in range(3)]
        weights.append(self.weight(values=self.random.random(channels).astype(np.float32) + 0.2))
        return self.node('BatchNormalization', x, *weights, epsilon=1e-3)

    def model(self, *outputs, opset=OPSET):
        graph = helper.make_graph(
            self.nodes, 'small',
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
             for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
            self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)],
                                  ir_version=IR)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
        return model


def _specs(values):
    kinds = {TensorProto.FLOAT: 'float32', TensorProto.INT64: 'int64'}
    return tuple(TensorSpec(v.name, kinds[v.type.tensor_type.elem_type],
                            tuple(d.dim_value for d in v.type.tensor_type.shape.dim))
                 for v in values)


def write(model, folder, name='small', external=False):
    """Write a model as a segment is written, and return the segment."""
    path = folder / (name + '.onnx')
    if external:
        model = onnx.ModelProto.FromString(model.SerializeToString())
        onnx.save_model(model, path, save_as_external_data=True, location='initialisers.bin',
                        size_threshold=100)  # shapes stay in the graph
    else:
        path.write_bytes(model.SerializeToString())
    return Segment(name, hashlib.sha256(path.read_bytes()).hexdigest(), str(path),
                   _specs(model.graph.input), _specs(model.graph.output),
                   sum(t.ByteSize() for t in model.graph.initializer))


def plain_convolution():
    b = Builder(x=(1, 3, 13, 11))
    return b.model(b.node('Relu', b.conv('x', 3, 8, pads=(1, 1, 1, 1))))


def strided_asymmetric_padding():
    b = Builder(x=(1, 3, 9, 14))
    return b.model(b.conv('x', 3, 5, strides=(2, 3), pads=(0, 1, 2, 1)))


def dilated_without_bias():
    b = Builder(x=(1, 4, 15, 12))
    return b.model(b.conv('x', 4, 6, dilations=(2, 3), bias=False, pads=(2, 3, 2, 3)))


def same_padding():
    b = Builder(x=(1, 3, 10, 7))
    upper = b.conv('x', 3, 4, strides=(2, 2), auto_pad='SAME_UPPER')
    return b.model(b.conv(upper, 4, 4, kernel=2, auto_pad='SAME_LOWER'))


def depthwise_and_grouped():
    b = Builder(x=(1, 8, 12, 12))
    x = b.node('Clip', b.conv('x', 8, 8, group=8, pads=(1, 1, 1, 1)), b.real(0.0), b.real(6.0))
    return b.model(b.conv(x, 8, 12, group=4, kernel=1))


def residual():
    b = Builder(x=(1, 8, 10, 9))
    x = b.node('Relu', b.conv('x', 8, 8, pads=(1, 1, 1, 1)))
    y = b.conv(b.node('Relu', b.conv(x, 8, 8, pads=(1, 1, 1, 1))), 8, 8, pads=(1, 1, 1, 1))
    return b.model(b.node('Relu', b.node('Add', y, x)))


def normalised():
    b = Builder(x=(1, 3, 9, 9))
    x = b.node('Relu', b.normalise(b.conv('x', 3, 6, bias=False), 6))
    x = b.normalise(b.conv(x, 6, 4, group=2), 4)
    return b.model(b.normalise(x, 4))


def normalised_input():
    b = Builder(x=(1, 5, 7, 6))
    return b.model(b.normalise('x', 5))


def activations():
    b = Builder(x=(1, 4, 6, 7))
    x = b.conv('x', 4, 4, kernel=1)
    for operator, attributes in (
            ('Sigmoid', {}), ('Tanh', {}), ('LeakyRelu', {'alpha': 0.2}), ('HardSwish', {}),
            ('HardSigmoid', {'alpha': 0.3, 'beta': 0.4}), ('Elu', {'alpha': 0.7})):
        x = b.conv(b.node(operator, x, **attributes), 4, 4, kernel=1)
    return b.model(x)


def activations_behind_convolutions():
    b = Builder(x=(1, 4, 6, 7))
    found = []
    for operator, attributes in (('Sigmoid', {}), ('LeakyRelu', {'alpha': 0.2}),
                                 ('HardSwish', {})):
        found.append(b.node(operator, b.conv('x', 4, 4, kernel=1), **attributes))
    return b.model(b.node('Concat', *found, axis=1))


def input_changed_in_place():
    b = Builder(x=(1, 3, 5, 7))
    return b.model(b.node('Add', b.node('Relu', 'x'), b.node('Sigmoid', 'x')))


def input_passed_on():
    b = Builder(x=(1, 3, 5, 7))
    flat = b.node('Flatten', 'x')
    return b.model(b.node('Relu', b.node('Mul', flat, b.real(-2.0))))


def classifier():
    b = Builder(x=(1, 6, 7, 5))
    x = b.node('Flatten', b.node('GlobalAveragePool', 'x'))
    x = b.node('Relu', b.node('Gemm', x, b.weight(9, 6), b.weight(9), transB=1))
    x = b.node('Gemm', x, b.weight(9, 4), b.weight(4), alpha=0.5, beta=2.0)
    return b.model(b.node('Softmax', x, axis=-1))


def reduced_by_mean():
    b = Builder(x=(1, 6, 7, 5))
    x = b.node('ReduceMean', 'x', axes=(2, 3), keepdims=0)
    x = b.node('Add', b.node('MatMul', x, b.weight(6, 3)), b.weight(3))
    return b.model(x)


def squeeze_and_excite():
    b = Builder(x=(1, 8, 9, 7))
    gate = b.conv(b.node('GlobalAveragePool', 'x'), 8, 4, kernel=1)
    gate = b.node('Sigmoid', b.conv(b.node('Relu', gate), 4, 8, kernel=1))
    return b.model(b.node('Mul', 'x', gate))


def pools():
    b = Builder(x=(1, 4, 11, 12))
    x = b.node('MaxPool', 'x', kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    y = b.node('AveragePool', 'x', kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    z = b.node('AveragePool', 'x', kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1),
               count_include_pad=1)
    return b.model(b.node('Concat', x, y, z, axis=1))


def pool_rounded_up():
    b = Builder(x=(1, 4, 12, 10))
    return b.model(b.node('MaxPool', 'x', kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1))


def split_and_joined():
    b = Builder(x=(1, 7, 6, 5))
    left, right = b.node('Split', 'x', b.whole(3, 4), outputs=2, axis=1)
    left = b.conv(left, 3, 4, pads=(1, 1, 1, 1))
    part = b.node('Slice', 'x', b.whole(2, 1), b.whole(6, 1000), b.whole(1, 3))
    part = b.node('Pad', part, b.whole(0, 0, 0, 1, 0, 0, 0, 0))
    return b.model(b.node('Concat', left, right, part, axis=1))


def padded_image():
    b = Builder(x=(1, 3, 6, 5))
    x = b.node('Pad', 'x', b.whole(0, 1, 2, 0, 0, 0, 1, 3), b.real(0.5))
    return b.model(b.conv(x, 4, 4))


def scalars():
    b = Builder(x=(1, 4, 5, 6))
    x = b.node('Sub', b.real(3.0), 'x')
    x = b.node('Div', b.real(2.0), b.node('Add', b.node('Abs', x), b.real(0.5)))
    return b.model(b.node('Pow', b.node('Sub', x, b.real(0.1)), b.real(2.0)))


def channel_constants():
    b = Builder(x=(1, 4, 5, 6))
    x = b.node('Mul', 'x', b.weight(1, 4, 1, 1))
    x = b.node('Sub', b.weight(4, 1, 1), x)
    gain = b.weight(4, 1, 1)
    return b.model(b.node('Max', b.node('Mul', x, gain), b.node('Add', x, gain)))


def shapes():
    b = Builder(x=(1, 4, 5, 6))
    x = b.node('Reshape', 'x', b.whole(0, 2, -1))
    x = b.node('Unsqueeze', b.node('Reshape', x, b.whole(1, 120)), b.whole(2))
    x = b.node('Squeeze', b.node('Relu', x), b.whole(2))
    return b.model(b.node('Reshape', x, b.whole(1, 6, 5, 4)))


def several_outputs():
    b = Builder(x=(1, 3, 8, 8), y=(1, 4, 6, 6))
    early = b.conv('x', 3, 4)
    late = b.node('Add', b.node('Relu', early), 'y')
    return b.model(early, b.node('Relu', late), late)


def output_is_a_view():
    b = Builder(x=(1, 3, 4, 4))
    x = b.conv('x', 3, 4, kernel=1)
    return b.model(b.node('Flatten', x), x)


def softmax_over_channels():
    b = Builder(x=(1, 5, 4, 3))
    return b.model(b.node('Softmax', b.conv('x', 5, 6, kernel=1), axis=1))


EVERYWHERE = (
    plain_convolution, strided_asymmetric_padding, dilated_without_bias, same_padding,
    depthwise_and_grouped, residual, normalised, normalised_input, activations,
    activations_behind_convolutions, input_changed_in_place, input_passed_on, classifier,
    reduced_by_mean, squeeze_and_excite, pools, pool_rounded_up, split_and_joined, padded_image,
    scalars, channel_constants, shapes, several_outputs, output_is_a_view,
    softmax_over_channels)


def quantised():
    b = Builder(x=(1, 3, 8, 8))
    scale, zero = b.real(0.05), b.weight(values=np.array(120, np.uint8))
    x = b.node('DequantizeLinear', b.node('QuantizeLinear', 'x', scale, zero), scale, zero)
    levels = b.random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    weight = b.node('DequantizeLinear', b.weight(values=levels),
                    b.weight(values=np.full(4, 0.01, np.float32)),
                    b.weight(values=np.zeros(4, np.int8)), axis=0)
    x = b.node('Relu', b.node('Conv', x, weight, b.weight(4)))
    return b.model(b.node('DequantizeLinear', b.node('QuantizeLinear', x, scale, zero), scale,
                          zero))


def transposed():
    b = Builder(x=(1, 3, 4, 5))
    return b.model(b.node('Transpose', 'x', perm=(0, 2, 3, 1)))


def of_another_domain():
    model = plain_convolution()
    model.graph.node[-1].domain = 'com.example'
    model.opset_import.append(helper.make_opsetid('com.example', 1))
    return model
