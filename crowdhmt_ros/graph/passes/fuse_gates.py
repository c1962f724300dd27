# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Element-wise fusion: gates that a converter wrote out, as one operator.

d clip(x + b, 0, h) = HardSigmoid(x) with alpha = d, beta = d b, for d h = 1; x HardSigmoid(x) with
alpha 1/6 and beta 1/2 = HardSwish(x) from opset 14 on; 1 / (1 + exp(-x)) = Sigmoid(x);
max(x, a x) = LeakyRelu(x) for 0 <= a <= 1.
"""
from __future__ import annotations

from dataclasses import replace
from typing import List, Optional, Tuple

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.clamps import clamp_of
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.gemm import FLOAT_TYPES
from crowdhmt_ros.graph.passes.operands import constant_operand, is_kept, scalar

NAME = 'gates'
SWISH_SINCE = 14
CLOSE = 1e-6


def number_beside(graph: Graph, operator: Operator) -> Optional[Tuple[str, float, int]]:
    """Return the other operand, the single number and its place of a binary operator."""
    found = constant_operand(graph, operator)
    value = None if found is None else scalar(graph, operator.inputs[found.place])
    if found is None or value is None or found.value.ndim > (graph.rank(found.tensor) or 0):
        return None
    return found.tensor, value, found.place


def made_by(graph: Graph, tensor: str, *kinds: str) -> Optional[Operator]:
    """Return the operator that makes a tensor if it is of one of some types."""
    maker = graph.producer(tensor)
    return maker if maker is not None and maker.op_type in kinds and maker.standard else None


def why_not_inner(graph: Graph, match: Match) -> Optional[str]:
    """Return why the operators behind the first of a match may not go, None when they may."""
    for part in match[1:]:
        if graph.sole_reader(part.output) is None:
            return '%s has other readers' % part.name
    if graph.type_of(match[0].output).dtype not in FLOAT_TYPES:
        return 'its numbers are not known to be floating-point'
    return is_kept(graph, *(i for o in match for i in o.inputs))


def factor_of(graph: Graph, operator: Operator) -> Optional[Tuple[str, float]]:
    """Return what a Mul or Div by a single number multiplies, and by what."""
    found = number_beside(graph, operator)
    if found is None or operator.op_type not in ('Mul', 'Div'):
        return None
    tensor, value, place = found
    if operator.op_type == 'Div':
        return (tensor, 1.0 / value) if place == 1 and value else None
    return tensor, value


class _Written(Rule):
    """A chain that becomes its last operator."""

    name = NAME

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers and constants that must stay."""
        return why_not_inner(graph, match)

    def become(self, graph: Graph, match: Match, op_type: str, source: str,
               **attributes: float) -> None:
        """Write one operator in the place of a chain."""
        for part in match[1:]:
            graph.remove(part, 'a step of %s %s' % (op_type, match[0].name), rule=self.name)
        graph.update(replace(match[0], op_type=op_type, inputs=(source,), attributes={}
                             ).with_attributes(attributes))


class HardSigmoid(_Written):
    """d clip(x + b, 0, h); Mul(y, clip(x + b, 0, h)) d scales either operand."""

    op_types = ('Mul', 'Div')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the factor, the clip and the sum."""
        found = factor_of(graph, operator)
        clip = None if found is None else made_by(graph, found[0], 'Clip', 'Min', 'Relu')
        clamp = None if clip is None else clamp_of(graph, clip)
        total = None if clamp is None else made_by(graph, clamp.tensor, 'Add')
        if found is None or clip is None or clamp is None or total is None:
            return None
        if clamp.low != 0.0 or abs(clamp.high * found[1] - 1.0) > CLOSE:
            return None
        return (operator, clip, total) if number_beside(graph, total) is not None else None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write HardSigmoid."""
        found, below = factor_of(graph, match[0]), number_beside(graph, match[2])
        assert found is not None
        assert below is not None
        self.become(graph, match, 'HardSigmoid', below[0], alpha=found[1],
                    beta=found[1] * below[1])


class FactorIntoGate(Rule):
    """d (y clip(...)) = y (d clip(...)): then the clip is a HardSigmoid."""

    name = NAME
    op_types = ('Mul', 'Div')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the factor, the product and the clip whose range it makes 0..1."""
        found = factor_of(graph, operator)
        product = None if found is None else made_by(graph, found[0], 'Mul')
        if found is None or product is None:
            return None
        for tensor in product.inputs:
            clip = made_by(graph, tensor, 'Clip')
            clamp = None if clip is None else clamp_of(graph, clip)
            if (clip is not None and clamp is not None and clamp.low == 0.0
                    and abs(clamp.high * found[1] - 1.0) <= CLOSE
                    and made_by(graph, clamp.tensor, 'Add') is not None):
                return operator, product, clip
        return None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other readers."""
        return why_not_inner(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Let both operators change places."""
        operator, product, clip = match
        place = 0 if graph.value(operator.inputs[0]) is not None else 1
        scaled = graph.new_name(clip.output + '_gate')
        graph.types[scaled] = graph.type_of(clip.output)
        inner = tuple(operator.inputs[place] if i == place else clip.output for i in (0, 1))
        outer = tuple(scaled if t == clip.output else t for t in product.inputs)
        graph.remove(product, 'multiplies behind %s' % clip.name, rule=self.name)
        graph.update(replace(operator, inputs=inner, outputs=(scaled,)))
        graph.add(Operator(graph.new_name(product.name + '/gate'), 'Mul', outer,
                           operator.outputs), 'what %s multiplied' % product.name,
                  near=product, rule=self.name)


class HardSwish(_Written):
    """x HardSigmoid(x)."""

    op_types = ('Mul',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the product and the gate."""
        for tensor, other in (operator.inputs, operator.inputs[::-1]):
            gate = made_by(graph, tensor, 'HardSigmoid')
            if gate is not None and gate.input(0) == other and self._usual(gate):
                return operator, gate
        return None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse older opsets too."""
        if graph.opset < SWISH_SINCE:
            return 'HardSwish is there from opset %d on' % SWISH_SINCE
        return super().check(graph, match)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write HardSwish."""
        self.become(graph, match, 'HardSwish', match[1].input(0))

    @staticmethod
    def _usual(gate: Operator) -> bool:
        return (abs(gate.number('alpha', 0.2) - 1 / 6) <= CLOSE
                and abs(gate.number('beta', 0.5) - 0.5) <= CLOSE)


class WrittenSigmoid(_Written):
    """1 / (1 + exp(-x))."""

    op_types = ('Div', 'Reciprocal')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the quotient, the sum, the exponential and the negation."""
        below = operator.input(0)
        if operator.op_type == 'Div':
            if scalar(graph, operator.inputs[0]) != 1.0:
                return None
            below = operator.inputs[1]
        chain: List[Operator] = [operator]
        for kind in ('Add', 'Exp', 'Neg'):
            maker = made_by(graph, below, kind)
            found = number_beside(graph, maker) if maker is not None and kind == 'Add' else None
            if maker is None or (kind == 'Add' and (found is None or found[1] != 1.0)):
                return None
            chain.append(maker)
            below = maker.input(0) if found is None else found[0]
        widened = graph.rank(below) is None or graph.rank(below) != graph.rank(operator.output)
        return None if widened else tuple(chain)

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write Sigmoid."""
        self.become(graph, match, 'Sigmoid', match[-1].input(0))


class WrittenLeaky(_Written):
    """max(x, a x)."""

    op_types = ('Max',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the maximum and the product."""
        if len(operator.inputs) != 2:
            return None
        for tensor, other in (operator.inputs, operator.inputs[::-1]):
            product = made_by(graph, tensor, 'Mul')
            found = None if product is None else factor_of(graph, product)
            if product is not None and found is not None and found[0] == other and (
                    0.0 <= found[1] <= 1.0):
                return operator, product
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write LeakyRelu."""
        found = factor_of(graph, match[1])
        assert found is not None
        self.become(graph, match, 'LeakyRelu', found[0], alpha=found[1])


PASS = RulePass(NAME, [HardSigmoid(), FactorIntoGate(), HardSwish(), WrittenSigmoid(),
                       WrittenLeaky()])
