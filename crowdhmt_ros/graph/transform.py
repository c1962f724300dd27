# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The transformation of a network from any framework before it is deployed, in two stages. Offline.

P III-B2: first duplicate and redundant operators are fused or removed, then the operators are
classified as dynamic or constant and the constant ones are computed. What the second stage finds
makes more of the first one's rules fit, so both run in turn to a fixed point. Which rules is
*reconstructed*. The result is compared with the original on random inputs.
"""
from __future__ import annotations

from collections import Counter
from typing import Container, Dict, List, NamedTuple, Optional, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.compare import Arrays, largest_difference, random_inputs, run_model
from crowdhmt_ros.graph.model import Graph, read_graph
from crowdhmt_ros.graph.passes import fold
from crowdhmt_ros.graph.passes.contract import PassResult, Refusal
from crowdhmt_ros.graph.rules import FIRST, INFERENCE, SECOND, STAGES
from crowdhmt_ros.graph.transform_report import TransformReport, removed_in

ROUNDS = 50
TOLERANCE = 1e-5
SEEDS = (0, 1)
LENGTHS = (2, 3, 1, 32, 224)  # tried for extents that vary


class Transformed(NamedTuple):
    """
    A model and what was done to it.

    :param reference: the original set to inference: what the model computes
    """

    model: onnx.ModelProto
    report: TransformReport
    reference: onnx.ModelProto


class _History:
    """The graph as it goes through the passes, and what they did."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.results: List[Tuple[int, PassResult]] = []
        self.last: Dict[str, PassResult] = {}

    @property
    def refused(self) -> List[Refusal]:
        """What the last run of each pass refused."""
        return [r for result in self.last.values() for r in result.refused]

    def run(self, stage: int) -> bool:
        """Run the passes of a stage once each; return whether one changed something."""
        modified = False
        for one in STAGES[stage]:
            result = one(self.graph)
            self.graph = result.model
            self.results.append((stage, result))
            self.last[one.name] = result
            modified |= result.modified
        return modified

    def settle(self, stage: int) -> bool:
        """Run the passes of a stage until none changes anything."""
        modified = False
        for _ in range(ROUNDS):
            if not self.run(stage):
                return modified
            modified = True
        raise ExportError('stage %d of the transformation does not come to rest in %d rounds; '
                          'report this as a defect' % (stage, ROUNDS))


def transform(model: onnx.ModelProto, *, keep: Container[str] = (), verify: bool = True,
              tolerance: float = TOLERANCE) -> Transformed:
    """
    Simplify a model; it computes the same under the same input and output names.

    A network exported while it trains is set to inference first.

    :param model: opset 7 to 17; stays as it is
    :param keep: initialisers whose value must stay as it is under its name, such as weights that
        other graphs share
    :param verify: compare the results on random inputs, ONNX Runtime's optimisations off
    :param tolerance: largest difference, on the scale of each output's largest value, or of 1
    :raises ExportError: the model is malformed, a constant is too large, or the results differ
    """
    original = read_graph(model, keep=keep)
    history = _History(original)
    history.settle(INFERENCE)
    reference = history.graph
    constant, dynamic = fold.counts(reference)
    for _ in range(ROUNDS):
        first = history.settle(FIRST)
        second = history.settle(SECOND)
        if not first and not second:
            break
    result = checked(history.graph.to_model(), of=reference)
    difference = difference_of(reference.to_model(), result) if verify else None
    if difference is not None and not difference <= tolerance:
        raise ExportError('the transformed model differs from the original by %g, more than %g; '
                          'report this as a defect' % (difference, tolerance))
    report = TransformReport(
        nodes_before=len(model.graph.node), nodes_after=len(result.graph.node),
        operators=dict(Counter(n.op_type for n in result.graph.node)),
        removed=tuple(r for stage, one in history.results for r in removed_in(stage, one)),
        added=tuple(a for _, one in history.results for a in one.added),
        rewritten=tuple(r for _, one in history.results for r in one.rewritten),
        refused=tuple(history.refused), constant=constant, dynamic=dynamic,
        max_abs_diff=difference)
    return Transformed(result, report, reference.to_model())


def checked(model: onnx.ModelProto, *, of: Graph) -> onnx.ModelProto:
    """
    Return a model that ONNX's own checker accepts.

    :param of: the graph that it was made of; what does not fit there is not ours
    :raises ExportError: it does not
    """
    found = misfit(model)
    if found is not None:
        before = misfit(of.to_model())
        raise ExportError('the transformed model is not valid (%s); report this as a defect'
                          % found if before is None else
                          'the shapes of the graph do not fit together (%s); export it again'
                          % before)
    return model


def misfit(model: onnx.ModelProto) -> Optional[str]:
    """Return what ONNX's own checker says against a model, None when nothing."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return ' '.join(str(error).split())[:200]
    return None


def difference_of(one: onnx.ModelProto, other: onnx.ModelProto) -> float:
    """
    Return the largest difference of two models on random inputs.

    :returns: on the scale of each output's largest value, or of 1
    :raises ExportError: ONNX Runtime refuses one of them
    """
    pairs = (results_of(one, other, seed) for seed in SEEDS)
    return max(largest_difference(wanted, found) for wanted, found in pairs)


def results_of(one: onnx.ModelProto, other: onnx.ModelProto, seed: int) -> Tuple[Arrays, Arrays]:
    """
    Run two models on the same random input, ONNX Runtime's optimisations off.

    Extents that vary get the first length with which the first model runs.

    :returns: output name -> values of each
    :raises ExportError: ONNX Runtime refuses one of them
    """
    refusal: Optional[ExportError] = None
    for extent in LENGTHS:
        try:
            given = random_inputs(with_fixed_inputs(one, extent), seed)
            wanted = run_model(one, given, optimise=False)
        except ExportError as error:
            refusal = error
            continue
        return wanted, run_model(other, given, optimise=False)
    assert refusal is not None
    raise refusal


def with_fixed_inputs(model: onnx.ModelProto, extent: int) -> onnx.ModelProto:
    """Return the inputs of a model, extents that vary set to a number."""
    fixed = onnx.ModelProto()
    constants = {t.name for t in model.graph.initializer}
    fixed.graph.input.extend(v for v in model.graph.input if v.name not in constants)
    for value in fixed.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            if not axis.HasField('dim_value'):
                axis.dim_value = extent
    return fixed
