# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A network exported while it trains, set to inference.

BatchNormalization uses its running statistics instead of the batch's, Dropout drops nothing. This
alone changes numbers, on purpose: what is verified later is verified against this.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Optional

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Addition, Operator
from crowdhmt_ros.graph.passes.contract import Match, Rule, RulePass
from crowdhmt_ros.graph.passes.linear import trains

NAME = 'inference'


class NormaliseByStatistics(Rule):
    """BatchNormalization normalises by its running statistics."""

    name = NAME
    op_types = ('BatchNormalization',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return a normalisation that trains."""
        del graph
        return (operator,) if trains(operator) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse when the statistics of the batch are read."""
        read = [o for o in match[0].outputs[1:] if o and graph.uses(o)]
        return 'its statistics %s are read' % ', '.join(read) if read else None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Drop the attribute and the further outputs."""
        operator = match[0]
        graph.update(replace(operator, outputs=operator.outputs[:1]).without_attributes(
            ('training_mode',)))
        graph.additions.append(Addition(operator.name, operator.op_type, self.name,
                                        'set to inference: uses its running statistics'))


class DropNothing(Rule):
    """Dropout outside training."""

    name = NAME
    op_types = ('Dropout',)

    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return a Dropout whose training flag is a constant that is set."""
        flag = graph.value(operator.input(2))
        return (operator,) if flag is not None and bool(flag.any()) else None

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Refuse when the mask is read."""
        masks = [o for o in match[0].outputs[1:] if o and graph.uses(o)]
        return 'its mask %s is read' % ', '.join(masks) if masks else None

    def rewrite(self, graph: Graph, match: Match) -> None:
        """Leave the training flag out."""
        operator = match[0]
        graph.update(replace(operator, inputs=operator.inputs[:2], outputs=operator.outputs[:1]))
        graph.additions.append(Addition(operator.name, operator.op_type, self.name,
                                        'set to inference: drops nothing'))


PASS = RulePass(NAME, [NormaliseByStatistics(), DropNothing()])
