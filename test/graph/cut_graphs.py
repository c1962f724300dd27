# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random graphs of elementwise operators and small convolutions, with fixed shapes."""
from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

SHAPE = [1, 2, 4, 4]
UNARY = ('Relu', 'Sigmoid', 'Tanh', 'Neg')
BINARY = ('Add', 'Mul', 'Sub')


def value(name, shape=SHAPE):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def make(nodes, inputs, outputs, initialisers):
    graph = helper.make_graph(nodes, 'g', inputs, outputs, [
        numpy_helper.from_array(a, n) for n, a in initialisers.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)


@st.composite
def models(draw, most=12):
    """A connected or unconnected DAG: constants, shared weights, several inputs and outputs."""
    inputs = ['x%d' % i for i in range(draw(st.integers(1, 2)))]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weights = {'w%d' % i: (0.4 * rng.standard_normal((2, 2, 3, 3))).astype(np.float32)
               for i in range(2)}
    weights['b'] = rng.standard_normal(SHAPE).astype(np.float32)
    known, nodes, used = list(inputs) + ['b'], [], set()
    for index in range(draw(st.integers(2, most))):
        name = 't%d' % index
        kind = draw(st.sampled_from(('conv', 'unary', 'binary', 'binary', 'split')))
        recent = st.sampled_from(known[-3:] + known[:2])
        first = draw(recent)
        used.add(first)
        if kind == 'conv':
            nodes.append(helper.make_node(
                'Conv', [first, draw(st.sampled_from(('w0', 'w1')))], [name],
                kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        elif kind == 'unary':
            nodes.append(helper.make_node(draw(st.sampled_from(UNARY)), [first], [name]))
        elif kind == 'split':
            parts = [name + 'l', name + 'r']
            nodes.append(helper.make_node('Split', [first], parts, axis=1))
            nodes.append(helper.make_node('Concat', parts[::-1], [name], axis=1))
        else:
            second = draw(recent)
            used.add(second)
            nodes.append(helper.make_node(draw(st.sampled_from(BINARY)), [first, second], [name]))
        known.append(name)
    made = [n for n in known if n.startswith('t')]
    ends = [n for n in made if n not in used]
    extra = draw(st.lists(st.sampled_from(made), max_size=2, unique=True))
    outputs = list(dict.fromkeys(ends + extra))
    return make(nodes, [value(n) for n in inputs], [value(n) for n in outputs], weights)
