# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Linear fusion: two matrix products with nothing between are one, where one is cheaper.

(x W1 + b1) W2 + b2 = x (W1 W2) + (b1 W2 + b2): a low-rank pair multiplied again. The first may be
MatMul and Add, the second too.
"""
from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import bias_of, output_channels, why_not_linear
from crowdhmt_ros.graph.passes.operands import along_axis, constant_operand, elements, is_kept
from crowdhmt_ros.graph.passes.windows import WORD_MACS, weights_of

NAME = 'compose products'
Doubles = NDArray[np.float64]
PRODUCTS = ('Gemm', 'MatMul')


class Product(NamedTuple):
    """
    x W + b, by one operator or by MatMul and Add.

    :param total: the Add of MatMul's constant, None without
    """

    operator: Operator
    total: Optional[Operator]

    @property
    def result(self) -> str:
        """What it makes."""
        return (self.total or self.operator).output


def summand(graph: Graph, product: Operator, total: Operator) -> Optional[Doubles]:
    """Return the constant that an Add adds to each output channel of a MatMul."""
    found, channels = constant_operand(graph, total), output_channels(graph, product)
    rank = graph.rank(product.output)
    if found is None or channels is None or rank is None:
        return None
    return along_axis(found.value, rank, rank - 1, channels)


def product_of(graph: Graph, tensor: str) -> Optional[Product]:
    """Return the product that makes a tensor, with the constant that is added to it."""
    maker = graph.producer(tensor)
    if maker is None or not maker.standard:
        return None
    if maker.op_type in PRODUCTS:
        return Product(maker, None)
    found = constant_operand(graph, maker) if maker.op_type == 'Add' else None
    below = None if found is None else graph.producer(found.tensor)
    if below is None or below.op_type != 'MatMul' or summand(graph, below, maker) is None:
        return None
    return Product(below, maker)


def matrix_of(graph: Graph, operator: Operator) -> Doubles:
    """Return the weights of a product, (inputs, outputs)."""
    weights = weights_of(graph, operator)
    turned = weights.T if operator.integer('transB', 0) else weights
    return turned * operator.number('alpha', 1.0)


class ComposeProducts(Rule):
    """(x W1 + b1) W2 = x (W1 W2) + b1 W2."""

    name = NAME
    op_types = PRODUCTS

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second, the first, and the sum between if there is one."""
        first = product_of(graph, operator.input(0))
        if first is None:
            return None
        return (operator, first.operator, *([first.total] if first.total else []))

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers, weights that vary or must stay, and what costs more."""
        operator, first = match[:2]
        for part in match[1:]:
            if graph.sole_reader(part.output) is None:
                return '%s has other readers' % part.name
        reason = why_not_linear(graph, operator) or why_not_linear(graph, first) or is_kept(
            graph, *(i for o in match for i in o.inputs))
        if reason is not None:
            return reason
        if np.any(_bias(graph, match)) and operator.op_type == 'MatMul' and (
                graph.rank(operator.input(0)) != 2) and _sum_behind(graph, operator) is None:
            return 'MatMul has no bias and more than two axes'
        return _dearer(graph, operator, first)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Multiply the weights."""
        operator, first = match[:2]
        one, two = matrix_of(graph, first), matrix_of(graph, operator)
        kind = graph.constants[operator.inputs[1]].dtype
        bias = _bias(graph, match)
        name = graph.add_constant(operator.inputs[1] + '_composed', (one @ two).astype(kind))
        inputs, op_type = [first.input(0), name], 'MatMul'
        if operator.op_type == 'Gemm' or (np.any(bias) and graph.rank(first.input(0)) == 2):
            op_type = 'Gemm'
            inputs.append(graph.add_constant(operator.name + '_bias', bias.astype(kind)))
        elif np.any(bias):
            operator = _move_bias(graph, operator, bias)
        for part in match[1:]:
            graph.remove(part, 'multiplied into the weights of %s' % operator.name,
                         rule=self.name)
        graph.update(replace(operator, op_type=op_type, inputs=tuple(inputs), attributes={}))


def _bias(graph: Graph, match: Match) -> Doubles:
    """Return the bias of both, the Add behind a MatMul not counted."""
    operator, first = match[:2]
    own, below = bias_of(graph, operator), bias_of(graph, first)
    assert own is not None
    assert below is not None
    if len(match) > 2:
        added = summand(graph, first, match[2])
        assert added is not None
        below = below + added
    moved: Doubles = below @ matrix_of(graph, operator) + own
    return moved


def _sum_behind(graph: Graph, operator: Operator) -> Optional[Operator]:
    """Return the Add that gives a MatMul its constant."""
    total = graph.sole_reader(operator.output)
    if total is None or total.op_type != 'Add' or summand(graph, operator, total) is None:
        return None
    return None if is_kept(graph, *total.inputs) else total


def _move_bias(graph: Graph, operator: Operator, bias: Doubles) -> Operator:
    """Add the bias to the constant behind a MatMul; return the MatMul under its new result."""
    total = _sum_behind(graph, operator)
    assert total is not None
    added = summand(graph, operator, total)
    assert added is not None
    kind = graph.constants[operator.inputs[1]].dtype
    name = graph.add_constant(total.name + '_bias', (added + bias).astype(kind))
    made = graph.new_name(operator.output + '_composed')
    graph.types[made] = graph.type_of(operator.output)
    moved = replace(operator, outputs=(made,))
    graph.update(moved)
    graph.update(replace(total, inputs=(made, name)))
    return moved


def _dearer(graph: Graph, operator: Operator, first: Operator) -> Optional[str]:
    source = graph.shape(first.input(0))
    if source is None:
        return 'the extents of %s are not known' % first.input(0)
    rows = elements(source[:-1])
    inputs, middle = matrix_of(graph, first).shape
    outputs = matrix_of(graph, operator).shape[1]

    def cost(*extents: Tuple[int, int]) -> int:
        return sum(rows * a * b + WORD_MACS * (a * b + rows * (a + b)) for a, b in extents)

    before, after = cost((inputs, middle), (middle, outputs)), cost((inputs, outputs))
    return None if after <= before else (
        'as one it would take %.1f times as long' % (after / before))


PASS = RulePass(NAME, [ComposeProducts()])
