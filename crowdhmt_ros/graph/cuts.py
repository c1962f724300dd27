# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a graph may be cut: flows, blocks and cut sets (P III-B1). Offline.

It looks at the graph alone: not at the task, a budget, or a device. Operators that rest on no
input of the graph are on every side that needs them, so neither they nor initialisers are ever
part of a cut.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import onnx

from crowdhmt_ros.graph.dataflow import Dataflow, Flow, Position

MAX_TENSORS = 3
"""Tensors that may cross at one cut, unless said otherwise."""
LEAST_SHARE = 0.02
"""Of the work, on either side of a cut that is offered; less is not worth a way."""


@dataclass(frozen=True)
class CutSet:
    """
    A set of tensors that parts the graph's inputs from its outputs; no smaller part of it does.

    :param tensors: what crosses, in the order in which it is computed
    :param crossing_bytes: their size
    :param work_before: multiply-accumulates of the head
    :param weight_bytes_before: initialisers that the head reads
    :param carried: outputs of the graph that the head computes and the tail does not need
    :param place: in the order of all cuts of the graph: operators that the head runs
    """

    tensors: Tuple[str, ...]
    crossing_bytes: int
    work_before: int
    weight_bytes_before: int
    carried: Tuple[str, ...]
    place: int


@dataclass(frozen=True)
class Block:
    """
    The operators between two neighbouring narrowest cuts.

    :param operators: indices into `Partition.operators`, one range
    :param inputs: tensors that cross into it, inputs of the graph for the first
    :param outputs: tensors that cross out of it, outputs of the graph for the last
    :param flows: indices into `Partition.flows`, all that begin in it
    """

    operators: range
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    flows: Tuple[int, ...]


@dataclass(frozen=True)
class Partition:
    """
    A graph before any decision about it.

    :param operators: names in topological order; only what lies between inputs and outputs
    :param flows: chains of operators; two of the same `level` never wait for each other
    :param blocks: in order
    :param cuts: useful cut sets, head by head larger
    :param work: multiply-accumulates of the whole, see `graph.dataflow.Dataflow`
    :param makers: tensor -> index of the operator that computes it (the sparse tensor map)
    :param readers: tensor -> indices of the operators that read it
    """

    operators: Tuple[str, ...]
    flows: Tuple[Flow, ...]
    blocks: Tuple[Block, ...]
    cuts: Tuple[CutSet, ...]
    work: int
    makers: Mapping[str, int]
    readers: Mapping[str, Tuple[int, ...]]


def partition(model: onnx.ModelProto, max_tensors: int = MAX_TENSORS) -> Partition:
    """
    Take a graph apart in thought.

    :param model: with fixed shapes
    :param max_tensors: that may cross at one cut
    :raises ExportError: the graph is malformed
    """
    flow = Dataflow(model)
    orders = [flow.order(short_first=True), flow.order(short_first=False)]
    found: Dict[Tuple[str, ...], CutSet] = {}
    for order in orders:
        for position in flow.positions(order):
            cut = _cut(flow, position, max_tensors)
            if cut is not None:
                found.setdefault(tuple(sorted(cut.tensors)), cut)
    main = orders[0]
    rank = {index: place for place, index in enumerate(main)}
    flows = flow.flows(main)
    return Partition(
        operators=tuple(flow.names[i] for i in main), flows=flows,
        blocks=_blocks(flow, main, flows), cuts=_undominated(list(found.values())),
        work=sum(flow.work),
        makers={t: rank[i] for t, i in flow.makers.items() if i in rank},
        readers={t: tuple(sorted(rank[i] for i in used if i in rank))
                 for t, used in flow.readers.items()})


def cut_sets(model: onnx.ModelProto, max_tensors: int = MAX_TENSORS) -> Tuple[CutSet, ...]:
    """
    Return the useful cuts of a graph, head by head larger.

    They are found along two topological orders, in which the shortest or the longest branch
    runs first: behind each operator, the tensors that are made and still needed. Of cuts with
    the same multiply-accumulates and weights before them, one is left out when another crosses
    no more bytes by no more tensors; where all is equal the later one stays, so that a
    convolution keeps the activation behind it.

    :param model: with fixed shapes
    :param max_tensors: that may cross at one cut
    :raises ExportError: the graph is malformed
    """
    return partition(model, max_tensors).cuts


def offer(model: onnx.ModelProto, limit: int = 4, *, max_tensors: int = MAX_TENSORS,
          carrying: bool = True) -> Tuple[CutSet, ...]:
    """
    Choose a few cuts that leave at least `LEAST_SHARE` of the work on both sides.

    The work is divided into `limit` equal bands; of each band the cut that crosses the fewest
    bytes is taken, then the cheapest of what is left until there are `limit`.

    :param model: with fixed shapes
    :param limit: cuts at most
    :param max_tensors: that may cross at one cut
    :param carrying: False leaves out cuts whose head gives outputs of the graph
    :returns: cuts, head by head larger
    :raises ExportError: the graph is malformed
    """
    found = partition(model, max_tensors)
    least = max(1.0, LEAST_SHARE * found.work)
    useful = [c for c in found.cuts if least <= c.work_before <= found.work - least
              and (carrying or not c.carried)]
    return spread(useful, limit, work=found.work)


def spread(cuts: Sequence[CutSet], limit: int, *, work: int) -> Tuple[CutSet, ...]:
    """
    Choose at most `limit` of some cuts: few bytes, spread over the work.

    :param work: multiply-accumulates of the whole
    """
    if limit <= 0:
        return ()
    cheapest = sorted(cuts, key=lambda c: (c.crossing_bytes, len(c.tensors), -c.place))
    bands: Dict[int, CutSet] = {}
    for cut in cheapest:
        bands.setdefault(limit * cut.work_before // max(work, 1), cut)
    chosen = list(bands.values())
    chosen += [c for c in cheapest if c not in chosen]
    return tuple(sorted(chosen[:limit], key=lambda c: (c.work_before, c.place)))


def nested_cuts(model: onnx.ModelProto, cuts: Sequence[Sequence[str]]
                ) -> Tuple[Tuple[str, ...], ...]:
    """
    Leave out cuts through another branch than the one before, so that pieces lie between them.

    :param model: with fixed shapes
    :param cuts: that part the graph, head by head larger
    :returns: those whose heads each hold the head before
    """
    flow = Dataflow(model)
    found: List[Tuple[str, ...]] = []
    before: Set[int] = set()
    for tensors in cuts:
        head = set(flow.upstream((*tensors, *(flow.carried(tensors) or ()))))
        if before < head:
            found.append(tuple(tensors))
            before = head
    return tuple(found)


def _cut(flow: Dataflow, position: Position, max_tensors: int) -> Optional[CutSet]:
    """Return the cut at a position, None where the graph cannot be split there."""
    tensors = position.live
    if position.waiting or not 0 < len(tensors) <= max_tensors:
        return None
    sizes = [flow.size_bytes(name) for name in tensors]
    if any(size is None for size in sizes):
        return None
    carried = flow.carried(tensors)
    if carried is None:
        return None
    head = flow.upstream((*tensors, *carried))
    return CutSet(tensors, sum(s for s in sizes if s is not None),
                  sum(flow.work[i] for i in head), flow.weight_bytes(head), carried, len(head))


def _undominated(cuts: Sequence[CutSet]) -> Tuple[CutSet, ...]:
    """Leave out cuts that another one betters at the same work and weights."""
    groups: Dict[Tuple[int, int], List[CutSet]] = {}
    for cut in cuts:
        groups.setdefault((cut.work_before, cut.weight_bytes_before), []).append(cut)
    kept: List[CutSet] = []
    for group in groups.values():
        fewest: Optional[int] = None
        for cut in sorted(group, key=lambda c: (c.crossing_bytes, len(c.tensors), -c.place,
                                                c.tensors)):
            if fewest is None or len(cut.tensors) < fewest:
                kept.append(cut)
                fewest = len(cut.tensors)
    return tuple(sorted(kept, key=lambda c: (c.work_before, c.place, c.tensors)))


def _blocks(flow: Dataflow, order: Sequence[int], flows: Sequence[Flow]) -> Tuple[Block, ...]:
    """
    Return what lies between neighbouring narrowest cuts.

    A cut is narrow when walking away from it, either way, the number of tensors rises before
    it falls below its own; an input of the graph that is still awaited counts as one.
    """
    positions = flow.positions(order)
    widths = [len(p.live) + len(p.waiting) for p in positions]
    edges = [i for i in _valleys(widths) if not positions[i].waiting]
    begins = [0, *(i + 1 for i in edges)]
    ends = [*(i + 1 for i in edges), len(order)]
    crossing = [flow.inputs, *(positions[i].live for i in edges), flow.outputs]
    return tuple(
        Block(range(first, end), crossing[i], crossing[i + 1],
              tuple(k for k, f in enumerate(flows) if first <= f.operators[0] < end))
        for i, (first, end) in enumerate(zip(begins, ends)))


def _valleys(widths: Sequence[int]) -> List[int]:
    """Return the positions of runs that are narrower than the runs beside them."""
    found: List[int] = []
    first = 0
    while first < len(widths):
        end = first
        while end < len(widths) and widths[end] == widths[first]:
            end += 1
        if all(w > widths[first] for w in (*widths[max(first - 1, 0):first],
                                           *widths[end:end + 1])):
            found.extend(range(first, end))
        first = end
    return found
