# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs on which one rule applies, and graphs on which it refuses."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='rewriting graphs needs the extra train')
pytest.importorskip('onnxruntime')

from crowdhmt_ros.graph.passes import (  # noqa: E402
    affine,
    branches,
    casts,
    chains,
    clamps,
    concats,
    constant_nodes,
    dead_code,
    duplicates,
    fold,
    gemm,
    identity,
    layer_norm,
    pads,
    products,
    push_transposes,
    reductions,
    shapes,
    slices,
    transposes,
    views,
)

RNG = np.random.default_rng(7)
IMAGE = 'float[1,4,6,6] x'


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def spread(*shape: int) -> Any:
    return (0.5 + RNG.random(shape)).astype(np.float32)


def whole(*values: int) -> Any:
    return np.asarray(values, np.int64)


def number(value: float) -> Any:
    return np.asarray(value, np.float32)


def written(inputs: str, outputs: str, body: str, constants: Mapping[str, Any], opset: int = 17):
    """Return the model of ONNX's own text form with some initialisers."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : %d]> g (%s) => (%s) { %s }'
        % (opset, inputs, outputs, body))
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for index, node in enumerate(model.graph.node):
        node.name = 'n%d' % index
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass(frozen=True)
class Case:
    """A graph, a pass, and what operators the pass leaves (or the reason why it refuses)."""

    name: str
    rewrite: Any
    inputs: str
    outputs: str
    body: str
    left: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    keep: Tuple[str, ...] = ()
    opset: int = 17

    def model(self):
        return written(self.inputs, self.outputs, self.body, self.constants, self.opset)


NORM = {'g': spread(4), 'b': normal(4), 'm': normal(4), 'v': spread(4)}
W1 = {'w': normal(4, 4, 1, 1)}
W3 = {'w': normal(4, 4, 3, 3)}
X4, Y4 = IMAGE, 'float[1,4,6,6] y'
ROWS, COLS = 'float[3,4] x', 'float[3,5] y'
HEADS = 'float[2,6,8] x'

APPLIES = [
    Case('identity', identity.PASS, X4, Y4, 't = Relu(x) y = Identity(t)', 'Relu'),
    Case('dropout', identity.PASS, X4, Y4, 't = Dropout(x) y = Relu(t)', 'Relu'),
    Case('dropout with a false flag', identity.PASS, X4, Y4, 't = Dropout(x, r, f) y = Relu(t)',
         'Relu', {'r': number(0.5), 'f': np.asarray(False)}),
    Case('cast to the same type', identity.PASS, X4, Y4, 't = Cast<to=1>(x) y = Relu(t)', 'Relu'),
    Case('transposition of nothing', identity.PASS, X4, Y4,
         't = Transpose<perm=[0,1,2,3]>(x) y = Relu(t)', 'Relu'),
    Case('transposition of single elements', identity.PASS, 'float[1,1,5] x', 'float[1,1,5] y',
         't = Transpose<perm=[1,0,2]>(x) y = Relu(t)', 'Relu'),
    Case('reshape to the same shape', identity.PASS, X4, Y4, 't = Reshape(x, s) y = Relu(t)',
         'Relu', {'s': whole(1, 4, -1, 6)}),
    Case('flatten of what is flat', identity.PASS, ROWS, 'float[3,4] y',
         't = Flatten<axis=1>(x) y = Relu(t)', 'Relu'),
    Case('pad by nothing', identity.PASS, X4, Y4, 't = Pad(x, p) y = Relu(t)', 'Relu',
         {'p': whole(*[0] * 8)}),
    Case('concat of one', identity.PASS, X4, Y4, 't = Concat<axis=1>(x) y = Relu(t)', 'Relu'),
    Case('slice of everything', identity.PASS, X4, Y4, 't = Slice(x, a, b, c) y = Relu(t)',
         'Relu', {'a': whole(0), 'b': whole(99), 'c': whole(2)}),
    Case('times one', identity.PASS, X4, Y4, 't = Mul(c, x) y = Relu(t)', 'Relu',
         {'c': np.ones((1, 4, 1, 1), np.float32)}),
    Case('plus and minus zero', identity.PASS, X4, Y4, 't = Add(x, c) u = Sub(t, c) y = Relu(u)',
         'Relu', {'c': number(0.0)}),
    Case('divided by one and to the first', identity.PASS, X4, Y4,
         't = Div(x, c) u = Pow(t, c) y = Relu(u)', 'Relu', {'c': number(1.0)}),
    Case('expand and tile to the same shape', identity.PASS, X4, Y4,
         't = Expand(x, s) u = Tile(t, r) y = Relu(u)', 'Relu',
         {'s': whole(1, 4, 1, 1), 'r': whole(1, 1, 1, 1)}),
    Case('pools over single elements', identity.PASS, 'float[1,4,1,1] x', 'float[1,4,1,1] y',
         't = GlobalAveragePool(x) u = MaxPool<kernel_shape=[1,1]>(t) y = Relu(u)', 'Relu'),
    Case('identity at the end takes the name over', identity.PASS, X4, Y4,
         't = Relu(x) u = Identity(t) y = Identity(u)', 'Relu'),
    Case('constant nodes', constant_nodes.PASS, X4, Y4,
         'c = Constant<value_float=2.0>() y = Mul(x, c)', 'Mul'),
    Case('a transposition and its inverse', transposes.PASS, X4, Y4,
         't = Transpose<perm=[0,2,3,1]>(x) u = Transpose<perm=[0,3,1,2]>(t) y = Relu(u)', 'Relu'),
    Case('two transpositions that do not cancel', transposes.PASS, X4, 'float[6,1,4,6] y',
         't = Transpose<perm=[0,2,3,1]>(x) y = Transpose<perm=[2,0,3,1]>(t)', 'Transpose'),
    Case('the default permutation twice', transposes.PASS, X4, Y4,
         't = Transpose(x) u = Transpose(t) y = Relu(u)', 'Relu'),
    Case('views in a row', views.PASS, X4, 'float[4,36] y',
         't = Flatten<axis=2>(x) u = Unsqueeze(t, a) v = Squeeze(u, a) y = Reshape(v, s)',
         'Reshape', {'a': whole(0), 's': whole(4, -1)}),
    Case('a transposition of single extents is a view', views.PASS, 'float[1,4,1,6] x',
         'float[4,6] y', 't = Transpose<perm=[1,0,3,2]>(x) y = Reshape(t, s)', 'Reshape',
         {'s': whole(4, 6)}),
    Case('elements that end where they began', views.PASS, 'float[2,3,4] x', 'float[2,12] y',
         't = Transpose<perm=[1,2,0]>(x) u = Reshape(t, s) y = Transpose<perm=[1,0]>(u)',
         'Reshape', {'s': whole(12, 2)}),
    Case('normalisation after convolution', affine.PASS, X4, Y4,
         't = Conv(x, w, c) y = BatchNormalization(t, g, b, m, v)', 'Conv',
         {**W1, **NORM, 'c': normal(4)}),
    Case('normalisation after grouped convolution without bias', affine.PASS, X4,
         'float[1,4,4,4] y', 't = Conv<group=2>(x, w) y = BatchNormalization(t, g, b, m, v)',
         'Conv', {'w': normal(4, 2, 3, 3), **NORM}),
    Case('normalisation after transposed convolution', affine.PASS, 'float[1,6,3,3] x',
         'float[1,4,6,6] y', 't = ConvTranspose<group=2, strides=[2,2], kernel_shape=[2,2]>(x, w) '
         'y = BatchNormalization(t, g, b, m, v)', 'ConvTranspose',
         {'w': normal(6, 2, 2, 2), **NORM}),
    Case('normalisation after a fully connected layer', affine.PASS, ROWS, 'float[3,4] y',
         't = Gemm<transB=1, beta=0.5>(x, w, c) y = BatchNormalization(t, g, b, m, v)', 'Gemm',
         {'w': normal(4, 4), 'c': normal(4), **NORM}),
    Case('normalisation after a product', affine.PASS, ROWS, 'float[3,4] y',
         't = MatMul(x, w) y = BatchNormalization(t, g, b, m, v)', 'Gemm',
         {'w': normal(4, 4), **NORM}),
    Case('factor, quotient, summand and difference after convolution', affine.PASS, X4, Y4,
         't = Conv(x, w) u = Mul(t, a) p = Div(u, d) q = Add(c, p) y = Sub(c, q)', 'Conv',
         {**W1, 'a': spread(1, 4, 1, 1), 'd': spread(4, 1, 1), 'c': normal(4, 1, 1)}),
    Case('normalisation before convolution', affine.PASS, X4, Y4,
         't = BatchNormalization(x, g, b, m, v) y = Conv(t, w, c)', 'Conv',
         {**W1, **NORM, 'c': normal(4)}),
    Case('factor before padded grouped convolution', affine.PASS, X4, Y4,
         't = Mul(x, a) y = Conv<group=2, pads=[1,1,1,1]>(t, w)', 'Conv',
         {'w': normal(4, 2, 3, 3), 'a': spread(4, 1, 1)}),
    Case('affine before a fully connected layer', affine.PASS, ROWS, COLS,
         't = Sub(x, a) u = Mul(t, b) y = Gemm<alpha=0.5>(u, w, c)', 'Gemm',
         {'w': normal(4, 5), 'c': normal(5), 'a': normal(4), 'b': spread(4)}),
    Case('factor through views', affine.PASS, HEADS, 'float[2,2,6,4] y',
         't = MatMul(x, w) u = Add(c, t) v = Reshape(u, s) p = Transpose<perm=[0,2,1,3]>(v) '
         'y = Mul(p, f)', 'MatMul Add Reshape Transpose',
         {'w': normal(8, 8), 'c': normal(8), 's': whole(2, 6, 2, 4), 'f': number(0.3)}),
    Case('factor per column after product and sum', affine.PASS, HEADS, 'float[2,6,8] y',
         't = MatMul(x, w) u = Add(t, c) y = Mul(u, f)', 'MatMul Add',
         {'w': normal(8, 8), 'c': normal(8), 'f': spread(8)}),
    Case('sums in a row', chains.PASS, X4, Y4, 't = Add(a, x) u = Sub(t, b) y = Add(u, a)', 'Add',
         {'a': normal(4, 1, 1), 'b': number(0.3)}),
    Case('products in a row', chains.PASS, X4, Y4, 't = Mul(x, a) y = Div(t, b)', 'Mul',
         {'a': number(0.3), 'b': spread(4, 1, 1)}),
    Case('pad before convolution', pads.PASS, X4, 'float[1,4,7,7] y',
         't = Pad(x, p, z) y = Conv<pads=[1,0,0,1]>(t, w)', 'Conv',
         {**W3, 'p': whole(0, 0, 0, 1, 0, 0, 2, 1), 'z': number(0.0)}),
    Case('pad before the average', pads.PASS, X4, 'float[1,4,3,3] y',
         't = Pad(x, p) y = AveragePool<kernel_shape=[3,3], strides=[2,2]>(t)', 'AveragePool',
         {'p': whole(0, 0, 0, 0, 0, 0, 1, 1)}),
    Case('pad with zeros before the maximum of what is not negative', pads.PASS, X4,
         'float[1,4,3,3] y', 'r = Relu(x) t = Pad(r, p) '
         'y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(t)', 'Relu MaxPool',
         {'p': whole(0, 0, 0, 0, 0, 0, 1, 1)}),
    Case('max and min', clamps.PASS, X4, Y4, 't = Max(x, a) y = Min(b, t)', 'Clip',
         {'a': number(0.0), 'b': number(0.5)}),
    Case('relu and clip', clamps.PASS, X4, Y4, 't = Relu(x) u = Clip(t, a, b) y = Relu(u)',
         'Clip', {'a': number(-1.0), 'b': number(0.5)}),
    Case('relu of relu', clamps.PASS, X4, Y4, 't = Relu(x) y = Relu(t)', 'Relu'),
    Case('clamps that leave one value', clamps.PASS, X4, Y4, 't = Clip(x, a, b) y = Min(t, c)',
         'Clip', {'a': number(0.2), 'b': number(0.5), 'c': number(-0.3)}),
    Case('casts that lose nothing', casts.PASS, 'int32[4] x', 'float[4] y',
         't = Cast<to=7>(x) u = Cast<to=11>(t) y = Cast<to=1>(u)', 'Cast'),
    Case('slices in a row', slices.PASS, HEADS, 'float[1,2,2] y',
         't = Slice(x, a, b, c, d) u = Slice(t, e, f, c) y = Slice(u, g, h)', 'Slice',
         {'a': whole(1, 0), 'b': whole(8, 6), 'c': whole(2, 1), 'd': whole(3, 2),
          'e': whole(0, 1), 'f': whole(-1, 9), 'g': whole(1), 'h': whole(2)}),
    Case('concatenations in a row', concats.PASS, HEADS, 'float[2,18,8] y',
         't = Concat<axis=1>(x, x) y = Concat<axis=-2>(x, t, e)', 'Concat',
         {'e': np.zeros((2, 0, 8), np.float32)}),
    Case('joining what was split', concats.PASS, HEADS, 'float[2,6,8] y',
         'a, b = Split<axis=1>(x, s) t = Concat<axis=1>(a, b) y = Relu(t)', 'Split Relu',
         {'s': whole(2, 4)}),
    Case('reduction that takes its axes back', reductions.PASS, HEADS, 'float[2,1,8] y',
         't = ReduceMean<axes=[1], keepdims=0>(x) y = Unsqueeze(t, a)', 'ReduceMean',
         {'a': whole(1)}),
    Case('reduction that drops its axes', reductions.PASS, HEADS, 'float[2,8] y',
         't = ArgMax<axis=1>(x) u = Squeeze(t, a) y = Cast<to=1>(u)', 'ArgMax Cast',
         {'a': whole(1)}),
    Case('transposition behind what works by element', push_transposes.PASS, X4,
         'float[1,6,6,4] y', 't = Transpose<perm=[0,2,3,1]>(x) u = Add(t, c) y = Sigmoid(u)',
         'Add Sigmoid Transpose', {'c': normal(4)}),
    Case('two transpositions behind a sum', push_transposes.PASS, X4, 'float[1,6,6,4] y',
         'a = Neg(x) t = Transpose<perm=[0,2,3,1]>(a) u = Transpose<perm=[0,2,3,1]>(x) '
         'y = Mul(t, u)', 'Neg Mul Transpose'),
    Case('transposition behind concat, softmax and pad', push_transposes.PASS, X4,
         'float[1,7,8,8] y', 't = Transpose<perm=[0,2,3,1]>(x) u = Concat<axis=3>(t, t) '
         'v = Softmax<axis=-1>(u) y = Pad(v, p)', 'Concat Softmax Pad Transpose',
         {'p': whole(0, 1, 0, 0, 0, 0, 2, 0)}),
    Case('transposition behind reductions', push_transposes.PASS, X4, 'float[1,6] y',
         't = Transpose<perm=[0,2,3,1]>(x) u = ReduceSum<keepdims=1>(t, a) '
         'y = ReduceMax<axes=[2,3], keepdims=0>(u)', 'ReduceSum ReduceMax Transpose',
         {'a': whole(-2)}),
    Case('product and sum', gemm.PASS, ROWS, COLS, 't = MatMul(x, w) y = Add(c, t)', 'Gemm',
         {'w': normal(4, 5), 'c': normal(5)}),
    Case('transposed operands', gemm.PASS, 'float[4,3] x', COLS,
         't = Transpose(x) v = Transpose<perm=[1,0]>(w) y = Gemm(t, v)', 'Gemm',
         {'w': normal(5, 4)}),
    Case('flattened transposition', gemm.PASS, 'float[2,3,4,5] x', 'float[2,7] y',
         't = Transpose<perm=[0,2,3,1]>(x) u = Reshape(t, s) y = Gemm<transB=1>(u, w)',
         'Reshape Gemm', {'s': whole(2, 60), 'w': normal(7, 60)}),
    Case('products of one tensor beside views', products.PASS, HEADS,
         'float[2,6,2,4] y, float[2,6,2,4] z', 't = MatMul(x, w) u = Add(t, c) '
         'y = Reshape(u, s) p = MatMul(x, v) q = Add(p, c) z = Reshape(q, s)',
         'Reshape Gemm Gemm Reshape Reshape Reshape Reshape',
         {'w': normal(8, 8), 'v': normal(8, 8), 'c': normal(8), 's': whole(2, 6, 2, 4)}),
    Case('fixed shapes', shapes.PASS, HEADS, 'float[2,6,8] y, int64[3] z, int64 n',
         'z = Shape(x) n = Size(x) y = Relu(x)', 'Relu'),
    Case('part of a shape that is open elsewhere', shapes.PASS, 'float[N,6,8] x',
         'float[8] y, float[N,6,8] z',
         's = Shape(x) a = Gather<axis=0>(s, i) y = Expand(o, a) z = Relu(x)',
         'Shape Expand Relu', {'i': whole(2), 'o': number(3.0)}),
    Case('computed target', shapes.PASS, 'float[N,6,8] x', 'float[N,48] y',
         's = Shape(x) a = Slice(s, o, e) b = Concat<axis=0>(a, c) y = Reshape(x, b)',
         'Shape Slice Concat Reshape', {'o': whole(0), 'e': whole(1), 'c': whole(48)}),
    Case('folding', fold.PASS, X4, Y4, 't = Transpose<perm=[1,0,2,3]>(c) u = Neg(t) '
         'y = Add(x, u)', 'Add', {'c': normal(4, 1, 1, 1)}),
    Case('folding what the graph gives out', fold.PASS, X4, 'float[1,4,6,6] y, float[4] z',
         'z = Neg(c) y = Relu(x)', 'Relu', {'c': normal(4)}),
    Case('dead code', dead_code.PASS, X4, Y4, 'a = Neg(x) b = Exp(a) y = Relu(x)', 'Relu',
         {'unused': normal(3)}),
    Case('the same twice', duplicates.PASS, X4, Y4, 'a = Neg(x) b = Neg(x) c = Exp(a) d = Exp(b) '
         'y = Add(c, d)', 'Neg Exp Add'),
    Case('the same twice, both given out under other names', duplicates.PASS, X4,
         'float[1,4,6,6] y, float[1,4,6,6] z', 'a = Neg(x) y = Relu(a) b = Neg(x) z = Exp(b)',
         'Neg Relu Exp'),
    Case('equal constants', duplicates.CONSTANTS, X4, Y4, 'a = Add(x, c) y = Mul(a, d)',
         'Add Mul', {'c': number(2.0), 'd': number(2.0)}),
    Case('known branch', branches.PASS, X4, Y4, 'y = If(c) <'
         'then_branch = t () => (float[1,4,6,6] p) { q = Neg(x) p = Add(q, k) }, '
         'else_branch = e () => (float[1,4,6,6] r) { r = Exp(x) }>', 'Neg Add Identity',
         {'c': np.asarray(True), 'k': number(0.5)}),
    Case('layer normalisation', layer_norm.PASS, HEADS, 'float[2,6,8] y',
         'm = ReduceMean<axes=[-1]>(x) c = Sub(x, m) q = Pow(c, two) '
         'v = ReduceMean<axes=[-1]>(q) s = Add(v, eps) r = Sqrt(s) d = Div(c, r) e = Mul(d, g) '
         'y = Add(b, e)', 'LayerNormalization',
         {'two': number(2.0), 'eps': number(1e-5), 'g': spread(8), 'b': normal(1, 8)}),
]

REFUSES = [
    Case('identity between an input and an output', identity.PASS, X4, Y4, 'y = Identity(x)',
         'is not computed'),
    Case('identity between two outputs', identity.PASS, X4, 'float[1,4,6,6] y, float[1,4,6,6] z',
         'y = Relu(x) z = Identity(y)', 'both read by name'),
    Case('identity read by a subgraph', identity.PASS, 'float[2] x, bool f', 'float[2] y',
         't = Identity(x) y = If(f) <then_branch = a () => (float[2] p) { p = Neg(t) }, '
         'else_branch = b () => (float[2] q) { q = Exp(t) }>', 'a subgraph reads t'),
    Case('transpositions that do not cancel', transposes.PASS, X4,
         'float[1,6,4,6] y, float[1,6,6,4] z', 't = Transpose<perm=[0,2,3,1]>(x) '
         'y = Transpose<perm=[0,1,3,2]>(t) z = Relu(t)', 'has other readers'),
    Case('views of open shapes', views.PASS, 'float[N,M,6] x', 'float[N,M,3,2] y',
         't = Unsqueeze(x, a) y = Reshape(t, s)', 'more than one extent', {
             'a': whole(3), 's': whole(0, 0, 3, 2)}),
    Case('normalisation of what others read', affine.PASS, X4, 'float[1,4,6,6] y, '
         'float[1,4,6,6] z', 't = Conv(x, w) y = BatchNormalization(t, g, b, m, v) z = Relu(t)',
         'has other readers', {**W1, **NORM}),
    Case('normalisation by the batch', affine.PASS, X4, Y4, 't = Conv(x, w) '
         'y, p, q = BatchNormalization<training_mode=1>(t, g, b, m, v)', 'by the batch',
         {**W1, **NORM}),
    Case('weights that must stay', affine.PASS, X4, Y4,
         't = Conv(x, w) y = BatchNormalization(t, g, b, m, v)', 'w must stay', {**W1, **NORM},
         ('w',)),
    Case('weights that are computed', affine.PASS, 'float[1,4,6,6] x, float[4,4,1,1] k', Y4,
         't = Conv(x, k) y = BatchNormalization(t, g, b, m, v)', 'are not constant', NORM),
    Case('a factor per place', affine.PASS, X4, Y4, 't = Conv(x, w) y = Mul(t, a)',
         'not one per channel', {**W1, 'a': spread(6, 1)}),
    Case('a shift before padding', affine.PASS, X4, Y4,
         't = BatchNormalization(x, g, b, m, v) y = Conv<pads=[1,1,1,1]>(t, w)',
         'reach the zeros', {**W3, **NORM}),
    Case('a sum after a product of three axes', affine.PASS, HEADS, 'float[2,6,8] y',
         't = MatMul(x, w) y = Add(t, c)', 'MatMul has no bias',
         {'w': normal(8, 8), 'c': normal(8)}),
    Case('a factor with more axes', affine.PASS, 'float[3,8] x', 'float[1,1,6,4] y',
         't = MatMul(x, w) u = Reshape(t, s) y = Mul(u, f)', 'adds axes',
         {'w': normal(8, 8), 's': whole(6, 4), 'f': spread(1, 1, 1, 1)}),
    Case('constants that would grow', chains.PASS, 'float[3,4] x', 'float[3,4] y',
         't = Add(x, a) y = Add(t, b)', 'larger than both', {'a': normal(3, 1), 'b': normal(4)}),
    Case('a sum that others read', chains.PASS, X4, 'float[1,4,6,6] y, float[1,4,6,6] z',
         't = Add(x, a) y = Add(t, a) z = Relu(t)', 'has other readers', {'a': number(1.0)}),
    Case('padding with ones', pads.PASS, X4, Y4, 't = Pad(x, p, o) y = Conv(t, w)',
         'writes 1, not zero', {**W3, 'p': whole(0, 0, 1, 1, 0, 0, 1, 1), 'o': number(1.0)}),
    Case('padding by reflection', pads.PASS, X4, Y4, 't = Pad<mode="reflect">(x, p) '
         'y = Conv(t, w)', 'with a constant', {**W3, 'p': whole(0, 0, 1, 1, 0, 0, 1, 1)}),
    Case('padding channels', pads.PASS, 'float[1,3,6,6] x', 'float[1,4,6,6] y',
         't = Pad(x, p) y = Conv(t, w)', 'batch or channels',
         {**W1, 'p': whole(0, 1, 0, 0, 0, 0, 0, 0)}),
    Case('padding before a maximum that may be negative', pads.PASS, X4, 'float[1,4,3,3] y',
         't = Pad(x, p) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(t)',
         'may be the maximum', {'p': whole(0, 0, 0, 0, 0, 0, 1, 1)}),
    Case('padding before an average that does not count its own', pads.PASS, X4,
         'float[1,4,7,7] y', 't = Pad(x, p) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>'
         '(t)', 'does not count', {'p': whole(0, 0, 0, 0, 0, 0, 1, 1)}),
    Case('crossed bounds', clamps.PASS, X4, Y4, 't = Clip(x, a, b) y = Relu(t)', 'crossed',
         {'a': number(1.0), 'b': number(-1.0)}),
    Case('a clamp that others read', clamps.PASS, X4, 'float[1,4,6,6] y, float[1,4,6,6] z',
         't = Relu(x) y = Min(t, a) z = Neg(t)', 'has other readers', {'a': number(1.0)}),
    Case('casts that may lose', casts.PASS, 'float[4] x', 'float[4] y',
         't = Cast<to=7>(x) y = Cast<to=1>(t)', 'may change values'),
    Case('slices that run backwards', slices.PASS, HEADS, 'float[2,6,4] y',
         't = Slice(x, a, b, c, d) y = Slice(t, e, f, c)', 'negative',
         {'a': whole(-1), 'b': whole(-99), 'c': whole(2), 'd': whole(-1), 'e': whole(0),
          'f': whole(4)}),
    Case('a concatenation that others read', concats.PASS, HEADS,
         'float[2,18,8] y, float[2,12,8] z', 't = Concat<axis=1>(x, x) y = Concat<axis=1>(x, t) '
         'z = Relu(t)', 'readers of other kinds'),
    Case('a reduction that others read', reductions.PASS, HEADS, 'float[2,1,8] y, float[2,8] z',
         't = ReduceMean<axes=[1], keepdims=0>(x) y = Unsqueeze(t, a) z = Relu(t)',
         'has other readers', {'a': whole(1)}),
    Case('different permutations', push_transposes.PASS, 'float[2,4,4,4] x', 'float[2,4,4,4] y',
         't = Transpose<perm=[0,2,3,1]>(x) u = Transpose<perm=[0,3,2,1]>(x) y = Add(t, u)',
         'transposed differently'),
    Case('an operand that is not transposed', push_transposes.PASS, 'float[2,4,4,4] x',
         'float[2,4,4,4] y', 't = Transpose<perm=[0,2,3,1]>(x) y = Add(t, x)',
         'x is not transposed'),
    Case('a transposition that stays', push_transposes.PASS, X4,
         'float[1,6,6,4] y, float[1,6,6,4] z', 't = Transpose<perm=[0,2,3,1]>(x) y = Relu(t) '
         'z = Identity(t)', 'has other readers'),
    Case('softmax of old opsets', push_transposes.PASS, X4, 'float[1,6,6,4] y',
         't = Transpose<perm=[0,2,3,1]>(x) y = Softmax<axis=3>(t)', 'several axes', opset=11),
    Case('a summand that widens', gemm.PASS, 'float[1,4] x', 'float[3,5] y',
         't = MatMul(x, w) y = Add(t, c)', 'does not broadcast',
         {'w': normal(4, 5), 'c': normal(3, 5)}),
    Case('a batch that moves', gemm.PASS, 'float[3,2,4] x', 'float[2,7] y',
         't = Transpose<perm=[1,2,0]>(x) u = Flatten<axis=1>(t) y = Gemm(u, w)',
         'moves the batch', {'w': normal(12, 7)}),
    Case('an open shape', shapes.PASS, 'float[N,6] x', 'int64[2] y', 'y = Shape(x)',
         'not fixed'),
    Case('folding what must stay', fold.PASS, X4, Y4, 't = Neg(c) y = Add(x, t)',
         'c must stay', {'c': normal(4, 1, 1)}, ('c',)),
    Case('folding what would grow', fold.PASS, 'float[1] x', 'float[1024,1024] y',
         't = Expand(c, s) y = Add(x, t)', 'would make the model larger',
         {'c': normal(1), 's': whole(1024, 1024)}),
    Case('the same twice, both given out', duplicates.PASS, X4,
         'float[1,4,6,6] y, float[1,4,6,6] z', 'y = Neg(x) z = Neg(x)', 'both read by name'),
    Case('a computed condition', branches.PASS, 'float[2] x, bool f', 'float[2] y',
         'y = If(f) <then_branch = a () => (float[2] p) { p = Neg(x) }, '
         'else_branch = b () => (float[2] q) { q = Exp(x) }>', 'condition is computed'),
    Case('layer normalisation before its opset', layer_norm.PASS, HEADS, 'float[2,6,8] y',
         'm = ReduceMean<axes=[-1]>(x) c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes=[-1]>(q) '
         's = Add(v, eps) r = Sqrt(s) y = Div(c, r)', 'from opset 17', {'eps': number(1e-5)},
         opset=16),
]
