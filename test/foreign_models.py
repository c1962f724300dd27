# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models as users bring them."""
from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EDGE, CLASSES = 32, 5


def weights(seed=0):
    rng = np.random.default_rng(seed)

    def some(*shape):
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)
    return {'a.w': some(8, 3, 3, 3), 'b.w': some(8, 8, 3, 3), 'c.w': some(16, 8, 3, 3),
            'a.b': some(8), 'gain': 1 + some(8), 'shift': some(8), 'mean': some(8),
            'var': np.abs(some(8)) + 0.5, 'fc.w': some(CLASSES, 16), 'fc.b': some(CLASSES)}


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def conv(source, weight, name, bias=(), stride=1):
    return helper.make_node('Conv', [source, weight, *bias], [name], name, kernel_shape=[3, 3],
                            pads=[1, 1, 1, 1], strides=[stride, stride])


def body(source='image'):
    """Stem, batch normalisation, a block with a shortcut, a narrower stage, pooling."""
    return [conv(source, 'a.w', 'a', ['a.b'], 2),
            helper.make_node('BatchNormalization', ['a', 'gain', 'shift', 'mean', 'var'], ['n'],
                             'n'),
            helper.make_node('Relu', ['n'], ['r'], 'r'), conv('r', 'b.w', 'b'),
            helper.make_node('Add', ['b', 'r'], ['s'], 's'),
            helper.make_node('Relu', ['s'], ['t'], 't'), conv('t', 'c.w', 'c', (), 2),
            helper.make_node('Relu', ['c'], ['u'], 'u'),
            helper.make_node('GlobalAveragePool', ['u'], ['g'], 'g')]


def top(source='g', name='scores'):
    return [helper.make_node('Flatten', [source], ['f'], 'f'),
            helper.make_node('Gemm', ['f', 'fc.w', 'fc.b'], [name], 'fc', transB=1)]


def model_of(nodes, inputs, outputs, initialisers, opset=17, ir_version=8):
    graph = helper.make_graph(nodes, 'users', inputs, outputs, [
        numpy_helper.from_array(a, n) for n, a in initialisers.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)],
                             ir_version=ir_version)


def classifier(batch='N', **more):
    return model_of([*body(), *top()], [tensor('image', [batch, 3, EDGE, EDGE])],
                    [tensor('scores', [batch, CLASSES])], weights(), **more)


def ending_in_softmax():
    return model_of([*body(), *top(name='z'), helper.make_node('Softmax', ['z'], ['p'], 'p')],
                    [tensor('image', ['N', 3, EDGE, EDGE])], [tensor('p', ['N', CLASSES])],
                    weights())


def channels_last():
    turn = helper.make_node('Transpose', ['x'], ['image'], 'turn', perm=[0, 3, 1, 2])
    return model_of([turn, *body(), *top()], [tensor('x', [None, EDGE, EDGE, 3])],
                    [tensor('scores', [None, CLASSES])], weights())


def detector():
    """Two inputs, boxes and scores and a count of whole numbers, one output in the middle."""
    values = dict(weights(), shape=np.array([1, -1, 4], np.int64))
    nodes = [*body(), helper.make_node('Mul', ['u', 'focus'], ['v'], 'v'),
             helper.make_node('Reshape', ['v', 'shape'], ['boxes'], 'boxes'),
             helper.make_node('ReduceMax', ['boxes'], ['best'], 'best', axes=[2], keepdims=0),
             helper.make_node('ArgMax', ['best'], ['which'], 'which', axis=1, keepdims=0),
             helper.make_node('Sigmoid', ['r'], ['early'], 'early')]
    side = EDGE // 4
    return model_of(nodes, [tensor('image', ['N', 3, EDGE, EDGE]),
                            tensor('focus', [1, 16, side, side])],
                    [tensor('boxes', None), tensor('which', None, TensorProto.INT64),
                     tensor('early', None)], values)


def quantised():
    values = weights()
    nodes = body()
    scale = np.float32(np.abs(values['b.w']).max() / 127)
    whole = np.clip(np.round(values.pop('b.w') / scale), -127, 127).astype(np.int8)
    values.update({'b.q': whole, 'b.scale': scale, 'b.zero': np.int8(0)})
    nodes.insert(3, helper.make_node('DequantizeLinear', ['b.q', 'b.scale', 'b.zero'], ['b.w'],
                                     'dequantise'))
    return model_of([*nodes, *top()], [tensor('image', [1, 3, EDGE, EDGE])],
                    [tensor('scores', [1, CLASSES])], values)


def choosing_boxes():
    nodes = [helper.make_node('NonMaxSuppression', ['boxes', 'scores', 'most'], ['kept'], 'nms')]
    return model_of(nodes, [tensor('boxes', [1, 6, 4]), tensor('scores', [1, 2, 6])],
                    [tensor('kept', ['K', 3], TensorProto.INT64)],
                    {'most': np.array([3], np.int64)})


def save(model, path, *, beside=False):
    if beside:
        onnx.save(model, path, save_as_external_data=True, location=path.stem + '.data',
                  size_threshold=16, convert_attribute=False)
    else:
        path.write_bytes(model.SerializeToString())
    return path
