# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Matrix products: MatMul(x, W) + b = Gemm(x, W, b) on two axes.

Gemm(Transpose(x), W) sets transA; Gemm(flat(Transpose(x)), W) = Gemm(flat(x), W') with the rows of
W in the other order, which is how networks of channels-last converters end.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional, Tuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import elements, is_kept, permutation
from crowdhmt_ros.graph.passes.views import VIEWS

NAME = 'gemm'
FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def _other(operator: Operator, tensor: str) -> str:
    return operator.inputs[1] if operator.inputs[0] == tensor else operator.inputs[0]


def spreads_over(graph: Graph, bias: str, rows: Optional[int], columns: Optional[int]) -> bool:
    """Whether a tensor broadcasts to (rows, columns) and no further."""
    shape = graph.shape(bias)
    if shape is None or len(shape) > 2 or columns is None:
        return False
    first = shape[0] if len(shape) == 2 else 1
    return (shape[-1] if shape else 1) in (1, columns) and first in (1, rows)


class MatMulAdd(Rule):
    """MatMul and Add on two axes are one Gemm."""

    name = NAME
    op_types = ('Add',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the Add and the MatMul of two axes."""
        for tensor in operator.inputs:
            maker = graph.producer(tensor)
            if (maker is not None and maker.op_type == 'MatMul' and maker.standard
                    and [graph.rank(t) for t in maker.inputs] == [2, 2]):
                return operator, maker
        return None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, other types, and a summand that widens the product."""
        operator, product = match
        if graph.sole_reader(product.output) is None:
            return 'the result of %s has other readers' % product.name
        known = graph.type_of(product.output)
        if known.dtype not in FLOAT_TYPES or known.shape is None:
            return 'its numbers are not known to be floating-point'
        if not spreads_over(graph, _other(operator, product.output), *known.shape):
            return 'its summand does not broadcast to the product'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write Gemm in the place of MatMul."""
        operator, product = match
        inputs = (*product.inputs, _other(operator, product.output))
        graph.remove(operator, 'added by Gemm %s' % product.name, rule=self.name)
        graph.update(replace(product, op_type='Gemm', inputs=inputs, outputs=operator.outputs))


class TransposeIntoGemm(Rule):
    """Gemm transposes its operands itself."""

    name = NAME
    op_types = ('Gemm',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the Gemm and a transposition of one of its operands."""
        for tensor in operator.inputs[:2]:
            maker = graph.producer(tensor)
            if (maker is not None and maker.op_type == 'Transpose'
                    and permutation(graph, maker) == (1, 0)):
                return operator, maker
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Turn transA or transB round."""
        operator, transpose = match
        index = operator.inputs.index(transpose.output)
        name = ('transA', 'transB')[index]
        inputs = tuple(transpose.input(0) if i == index else t
                       for i, t in enumerate(operator.inputs))
        graph.update(replace(operator, inputs=inputs).with_attributes(
            {name: 1 - operator.integer(name, 0)}))
        if not graph.uses(transpose.output):
            graph.remove(transpose, '%s transposes itself' % operator.name, rule=self.name)


class FlatTranspose(Rule):
    """Gemm(flat(Transpose(x)), W) = Gemm(flat(x), W')."""

    name = NAME
    op_types = ('Gemm', 'MatMul')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the product, the flattening view and the transposition before it."""
        view = graph.producer(operator.input(0))
        if view is None or view.op_type not in VIEWS:
            return None
        transpose = graph.producer(view.input(0))
        if transpose is None or transpose.op_type != 'Transpose':
            return None
        return operator, view, transpose

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, weights that vary or must stay, and a batch that moves."""
        operator, view, transpose = match
        weights = graph.value(operator.input(1))
        if weights is None or weights.ndim != 2 or operator.integer('transA', 0):
            return 'its weights are not constant'
        for maker in match[1:]:
            if graph.sole_reader(maker.output) is None:
                return '%s has other readers' % maker.name
        perm = permutation(graph, transpose)
        shape = graph.type_of(transpose.input(0)).shape
        rows = weights.shape[1 if operator.integer('transB', 0) else 0]
        if perm is None or perm[0] != 0 or shape is None or None in shape[1:]:
            return 'the transposition moves the batch, or extents are not known'
        if graph.rank(view.output) != 2 or elements([e or 0 for e in shape[1:]]) != rows:
            return '%s does not flatten all but the batch' % view.name
        return is_kept(graph, operator.inputs[1])

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Put the rows of the weights into the order of the elements."""
        operator, view, transpose = match
        weights, transposed = graph.constants[operator.inputs[1]], operator.integer('transB', 0)
        places = _places(graph, transpose)
        rows = weights.T if transposed else weights
        moved = np.empty_like(rows)
        moved[places] = rows
        name = graph.add_constant(operator.inputs[1] + '_moved', np.ascontiguousarray(
            moved.T if transposed else moved))
        inner = graph.new_name(view.output + '_moved')
        graph.remove(transpose, 'the rows of the weights of %s are in its order' % operator.name,
                     rule=self.name)
        graph.types[inner] = graph.type_of(view.output)
        graph.update(replace(view, inputs=(transpose.input(0), *view.inputs[1:]),
                             outputs=(inner,)))
        graph.update(replace(operator, inputs=(inner, name, *operator.inputs[2:])))


def _places(graph: Graph, transpose: Operator) -> NDArray[np.int_]:
    """Return for each element of a sample's transposition its place before."""
    shape = tuple(e or 1 for e in graph.type_of(transpose.input(0)).shape or ())[1:]
    perm: Tuple[int, ...] = permutation(graph, transpose) or ()
    places = np.arange(elements(shape)).reshape(shape)
    return np.ravel(places.transpose([axis - 1 for axis in perm[1:]]))


PASS = RulePass(NAME, [MatMulAdd(), TransposeIntoGemm(), FlatTranspose()])
