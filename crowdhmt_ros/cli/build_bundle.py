# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a trained family and chosen variants to what a bundle holds: exported, cut, measured."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from crowdhmt_ros.bundle.writer_graphs import INLINE_ELEMENTS
from crowdhmt_ros.elastic.export import export_family
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.crop import cropped
from crowdhmt_ros.graph.cuts import offer
from crowdhmt_ros.graph.family import Family, FamilyGraph
from crowdhmt_ros.graph.split import Reference, split
from crowdhmt_ros.graph.transform import difference_of, transform
from crowdhmt_ros.types import Variant

TOLERANCE = 1e-5
"""By which head and tail may differ from the whole, on the scale of its largest value or of 1."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Exported:
    """
    A family of graphs, ready to be written.

    :param family: with cuts
    :param nodes: operators of all graphs before and after the simplification
    :param notes: what the user should know, a sentence each
    """

    family: Family
    nodes: Tuple[int, int]
    notes: Tuple[str, ...]


def calibrated(net: Supernet, variants: Mapping[str, Variant], images: Sequence[torch.Tensor],
               progress: Progress) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    """
    Measure the statistics of variants, those that they share once.

    :param images: batches, (n, ...)
    """
    statistics: Dict[str, Tuple[torch.Tensor, torch.Tensor]] = {}
    for number, variant in enumerate(variants.values(), 1):
        statistics = calibrate(net, [variant], images, statistics)
        progress(number, len(variants))
    return statistics


def exported(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
             example: torch.Tensor, *, half: bool, cuts: int, carrying: bool,
             progress: Progress, early: Optional[Mapping[str, Sequence[int]]] = None) -> Exported:
    """
    Export variants as graphs over shared tensors, simplify and cut them.

    :param net: trained; weights rounded to float16 where `half` holds
    :param variants: name -> variant, richest first
    :param example: one input, (1, ...)
    :param half: store weights of several axes in float16
    :param cuts: of each variant, at most
    :param carrying: offer cuts whose head gives outputs of the graph, too
    :param early: name -> numbers of early exits at which it may stop; such a one is not cut
    :raises ExportError: a variant does not fit, or a graph cannot be expressed
    """
    tensors: Dict[str, NDArray[np.generic]] = {}
    graphs: List[FamilyGraph] = []
    notes: List[str] = []
    before = 0
    for variant_id, variant in variants.items():
        one = export_family(net, {variant_id: variant}, statistics, example, half=half,
                            early=early)
        tensors.update(one.tensors)
        before += len(one.graphs[0].model.graph.node)
        graph = simplified(one.graphs[0], notes)
        limit = 0 if graph.exits else cuts
        graphs.append(replace(graph, cuts=_cuts(graph, limit, carrying, notes)))
        progress(len(graphs), len(variants))
    after = sum(len(g.model.graph.node) for g in graphs)
    return Exported(cropped(Family(tensors, tuple(graphs))), (before, after), tuple(notes))


def simplified(graph: FamilyGraph, notes: List[str]) -> FamilyGraph:
    """
    Simplify a graph; one whose weights would no longer be shared stays as it is.

    :param notes: is told why one stays
    :raises ExportError: simplified it answers otherwise
    """
    try:
        done = transform(graph.model, keep=graph.recipes, verify=False)
        if not (done.report.removed or done.report.added or done.report.rewritten):
            return graph
        model, gap = done.model, difference_of(graph.model, done.model)
    except ExportError as error:
        notes.append('%s is not simplified: %s' % (graph.variant_id, error))
        return graph
    own = [t.name for t in model.graph.initializer if t.name not in graph.recipes
           and t.data_type == onnx.TensorProto.FLOAT and int(np.prod(t.dims)) > INLINE_ELEMENTS]
    if gap > TOLERANCE:
        raise ExportError('%s answers otherwise when it is simplified, by %g; report this as a '
                          'defect' % (graph.variant_id, gap))
    if own or not _values_stay(graph.model, model):
        notes.append('%s is not simplified: its weights would no longer be shared'
                     % graph.variant_id)
        return graph
    left = {t.name for t in model.graph.initializer}
    return replace(graph, model=model, recipes={
        name: recipe for name, recipe in graph.recipes.items() if name in left})


def _values_stay(before: onnx.ModelProto, after: onnx.ModelProto) -> bool:
    known = {t.name: t for t in before.graph.initializer}
    return all(np.array_equal(onnx.numpy_helper.to_array(known[t.name]),
                              onnx.numpy_helper.to_array(t), equal_nan=True)
               for t in after.graph.initializer
               if t.name in known and t.data_type == onnx.TensorProto.FLOAT)


def _cuts(graph: FamilyGraph, limit: int, carrying: bool, notes: List[str]
          ) -> Dict[str, Tuple[str, ...]]:
    """Offer cuts that hold: what does not is left out and told."""
    if limit <= 0:
        return {}
    held: List[Tuple[str, ...]] = []
    reference: Optional[Reference] = None
    for cut in offer(graph.model, limit, carrying=carrying):
        reference = reference or Reference(graph.model)
        try:
            reference.check(split(graph.model, cut.tensors), TOLERANCE)
            held.append(cut.tensors)
        except ExportError as error:
            notes.append('left out a cut of %s: %s' % (graph.variant_id, error))
    if not held:
        notes.append('%s has no place to cut it: it runs whole' % graph.variant_id)
    return {'%s-cut%d' % (graph.variant_id, i + 1): t for i, t in enumerate(held)}


def accuracies(family: Family, values: torch.Tensor, labels: torch.Tensor, progress: Progress
               ) -> Dict[str, float]:
    """
    Measure the share of right answers through ONNX Runtime, one input at a time, as robots do.

    :param values: inputs, float32 (n, ...)
    :param labels: (n,)
    :returns: variant_id -> 0 to 1
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    truth, found = labels.numpy(), {}
    for graph in family.graphs:
        session = onnxruntime.InferenceSession(
            graph.model.SerializeToString(), options, providers=['CPUExecutionProvider'])
        name = session.get_inputs()[0].name
        answers = [int(session.run(None, {name: v[None]})[0].argmax()) for v in values.numpy()]
        found[graph.variant_id] = float(np.mean(np.array(answers) == truth))
        progress(len(found), len(family.graphs))
    return found
