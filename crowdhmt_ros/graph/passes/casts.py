# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Casts in a row: Cast(Cast(x, s), t) = Cast(x, t) when s holds every value of x's type."""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np
from onnx import helper

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass

NAME = 'cast chains'


def holds(source: int, target: int) -> bool:
    """Whether every value of one type has its like in another."""
    try:
        one, two = (np.dtype(helper.tensor_dtype_to_np_dtype(t)) for t in (source, target))
    except KeyError:
        return False
    if one.kind in 'iu' and one.itemsize == 8 and two.kind == 'f':
        return False
    return one.kind in 'biuf' and two.kind in 'biuf' and np.can_cast(one, two, 'safe')


class MergeCasts(Rule):
    """The first of two casts that loses nothing is skipped."""

    name = NAME
    op_types = ('Cast',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        first = graph.producer(operator.input(0))
        return (operator, first) if first is not None and first.op_type == 'Cast' else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse when the first cast may change a value."""
        kind = graph.type_of(match[1].input(0)).dtype
        if kind == 0 or not holds(kind, match[1].integer('to', 0)):
            return 'the first cast may change values'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Read what the first cast reads."""
        operator, first = match
        graph.update(replace(operator, inputs=first.inputs))
        if not graph.uses(first.output):
            graph.remove(first, 'it loses nothing and %s casts again' % operator.name,
                         rule=self.name)


PASS = RulePass(NAME, [MergeCasts()])
