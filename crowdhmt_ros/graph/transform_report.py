# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the transformation removed from a network and why, as text and as JSON. Offline."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.graph.operator import Addition
from crowdhmt_ros.graph.passes.contract import PassResult, Refusal, Rewritten

STAGES = ('set to inference', 'fused or removed', 'constant')


@dataclass(frozen=True)
class RemovedOperator:
    """
    One operator that is gone.

    :param stage: 1 fused or removed, 2 constant
    """

    node: str
    op_type: str
    rule: str
    reason: str
    stage: int


@dataclass(frozen=True)
class TransformReport:
    """
    What happened to a network.

    :param operators: operators that are left, by type
    :param removed: in the order of their removal; also those that a rule had put in before
    :param added: operators that a rule put in or set to inference
    :param rewritten: operators that stand in their place as another type
    :param refused: places where a rule's pattern fits still and why it may not apply
    :param constant: operators that depended on no input at first
    :param dynamic: the others
    :param max_abs_diff: largest difference on random inputs, on the scale of each output's
        largest value or of 1; None when it was not verified
    """

    nodes_before: int
    nodes_after: int
    operators: Mapping[str, int]
    removed: Tuple[RemovedOperator, ...]
    added: Tuple[Addition, ...]
    rewritten: Tuple[Rewritten, ...]
    refused: Tuple[Refusal, ...]
    constant: int
    dynamic: int
    max_abs_diff: Optional[float]

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def to_text(self) -> str:
        """Return the report for people: a summary, then one line per operator."""
        difference = ('not verified' if self.max_abs_diff is None
                      else 'largest difference %.1e' % self.max_abs_diff)
        lines = ['%d operators, %d before; %d were constant, %d dynamic; %s'
                 % (self.nodes_after, self.nodes_before, self.constant, self.dynamic, difference)]
        lines += ['left: ' + ', '.join('%d %s' % (count, kind) for kind, count
                                       in sorted(self.operators.items()))]
        for stage in (1, 2):
            lines += _stage_lines(stage, [r for r in self.removed if r.stage == stage])
        lines += ['added %s %s (%s): %s' % (a.op_type, a.node, a.rule, a.reason)
                  for a in self.added]
        lines += ['rewritten %s %s (%s): as %s' % (r.before, r.node, r.rule, r.after)
                  for r in self.rewritten]
        lines += ['kept %s %s (%s): %s' % (r.op_type, r.node, r.rule, r.reason)
                  for r in self.refused]
        return '\n'.join(lines) + '\n'

    def by_rule(self) -> Dict[str, int]:
        """Count the removed operators by rule."""
        return dict(Counter(r.rule for r in self.removed))


def removed_in(stage: int, result: PassResult) -> Iterator[RemovedOperator]:
    """Yield what one run of a pass removed."""
    for removal in result.removed:
        yield RemovedOperator(removal.node, removal.op_type, removal.rule, removal.reason, stage)


def _stage_lines(stage: int, removed: Sequence[RemovedOperator]) -> List[str]:
    lines = ['stage %d, %s: %d operators' % (stage, STAGES[stage], len(removed))]
    return lines + ['  removed %s %s (%s): %s' % (r.op_type, r.node, r.rule, r.reason)
                    for r in removed]
