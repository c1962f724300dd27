# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Padding by an operator of its own, before one that pads itself.

Conv(Pad(x, p, 0), pads=q) = Conv(x, pads=p+q); AveragePool counts the zeros then; MaxPool ignores
its own padding, so the pad must be minus infinity, or zero on values that are never negative.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional, Tuple

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.clamps import clamp_of
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import integers, scalar

NAME = 'pad into window'
LOWEST = -3.4e38


def pads_of(graph: Graph, operator: Operator) -> Optional[Tuple[int, ...]]:
    """Return begins and ends of a Pad, None when they are computed."""
    given = operator.integers('pads')
    if given is not None:
        return given
    value = graph.value(operator.input(1))
    return None if value is None or operator.input(3) else integers(value)


def pad_value(graph: Graph, operator: Operator) -> Optional[float]:
    """Return the number that a Pad writes, None when it is computed."""
    if operator.input(2):
        return scalar(graph, operator.input(2))
    return operator.number('value', 0.0)


def _never_negative(graph: Graph, tensor: str) -> bool:
    maker = graph.producer(tensor)
    if maker is None:
        return False
    if maker.op_type == 'Sigmoid':
        return True
    clamp = clamp_of(graph, maker) if maker.op_type in ('Relu', 'Clip', 'Max') else None
    return clamp is not None and clamp.low >= 0.0 and clamp.high >= 0.0


class PadIntoWindow(Rule):
    """The window pads itself."""

    name = NAME
    op_types = ('Conv', 'AveragePool', 'MaxPool')

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operator and the Pad before it."""
        maker = graph.producer(operator.input(0))
        if maker is None or maker.op_type != 'Pad' or not maker.standard:
            return None
        return operator, maker

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse other modes, values, axes and readers."""
        operator, pad = match
        if graph.sole_reader(pad.output) is None:
            return '%s has other readers' % pad.name
        if pad.text('mode', 'constant') != 'constant':
            return '%s does not pad with a constant' % pad.name
        pads = pads_of(graph, pad)
        if pads is None or min(pads) < 0:
            return 'the pads of %s are computed or negative' % pad.name
        half = len(pads) // 2
        if any(pads[:2]) or any(pads[half:half + 2]):
            return '%s pads batch or channels' % pad.name
        if operator.text('auto_pad', 'NOTSET') not in ('NOTSET', 'VALID'):
            return 'it chooses its padding itself'
        return self._value_refusal(graph, operator, pad, pads)

    def _value_refusal(self, graph: Graph, operator: Operator, pad: Operator,
                       pads: Tuple[int, ...]) -> Optional[str]:
        value, half = pad_value(graph, pad), len(pads) // 2
        if value is None:
            return 'the number that %s writes is computed' % pad.name
        if operator.op_type == 'MaxPool':
            window = operator.integers('kernel_shape') or ()
            wide = [*pads[2:half], *pads[half + 2:]]
            own = operator.integers('pads') or (0,) * len(wide)
            if any(w + o >= k for w, o, k in zip(wide, own, window * 2)):
                return 'a window would lie in the padding only'
            if len(operator.outputs) > 1:
                return 'it gives the places of its maxima'
            zero_is_least = value == 0.0 and _never_negative(graph, pad.input(0))
            return None if value <= LOWEST or zero_is_least else (
                '%s writes %g, which may be the maximum' % (pad.name, value))
        if value != 0.0:
            return '%s writes %g, not zero' % (pad.name, value)
        if operator.op_type == 'AveragePool':
            if operator.integer('ceil_mode', 0):
                return 'its last windows may be incomplete'
            if any(operator.integers('pads') or ()) and not operator.integer(
                    'count_include_pad', 0):
                return 'it does not count its own padding'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Add the pads."""
        operator, pad = match
        pads = pads_of(graph, pad)
        assert pads is not None
        half = len(pads) // 2
        wide = (*pads[2:half], *pads[half + 2:])
        own = operator.integers('pads') or (0,) * len(wide)
        changed = operator.without_attributes(('auto_pad',)).with_attributes(
            {'pads': [a + b for a, b in zip(wide, own)]})
        if operator.op_type == 'AveragePool':
            changed = changed.with_attributes({'count_include_pad': 1})
        graph.update(replace(changed, inputs=(pad.input(0), *operator.inputs[1:])))
        graph.remove(pad, '%s pads itself' % operator.name, rule=self.name)


PASS = RulePass(NAME, [PadIntoWindow()])
