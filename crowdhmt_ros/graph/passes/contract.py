# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The one contract of all passes: requires, call, ensures. Offline.

A pass takes a graph, leaves it as it is, and returns another one with what was removed and why.
`ensures` does not believe the pass: it compares the graphs before and after.
"""
from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

from crowdhmt_ros.errors import ExportError, all_problems
from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Addition, Operator, Removal

Match = Tuple[Operator, ...]
SWEEPS = 1000


@dataclass(frozen=True)
class Refusal:
    """A place where a rule's pattern fits but the rule may not apply, and why."""

    node: str
    op_type: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Rewritten:
    """An operator that stands in its place as another type."""

    node: str
    before: str
    after: str
    rule: str


@dataclass(frozen=True, eq=False)
class PassResult:
    """
    What a pass made of a graph.

    :param model: the graph after the pass, the same object when nothing changed
    :param modified: whether something changed
    :param rewritten: filled in by the contract, not by the pass
    """

    model: Graph
    modified: bool
    removed: Tuple[Removal, ...] = ()
    added: Tuple[Addition, ...] = ()
    refused: Tuple[Refusal, ...] = ()
    rewritten: Tuple[Rewritten, ...] = ()


class Pass(abc.ABC):
    """
    One rewrite of a graph.

    :param name: as it stands in the report
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def requires(self, graph: Graph) -> None:
        """Bring types and shapes up to date, which every pass relies on."""
        graph.refresh()

    @abc.abstractmethod
    def call(self, graph: Graph) -> PassResult:
        """Rewrite a copy of the graph."""

    def ensures(self, before: Graph, result: PassResult) -> None:
        """
        Check what the pass claims.

        :raises ExportError: an operator vanished or appeared without a record, a tensor has no
            maker, or inputs or outputs changed
        """
        problems = broken_promises(before, result)
        if problems:
            raise ExportError('pass %s: %s; report this as a defect'
                              % (self.name, all_problems(problems)))

    def __call__(self, graph: Graph) -> PassResult:
        """Require, call, ensure."""
        self.requires(graph)
        result = self.call(graph)
        self.ensures(graph, result)
        return replace(result, rewritten=_rewritten(graph, result.model, self.name))


def _rewritten(before: Graph, after: Graph, rule: str) -> Tuple[Rewritten, ...]:
    if after is before:
        return ()
    old = {o.name: o.op_type for o in before.operators}
    return tuple(Rewritten(o.name, old[o.name], o.op_type, rule) for o in after.operators
                 if old.get(o.name, o.op_type) != o.op_type)


def broken_promises(before: Graph, result: PassResult) -> List[str]:
    """Return what does not hold of a pass's result."""
    after = result.model
    if after is before and not (result.modified or result.removed or result.added):
        return []
    old = {o.name for o in before.operators}
    new = {o.name for o in after.operators}
    removed, added = {r.node for r in result.removed}, {a.node for a in result.added}
    problems = ['%s vanished without a record' % n for n in sorted(old - new - removed)]
    problems += ['%s appeared without a record' % n for n in sorted(new - old - added)]
    problems += ['%s is on record as removed but is there' % n for n in sorted(removed & new)]
    if (before.inputs, before.outputs) != (after.inputs, after.outputs):
        problems.append('inputs or outputs changed')
    known = {'', *after.inputs, *after.constants}
    known.update(t for o in after.operators for t in o.outputs)
    problems += ['nothing makes %s' % t for o in after.operators
                 for t in (*o.inputs, *o.captured) if t not in known]
    problems += ['nothing makes the output %s' % t for t in after.outputs if t not in known]
    if not result.modified and after is not before:
        problems.append('a changed graph is called unmodified')
    return problems


class Rule(abc.ABC):
    """
    One algebraic identity: where it may fit, why it may not apply, what to write instead.

    :param name: as it stands in the report
    """

    name: str
    op_types: Tuple[str, ...] = ()

    @abc.abstractmethod
    def pattern(self, graph: Graph, operator: Operator) -> Optional[Match]:
        """Return the operators that form the pattern around one, None when it does not fit."""

    def check(self, graph: Graph, match: Match) -> Optional[str]:
        """Return why the rule may not apply, None when it may."""
        del graph, match
        return None

    @abc.abstractmethod
    def rewrite(self, graph: Graph, match: Match) -> None:
        """Change the graph."""


class RulePass(Pass):
    """Applies rules in order until none of them applies any more."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        super().__init__(name)
        self.rules = tuple(rules)

    def call(self, graph: Graph) -> PassResult:
        """Sweep over the operators until a sweep changes nothing."""
        work, modified = graph.copy(), False
        for _ in range(SWEEPS):
            refused: Dict[Refusal, None] = {}
            changed = self._sweep(work, refused)
            modified |= changed
            if not changed:
                break
        return PassResult(work if modified else graph, modified, tuple(work.removals),
                          tuple(work.additions), tuple(refused))

    def _sweep(self, work: Graph, refused: Dict[Refusal, None]) -> bool:
        work.refresh()
        changed = False
        for operator in work.operators:
            for rule in self.rules:
                if operator in work and operator.standard and operator.op_type in rule.op_types:
                    changed |= _apply(rule, work, operator, refused)
        return changed


def _apply(rule: Rule, work: Graph, operator: Operator, refused: Dict[Refusal, None]) -> bool:
    match = rule.pattern(work, operator)
    if match is None:
        return False
    reason = rule.check(work, match)
    if reason is not None:
        refused[Refusal(operator.name, operator.op_type, rule.name, reason)] = None
        return False
    rule.rewrite(work, match)
    return True
