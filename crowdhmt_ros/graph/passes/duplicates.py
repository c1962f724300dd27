# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The same thing twice: equal constants, and equal operators of equal operands.

Constants are equal when type, shape and bytes are; operators when type, attributes and operands
are and they draw no random numbers.
"""
from __future__ import annotations

from typing import Dict, Hashable, Optional, Tuple

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator
from crowdhmt_ros.graph.passes.contract import Pass, PassResult, Refusal
from crowdhmt_ros.graph.passes.fold import RANDOM


def _operator_key(operator: Operator) -> Optional[Hashable]:
    if operator.op_type in RANDOM or operator.captured or not operator.standard:
        return None
    attributes = tuple(sorted((n, a.SerializeToString(deterministic=True))
                              for n, a in operator.attributes.items()))
    return operator.op_type, operator.inputs, len(operator.outputs), attributes


class DuplicateConstants(Pass):
    """c1 = c2: the readers of c2 read c1; a kept constant is left alone."""

    def call(self, graph: Graph) -> PassResult:
        """Compare all constants by content."""
        work = graph.copy()
        first: Dict[Tuple[str, Tuple[int, ...], bytes], str] = {}
        merged = 0
        for name, value in graph.constants.items():
            if name in graph.keep or name in graph.outputs or graph.is_captured(name):
                continue
            if value.dtype.hasobject:
                continue
            twin = first.setdefault((str(value.dtype), value.shape, value.tobytes()), name)
            if twin != name:
                work.reroute(name, twin)
                work.drop_constant(name)
                merged += 1
        return PassResult(work, True) if merged else PassResult(graph, False)


class CommonSubexpressions(Pass):
    """f(x), f(x): the readers of the second read the first."""

    def call(self, graph: Graph) -> PassResult:
        """Visit makers before readers, so that whole chains collapse in one go."""
        work, refused = graph.copy(), []
        first: Dict[Hashable, str] = {}
        for name in [o.name for o in graph.operators]:
            operator = work.named(name)
            key = _operator_key(operator)
            twin = None if key is None else work.named(first.setdefault(key, name))
            if twin is None or twin is operator:
                continue
            reason = _why_not(work, operator, twin)
            if reason is None:
                _merge(work, operator, twin, self.name)
            else:
                refused.append(Refusal(name, operator.op_type, self.name, reason))
        changed = bool(work.removals)
        return PassResult(work if changed else graph, changed, tuple(work.removals),
                          refused=tuple(refused))


def _why_not(work: Graph, operator: Operator, twin: Operator) -> Optional[str]:
    for old, new in zip(operator.outputs, twin.outputs):
        if bool(old) != bool(new):
            return '%s leaves out other outputs' % twin.name
        reason = work.why_not_bypass(old, new) if old else None
        if reason is not None:
            return reason
    if len(operator.outputs) > 1 and any(o in work.outputs for o in operator.outputs):
        return 'several outputs, one of them of the graph'
    return None


def _merge(work: Graph, operator: Operator, twin: Operator, rule: str) -> None:
    reason = 'it computes the same as %s' % twin.name
    for old, new in zip(operator.outputs[1:], twin.outputs[1:]):
        if old:
            work.reroute(old, new)
    if operator.output:
        work.bypass(operator, twin.output, reason, rule=rule)
    else:
        work.remove(operator, reason, rule=rule)


CONSTANTS = DuplicateConstants('duplicate constants')
PASS = CommonSubexpressions('common sub-expressions')
