# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Operator fusion: five families of rewrites, tried progressively (P III-C1). Offline.

Clean-up and fusion. Clean-up only takes away what nobody needs (copies, duplicates, what is dead
or constant, transpositions and views that cancel): it is right for every engine and is done once,
when a network is imported. Fusion lets fewer operators do the same arithmetic. A rule of fusion
belongs to one family. The transformation uses those that are never a trade, as the paper's first
stage does (`graph.transform`); here they and the others are sets of families of which each segment
of a bundle keeps the useful ones, and the robot chooses by engine. All results are standard
operators.

Which rules make up a family, and the order in which they are tried, are *reconstructed*.
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Container, Dict, List, NamedTuple, Optional, Sequence, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.model import Graph, read_graph
from crowdhmt_ros.graph.operator import Addition, Removal
from crowdhmt_ros.graph.passes.contract import Pass, PassResult, Refusal, Rewritten
from crowdhmt_ros.graph.rules import CLEAN, CLEAN_UP, FAMILIES
from crowdhmt_ros.graph.transform import ROUNDS, TOLERANCE, checked, difference_of

NONE = 'none'
"""Name of the set without families."""
JOINT = '+'


@dataclass(frozen=True)
class FamilyReport:
    """
    What the rules of one family did.

    :param refused: places where a pattern fits and why the rule may not apply
    """

    family: str
    removed: Tuple[Removal, ...]
    added: Tuple[Addition, ...]
    rewritten: Tuple[Rewritten, ...]
    refused: Tuple[Refusal, ...]


@dataclass(frozen=True)
class FusionReport:
    """
    What fusion made of a graph.

    :param nodes_before: operators after the clean-up that every set begins with
    :param max_abs_diff: largest difference on random inputs, on the scale of each output's
        largest value or of 1; None when it was not verified
    """

    fusion_set: str
    nodes_before: int
    nodes_after: int
    families: Tuple[FamilyReport, ...]
    max_abs_diff: Optional[float]

    @property
    def changed(self) -> bool:
        """Whether a rule applied anywhere."""
        return any(f.removed or f.added or f.rewritten for f in self.families)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def to_text(self) -> str:
        """Return the report for people: a summary, then one line per operator."""
        lines = ['fusion set %s: %d operators, %d before; %s' % (
            self.fusion_set, self.nodes_after, self.nodes_before,
            'not verified' if self.max_abs_diff is None
            else 'largest difference %.1e' % self.max_abs_diff)]
        for family in self.families:
            lines += ['%s: %d operators removed, %d added' % (
                family.family, len(family.removed), len(family.added))]
            lines += ['  removed %s %s (%s): %s' % (r.op_type, r.node, r.rule, r.reason)
                      for r in family.removed]
            lines += ['  added %s %s (%s): %s' % (a.op_type, a.node, a.rule, a.reason)
                      for a in family.added]
            lines += ['  rewritten %s %s (%s): as %s' % (r.before, r.node, r.rule, r.after)
                      for r in family.rewritten]
            lines += ['  kept %s %s (%s): %s' % (r.op_type, r.node, r.rule, r.reason)
                      for r in family.refused]
        return '\n'.join(lines) + '\n'


class Fused(NamedTuple):
    """A model whose operators are fused, and the name of the set of families."""

    fusion_set: str
    model: onnx.ModelProto
    report: FusionReport


def set_name(families: Sequence[str]) -> str:
    """
    Return the name of a set of families.

    :raises ExportError: a family that does not exist
    """
    unknown = [f for f in families if f not in FAMILIES]
    if unknown:
        raise ExportError('no fusion family is called %s: there are %s'
                          % (', '.join(unknown), ', '.join(FAMILIES)))
    return JOINT.join(families) or NONE


class _Work:
    """A graph on its way through the families, and what each did."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.results: Dict[str, List[PassResult]] = {}
        self.refused: Dict[str, Dict[str, Tuple[Refusal, ...]]] = {}

    def run(self, family: str, passes: Sequence[Pass]) -> bool:
        """Run passes once each; return whether one changed something."""
        modified = False
        for one in passes:
            result = one(self.graph)
            self.graph = result.model
            self.refused.setdefault(family, {})[one.name] = result.refused
            if result.modified:
                self.results.setdefault(family, []).append(result)
                modified = True
        return modified

    def settle(self, families: Sequence[str]) -> None:
        """Run the families in turn, clean-up between, until none changes anything."""
        for _ in range(ROUNDS):
            modified = False
            for family in families:
                modified |= self.run(family, FAMILIES[family])
            modified |= self.run(CLEAN, CLEAN_UP)
            if not modified:
                return
        raise ExportError('fusion does not come to rest in %d rounds; report this as a defect'
                          % ROUNDS)

    def report_of(self, family: str) -> FamilyReport:
        """Return what the rules of a family did."""
        results = self.results.get(family, [])
        return FamilyReport(
            family,
            tuple(r for one in results for r in one.removed),
            tuple(a for one in results for a in one.added),
            tuple(r for one in results for r in one.rewritten),
            tuple(r for refused in self.refused.get(family, {}).values() for r in refused))


def fuse(model: onnx.ModelProto, families: Sequence[str] = tuple(FAMILIES), *,
         keep: Container[str] = (), verify: bool = True, tolerance: float = TOLERANCE) -> Fused:
    """
    Fuse the operators of a model; it computes the same under the same input and output names.

    :param model: opset 7 to 17; stays as it is
    :param families: keys of `FAMILIES`, in the order in which they are tried
    :param keep: initialisers whose value must stay as it is under its name
    :param verify: compare the results on random inputs, ONNX Runtime's optimisations off
    :param tolerance: largest difference, on the scale of each output's largest value, or of 1
    :raises ExportError: an unknown family, a malformed model, or results that differ
    """
    name = set_name(families)
    prepared = _prepared(model, keep)
    reference = prepared.graph
    work = _Work(reference)
    work.settle(families)
    result = checked(work.graph.to_model(), of=reference)
    difference = difference_of(reference.to_model(), result) if verify else None
    if difference is not None and not difference <= tolerance:
        raise ExportError('fusion set %s changes the results by %g, more than %g; report this as '
                          'a defect' % (name, difference, tolerance))
    return Fused(name, result, FusionReport(
        name, len(reference), len(result.graph.node),
        tuple(work.report_of(f) for f in families), difference))


def _prepared(model: onnx.ModelProto, keep: Container[str]) -> _Work:
    work = _Work(read_graph(model, keep=keep))
    for _ in range(ROUNDS):
        if not work.run(CLEAN, CLEAN_UP):
            break
    return work


def useful_sets(model: onnx.ModelProto, *, keep: Container[str] = (), verify: bool = True,
                tolerance: float = TOLERANCE) -> Tuple[Fused, ...]:
    """
    Try the families progressively and return the sets that are worth carrying.

    The first set has one family, each next one more. A family that does nothing where it is tried
    is left out of the sets behind it; so each set does more than the one before it.

    :param model: opset 7 to 17; stays as it is
    :param keep: initialisers whose value must stay as it is under its name
    :param verify: compare each with the original
    :param tolerance: as for `fuse`
    :returns: from one family to all useful ones, empty when none does anything
    :raises ExportError: as `fuse`
    """
    found: List[Fused] = []
    families: Tuple[str, ...] = ()
    for family in FAMILIES:
        tried = fuse(model, (*families, family), keep=keep, verify=False)
        if _does(tried.report, family):
            families = (*families, family)
            found.append(fuse(model, families, keep=keep, verify=True, tolerance=tolerance)
                         if verify else tried)
    return tuple(found)


def _does(report: FusionReport, family: str) -> bool:
    """Whether a family changed something."""
    return any(f.removed or f.added or f.rewritten for f in report.families
               if f.family == family)
