# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Compute a run of spatial operators stripe by stripe, where inner tensors set the peak (P III-C1).

A network's first tensors are its largest: of ResNet18 the output of the first convolution is most
of what is ever alive, and only the pooling behind it reads it. Computed in stripes of rows, each
with the rows around it that its kernels reach (the halo), only a stripe of it is alive. Every row
is computed as before, from the same values; a few are computed twice.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.engine.memory.pieces import ROWS, bytes_of, live_bytes
from crowdhmt_ros.engine.memory.wire import WireGraph, WireNode, changed, spatial
from crowdhmt_ros.types import TensorSpec

COUNTS = (2, 4)
"""Of stripes; more of them compute more rows twice."""
LONGEST_RUN = 4
LEAST_GAIN_RATIO = 0.9
"""The largest live set must fall below this part of what it was."""
MOST_RUNS = 3
_HEIGHT, _WIDTH = 2, 3
_SPATIAL = ('Conv', 'MaxPool')


@dataclass(frozen=True)
class Copy:
    """
    Rows that are copied between a whole tensor and a stripe of it.

    :param whole: tensor
    :param stripe: tensor
    :param first: row of the whole where the stripe begins
    :param taken: whether the stripe is taken from the whole, otherwise it is put there
    """

    whole: str
    stripe: str
    first: int
    taken: bool


@dataclass(frozen=True)
class Striped:
    """
    A graph with runs of operators cut into stripes.

    :param graph: whose nodes of domain `ROWS` are copies
    :param tensors: of all that flows between operators
    :param copies: name of such a node -> what it copies
    """

    graph: WireGraph
    tensors: Mapping[str, TensorSpec]
    copies: Mapping[str, Copy]


def striped(graph: WireGraph, tensors: Mapping[str, TensorSpec],
            inputs: Mapping[str, TensorSpec]) -> Striped:
    """
    Cut what sets the peak into stripes, as long as that lowers it.

    :param tensors: of all that flows between operators
    :param inputs: of the graph
    :returns: the graph as it is where nothing is gained
    """
    found = Striped(graph, tensors, {})
    for _ in range(MOST_RUNS):
        before = live_bytes(found.graph, found.tensors)
        tried = [_cut(found, start, stop, count, inputs)
                 for start, stop in _runs(found, before, inputs) for count in COUNTS]
        best = min(tried, key=lambda s: live_bytes(s.graph, s.tensors), default=found)
        if not tried or live_bytes(best.graph, best.tensors) > LEAST_GAIN_RATIO * before:
            return found
        found = best
    return found


def _runs(graph: Striped, peak_bytes: int, inputs: Mapping[str, TensorSpec]
          ) -> List[Tuple[int, int]]:
    """Return the runs (first, behind the last) whose inner tensors are much of the peak."""
    nodes, readers = graph.graph.nodes, _readers(graph.graph)
    found = []
    for start in range(len(nodes)):
        for stop in range(start + 2, min(start + LONGEST_RUN, len(nodes)) + 1):
            if not all(_may(node, graph, inputs) for node in nodes[start:stop]):
                break
            inner = [node.outputs[0] for node in nodes[start:stop - 1]]
            if any(readers.get(name) != [at] or name in graph.graph.outputs
                   for at, name in enumerate(inner, start + 1)):
                break
            if nodes[stop - 1].outputs[0] not in graph.graph.outputs and 4 * max(
                    bytes_of(graph.tensors[name]) for name in inner) >= peak_bytes:
                found.append((start, stop))
    return found


def _readers(graph: WireGraph) -> Dict[str, List[int]]:
    readers: Dict[str, List[int]] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(index)
    return readers


def _may(node: WireNode, graph: Striped, inputs: Mapping[str, TensorSpec]) -> bool:
    """Tell whether an operator's rows can be computed from some rows of one tensor."""
    if node.operator not in _SPATIAL or len(node.outputs) != 1 or spatial(node) is None:
        return False
    whole = _spec(node.inputs[0], graph, inputs)
    result = graph.tensors.get(node.outputs[0])
    return (all(name in graph.graph.initialisers or not name for name in node.inputs[1:])
            and whole is not None and result is not None and '#' not in node.outputs[0]
            and len(whole.shape) == len(result.shape) == 4 and whole.shape[0] == 1
            and _rows_of(node, whole.shape[_HEIGHT]) == result.shape[_HEIGHT])


def _spec(name: str, graph: Striped, inputs: Mapping[str, TensorSpec]) -> Optional[TensorSpec]:
    return graph.tensors.get(name, inputs.get(name))


def _rows_of(node: WireNode, rows: int) -> int:
    form = spatial(node)
    assert form is not None  # `_may` has seen to it
    top, _, bottom, _ = form.pads
    return (rows + top + bottom - form.reach) // form.stride + 1


def _cut(graph: Striped, start: int, stop: int, count: int, inputs: Mapping[str, TensorSpec]
         ) -> Striped:
    """Replace a run by its stripes."""
    run = graph.graph.nodes[start:stop]
    source, target = run[0].inputs[0], run[-1].outputs[0]
    rows = graph.tensors[target].shape[_HEIGHT]
    whole = [_spec(source, graph, inputs), *(graph.tensors[node.outputs[0]] for node in run)]
    specs = [spec for spec in whole if spec is not None]
    nodes: List[WireNode] = []
    tensors, copies = dict(graph.tensors), dict(graph.copies)
    for index in range(count):
        first, behind = index * rows // count, (index + 1) * rows // count
        names = ['%s#%d.%d' % (spec.name, len(graph.copies), index) for spec in specs]
        ranges, pads = _ranges(run, specs, first, behind)
        tensors.update({name: _of_rows(spec, name, behind - first) for name, spec, (first, behind)
                        in zip(names, specs, ranges)})
        copies['take ' + names[0]] = Copy(source, names[0], ranges[0][0], True)
        copies['put ' + names[-1]] = Copy(target, names[-1], first, False)
        nodes += [_copy('take ' + names[0], (source,), names[:1]),
                  *(changed(node, {node.inputs[0]: given, node.outputs[0]: made}, pad)
                    for node, given, made, pad in zip(run, names, names[1:], pads)),
                  _copy('put ' + names[-1], (names[-1], *([target] if index else [])),
                        [] if index else [target])]
    # Inner tensors are not there any more as a whole.
    for node in run[:-1]:
        del tensors[node.outputs[0]]
    changed_graph = replace(graph.graph, nodes=(*graph.graph.nodes[:start], *nodes,
                                                *graph.graph.nodes[stop:]))
    return Striped(changed_graph, tensors, copies)


def _copy(name: str, reads: Sequence[str], gives: Sequence[str]) -> WireNode:
    return WireNode(b'', name, 'Copy', ROWS, tuple(reads), tuple(gives), False)


def _of_rows(spec: TensorSpec, name: str, rows: int) -> TensorSpec:
    return TensorSpec(name, spec.dtype, (*spec.shape[:_HEIGHT], rows, *spec.shape[_WIDTH:]))


def _ranges(run: Sequence[WireNode], specs: Sequence[TensorSpec], first: int, behind: int
            ) -> Tuple[List[Tuple[int, int]], List[Tuple[int, ...]]]:
    """Return the rows of each tensor that a stripe of the last needs, and each operator's pads."""
    ranges = [(first, behind)]
    pads: List[Tuple[int, ...]] = []
    for node, spec in zip(reversed(run), reversed(specs[:-1])):
        form = spatial(node)
        assert form is not None  # `_may` has seen to it
        top, left, _, right = form.pads
        low = first * form.stride - top
        high = (behind - 1) * form.stride - top + form.reach
        rows = spec.shape[_HEIGHT]
        pads.append((max(0, -low), left, max(0, high - rows), right))
        first, behind = max(0, low), min(rows, high)
        ranges.append((first, behind))
    return ranges[::-1], pads[::-1]
