# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""If over a known condition is the branch that it takes."""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, Optional

import onnx
from onnx import numpy_helper

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator, operator_of
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass

NAME = 'known branch'


def taken_branch(graph: Graph, operator: Operator) -> Optional[onnx.GraphProto]:
    """Return the branch that an If takes, None when its condition is computed."""
    condition = graph.value(operator.input(0))
    if condition is None or condition.size != 1:
        return None
    chosen = 'then_branch' if bool(condition.reshape(())) else 'else_branch'
    return operator.attributes[chosen].g


class KnownBranch(Rule):
    """The operators of the branch stand where the If stood."""

    name = NAME
    op_types = ('If',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the If."""
        del graph
        return (operator,)

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse computed conditions and branches that have subgraphs themselves."""
        branch = taken_branch(graph, match[0])
        if branch is None:
            return 'its condition is computed'
        if any(a.HasField('g') or a.graphs for n in branch.node for a in n.attribute):
            return 'its branch has subgraphs of its own'
        return None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Move the branch out, its tensors under new names."""
        operator = match[0]
        branch = taken_branch(graph, operator)
        assert branch is not None
        names: Dict[str, str] = {}
        for tensor in branch.initializer:
            names[tensor.name] = graph.add_constant(
                '%s/%s' % (operator.name, tensor.name), numpy_helper.to_array(tensor))
        graph.remove(operator, 'its condition %s is constant' % operator.input(0), rule=self.name)
        for index, node in enumerate(branch.node):
            inner = operator_of(node, (), index)
            names.update({o: graph.new_name('%s/%s' % (operator.name, o))
                          for o in inner.outputs if o})
            moved = replace(inner, name=graph.new_name('%s/%s' % (operator.name, inner.name)),
                            inputs=tuple(names.get(i, i) for i in inner.inputs),
                            outputs=tuple(names.get(o, o) for o in inner.outputs))
            graph.add(moved, 'from the branch of %s that is taken' % operator.name,
                      near=operator, rule=self.name)
        for value, result in zip(branch.output, operator.outputs):
            graph.add(Operator(graph.new_name(operator.name + '/result'), 'Identity',
                               (names.get(value.name, value.name),), (result,)),
                      'result of the branch of %s' % operator.name, near=operator, rule=self.name)


PASS = RulePass(NAME, [KnownBranch()])
