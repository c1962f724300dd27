# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Slices in a row: x[a:b:s][c:d:t] = x[a + s c : ... : s t], per axis, extents known."""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, Optional

import numpy as np

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.operands import integers, positive

NAME = 'slice chains'
OPERANDS_AS_INPUTS = 10


def ranges_of(graph: Graph, operator: Operator) -> Optional[Dict[int, range]]:
    """Return which positions a Slice takes per axis, None when that is not known."""
    shape = graph.type_of(operator.input(0)).shape
    if graph.opset < OPERANDS_AS_INPUTS or shape is None:
        return None
    operands = [graph.value(operator.input(i)) for i in range(1, 5)]
    if any(v is None and operator.input(i + 1) for i, v in enumerate(operands)):
        return None
    known = [None if v is None else integers(v) for v in operands]
    starts, ends = known[0], known[1]
    if starts is None or ends is None:
        return None
    axes = positive(known[2] if known[2] is not None else range(len(starts)), len(shape))
    steps = known[3] if known[3] is not None else (1,) * len(starts)
    found: Dict[int, range] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps):
        extent = shape[axis]
        if extent is None or step < 1:
            return None
        found[axis] = range(extent)[start:end:step]
    return found


class MergeSlices(Rule):
    """A slice of a slice is a slice."""

    name = NAME
    op_types = ('Slice',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the second and the first."""
        first = graph.producer(operator.input(0))
        return (operator, first) if first is not None and first.op_type == 'Slice' else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse what is computed or runs backwards."""
        known = [ranges_of(graph, o) for o in match]
        return 'bounds or extents are not known, or a step is negative' if None in known else None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Write one slice."""
        operator, first = match
        outer, inner = ranges_of(graph, operator), ranges_of(graph, first)
        assert outer is not None
        assert inner is not None
        both = dict(inner)
        for axis, taken in outer.items():
            both[axis] = both[axis][taken.start:taken.stop:taken.step] if axis in both else taken
        axes = sorted(both)
        columns = {'starts': [both[a].start for a in axes], 'ends': [both[a].stop for a in axes],
                   'axes': axes, 'steps': [both[a].step for a in axes]}
        names = [graph.add_constant('%s_%s' % (operator.name, n), np.asarray(v, np.int64))
                 for n, v in columns.items()]
        graph.update(replace(operator, inputs=(first.input(0), *names)))
        if not graph.uses(first.output):
            graph.remove(first, 'merged with %s: both slice' % operator.name, rule=self.name)


PASS = RulePass(NAME, [MergeSlices()])
