# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Products over more than two axes, beside views: Reshape, Gemm, Reshape for MatMul, Add.

MatMul and Add become Gemm between two views. That pays where the views merge with others: with
the one before, with the ones of other products of the same tensor, with the one behind. It is done
for all products of a tensor together, and only where fewer operators are left.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Tuple

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Pass, PassResult
from crowdhmt_ros.graph.passes.gemm import FLOAT_TYPES
from crowdhmt_ros.graph.passes.operands import constant_operand, elements
from crowdhmt_ros.graph.passes.views import is_view

Pair = Tuple[Operator, Operator]


def pair_of(graph: Graph, product: Operator) -> Optional[Pair]:
    """Return a MatMul over more than two axes and the Add of its constant, None if it is none."""
    weights, shape = graph.value(product.input(1)), graph.shape(product.input(0))
    if product.op_type != 'MatMul' or weights is None or weights.ndim != 2 or shape is None:
        return None
    total = graph.sole_reader(product.output)
    if len(shape) < 3 or total is None or total.op_type != 'Add' or 0 in shape:
        return None
    bias = constant_operand(graph, total)
    if bias is None or graph.type_of(product.output).dtype not in FLOAT_TYPES:
        return None
    flat = bias.value.size == bias.value.shape[-1] if bias.value.ndim else True
    wide = bias.value.size in (1, weights.shape[1]) and bias.value.ndim <= len(shape)
    return (product, total) if flat and wide else None


def saved(graph: Graph, source: str, pairs: List[Pair]) -> int:
    """Return how many operators fewer the products of one tensor would take."""
    before = graph.producer(source)
    readers = {r.name for r in graph.readers(source)}
    vanishes = (is_view(graph, before) and source not in graph.outputs
                and readers == {p.name for p, _ in pairs})
    behind = 0
    for _, total in pairs:
        after = graph.readers(total.output)
        merges = bool(after) and total.output not in graph.outputs and all(
            is_view(graph, r) for r in after)
        behind += 0 if merges else 1
    return len(pairs) - behind - (0 if vanishes else 1)


class ProductsBesideViews(Pass):
    """Writes Reshape, Gemm, Reshape where views merge."""

    def call(self, graph: Graph) -> PassResult:
        """Look at all products of each tensor together."""
        groups: Dict[str, List[Pair]] = {}
        for operator in graph.operators:
            pair = pair_of(graph, operator) if operator.standard else None
            if pair is not None:
                groups.setdefault(operator.inputs[0], []).append(pair)
        work = graph.copy()
        for source, pairs in groups.items():
            if saved(graph, source, pairs) > 0:
                self._rewrite(work, source, pairs)
        changed = bool(work.removals)
        return PassResult(work if changed else graph, changed, tuple(work.removals),
                          tuple(work.additions))

    def _rewrite(self, work: Graph, source: str, pairs: List[Pair]) -> None:
        shape = work.shape(source)
        assert shape is not None
        flat = self._view(work, pairs[0][0], source, None, (elements(shape[:-1]), shape[-1]))
        for product, total in pairs:
            weights = product.inputs[1]
            bias = constant_operand(work, total)
            assert bias is not None
            name = total.inputs[bias.place]
            if bias.value.ndim > 2:
                name = work.add_constant(name + '_flat', bias.value.reshape(-1))
            made = work.new_name(product.output + '_flat')
            work.remove(total, 'added by Gemm %s' % product.name, rule=self.name)
            work.update(replace(product, op_type='Gemm', inputs=(flat, weights, name),
                                outputs=(made,)))
            columns = int(work.constants[weights].shape[1])
            self._view(work, product, made, total.output, (*shape[:-1], columns))

    def _view(self, work: Graph, near: Operator, source: str, result: Optional[str],
              shape: Tuple[int, ...]) -> str:
        made = work.new_name(source + '_view') if result is None else result
        target = work.add_constant(made + '_shape', np.asarray(shape, np.int64))
        work.add(Operator(work.new_name(near.name + '/view'), 'Reshape', (source, target),
                          (made,)), 'Gemm takes two axes', near=near, rule=self.name)
        return made


PASS = ProductsBesideViews('products beside views')
