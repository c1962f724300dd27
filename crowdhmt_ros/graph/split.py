# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Split a graph at sets of tensors into parts that together equal it (P III-B1). Offline.

A cut is a set of tensors: within a residual block one tensor alone does not part the graph. A
graph may have several inputs and outputs: the head takes all inputs; an output that rests on no
tensor of the cut is computed by the head and carried through, behind the tensors that cross.
Initialisers keep their names, so what is known of the whole graph's serves all parts.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Set, Tuple

import onnx

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.compare import largest_difference, random_inputs, run_model
from crowdhmt_ros.graph.inference import inferred, skeleton

TOLERANCE = 1e-6
"""Largest difference between the whole graph and its parts, of the largest value or of 1."""


def last_output(model: onnx.ModelProto, prefix: str) -> str:
    """
    Return the first output of the last node whose name starts with a prefix.

    :param model: nodes in the order in which they run
    :param prefix: for example '/stages.1.'
    :raises ExportError: no node is so named
    """
    found: List[str] = [node.output[0] for node in model.graph.node
                        if node.name.startswith(prefix)]
    if not found:
        raise ExportError('the graph has no node named %s...' % prefix)
    return found[-1]


def reads(node: onnx.NodeProto) -> Tuple[str, ...]:
    """Return the tensors that an operator reads, also from within its subgraphs, each once."""
    found = {name: None for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node or graph.output:
                found.update(dict.fromkeys(_captured(graph)))
    return tuple(found)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield what a subgraph takes from around it."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    for name in (*(n for node in graph.node for n in reads(node)),
                 *(v.name for v in graph.output)):
        if name not in own:
            yield name


@dataclass(frozen=True, eq=False)
class _Sides:
    """On which side of a cut the graph's outputs are computed."""

    head: Tuple[str, ...]
    tail: Tuple[str, ...]


class _Graph:
    """A model with the makers and the types of its tensors, to take parts from."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.makers: Dict[str, int] = {
            name: i for i, node in enumerate(graph.node) for name in node.output if name}
        self.reads = [reads(node) for node in graph.node]
        initialisers = {t.name for t in graph.initializer}
        self.inputs = tuple(v.name for v in graph.input if v.name not in initialisers)
        self.outputs = tuple(v.name for v in graph.output)
        self._values: Dict[str, onnx.ValueInfoProto] = {}

    def reached(self, start: Sequence[str], stop: Set[str]) -> Set[str]:
        """Return every tensor that `start` rests on, looking no further than `stop`."""
        seen: Set[str] = set()
        waiting: List[str] = list(start)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.makers and name not in stop:
                waiting.extend(self.reads[self.makers[name]])
        return seen

    def sides(self, tensors: Sequence[str]) -> _Sides:
        """
        Tell on which side each output of the graph is computed.

        :raises ExportError: a tensor is not computed by the graph, or the cut does not part it
        """
        unknown = sorted(set(tensors) - set(self.makers))
        if unknown or not tensors or len(set(tensors)) != len(tensors):
            raise ExportError('cut at %s: name distinct tensors that the graph computes'
                              % (', '.join(unknown or tensors) or 'nothing'))
        cut, given = set(tensors), set(self.inputs)
        head, tail, missed = [], [], set()
        for name in self.outputs:
            reached = self.reached((name,), cut)
            if name in cut or (reached & given and not reached & cut):
                head.append(name)
            else:
                tail.append(name)
                missed |= reached & given
        if missed or not tail:
            raise ExportError(
                'cut at %s: behind it the graph still needs %s; add the tensors that go around '
                'the cut' % (', '.join(tensors), ', '.join(sorted(missed or given))))
        return _Sides(tuple(n for n in head if n not in cut), tuple(tail))

    def part(self, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
        """
        Take the part of the graph that computes `outputs` from `inputs`.

        :raises ExportError: a type is unknown, or the part is no valid model
        """
        graph, stop = self.model.graph, set(inputs)
        names = self.reached(outputs, stop)
        kept = sorted({self.makers[n] for n in names if n in self.makers and n not in stop})
        nodes = [graph.node[i] for i in kept]
        used = {n for i in kept for n in (*self.reads[i], *graph.node[i].output)} | set(outputs)
        if graph.sparse_initializer:
            raise ExportError('a graph with sparse initialisers cannot be split; export with '
                              'dense ones')
        part = onnx.helper.make_model(onnx.helper.make_graph(
            nodes, 'Extracted from {%s}' % graph.name,
            [self._value(n) for n in inputs], [self._value(n) for n in outputs],
            initializer=[t for t in graph.initializer if t.name in used]),
            ir_version=self.model.ir_version, opset_imports=self.model.opset_import,
            producer_name='onnx.utils.extract_model', functions=self.model.functions)
        try:
            onnx.checker.check_model(skeleton(part), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError('the part from %s to %s is no valid graph: %s' % (
                ', '.join(inputs), ', '.join(outputs), ' '.join(str(error).split()))) from error
        return part

    def _value(self, name: str) -> onnx.ValueInfoProto:
        if not self._values:
            graph = inferred(self.model)
            self._values = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
        if name not in self._values:
            raise ExportError('the type of tensor %s is not known' % name)
        return self._values[name]


def split(model: onnx.ModelProto, tensors: Sequence[str]
          ) -> Tuple[onnx.ModelProto, onnx.ModelProto]:
    """
    Split a graph at a set of tensors.

    :param model: whole graph with fixed shapes; it is not changed
    :param tensors: what shall cross from the head to the tail, in this order
    :returns: head (the graph's inputs to `tensors`, then the graph's outputs that rest on none
        of them), tail (`tensors` to the other outputs of the graph, in the graph's order). An
        output of the graph that is itself among `tensors` is an output of the head.
    :raises ExportError: a tensor is not computed by the graph, or the tail needs more than them
    """
    head, tail = pieces(model, (tensors,))
    return head, tail


def pieces(model: onnx.ModelProto, cuts: Sequence[Sequence[str]]) -> Tuple[onnx.ModelProto, ...]:
    """
    Take a graph apart at several cuts.

    Each piece begins at one cut and ends at the next. A tensor that crosses both goes around the
    piece: the piece neither takes it, unless it reads it, nor gives it. A piece gives the
    graph's outputs that it computes behind the tensors that cross.

    :param model: whole graph with fixed shapes; it is not changed
    :param cuts: each parts the graph, in the order in which the graph computes them
    :returns: one piece more than cuts, in order: a head, what lies between, a tail
    :raises ExportError: a cut does not part the graph, or stands behind a later one
    """
    graph = _Graph(model)
    sides = [graph.sides(tensors) for tensors in cuts]
    found: List[onnx.ModelProto] = []
    begin: Sequence[str] = graph.inputs
    carried: Set[str] = set()
    for tensors, side in zip(cuts, sides):
        ends = [n for n in tensors if n not in begin]
        ends += [n for n in side.head if n not in carried and n not in begin]
        _check_order(graph, begin, ends)
        found.append(graph.part(_taken(graph, begin, ends) if found else begin, ends))
        carried.update(side.head, tensors)
        begin = tensors
    ends = [n for n in graph.outputs if n not in carried]
    return (*found, graph.part(begin, ends))


def border_of(model: onnx.ModelProto, output: str) -> str:
    """
    Return the tensor at which the way to an early exit's answer leaves that of the network.

    :param model: with the network's own answer as its first output
    :param output: another output of it
    :raises ExportError: there is none such, or they part at more than one tensor
    """
    graph = _Graph(model)
    if output not in graph.outputs[1:]:
        raise ExportError('the graph gives no early answer %s' % output)
    shared = graph.reached(graph.outputs[:1], set())
    border = sorted({name for made in graph.reached((output,), shared) - shared
                     if made in graph.makers for name in graph.reads[graph.makers[made]]
                     if name in shared and name in graph.makers})
    if len(border) != 1:
        raise ExportError('the way to %s parts from that to the end at %s; an early exit needs '
                          'one tensor' % (output, ', '.join(border) or 'nothing'))
    return border[0]


def steps(model: onnx.ModelProto, exits: Sequence[str]
          ) -> Tuple[Tuple[str, onnx.ModelProto], ...]:
    """
    Take a graph apart at its early exits, so that what lies behind one may be left out.

    :param model: whole graph with fixed shapes, the network's own answer its first output; it is
        not changed
    :param exits: outputs that early exits give, in the order in which the graph computes them
    :returns: per exit (border, graph): from the border before, the graph's inputs at first, to
        the exit's answer and, behind it, the border; then ('', graph) to the network's answer
    :raises ExportError: an exit does not part the graph, or stands behind a later one
    """
    graph = _Graph(model)
    found: List[Tuple[str, onnx.ModelProto]] = []
    begin: Sequence[str] = graph.inputs
    for output in exits:
        border = border_of(model, output)
        graph.sides((border,))
        _check_order(graph, begin, (border,))
        found.append((border, graph.part(begin, (output, border))))
        begin = (border,)
    return (*found, ('', graph.part(begin, graph.outputs[:1])))


def _check_order(graph: _Graph, begin: Sequence[str], ends: Sequence[str]) -> None:
    early = graph.reached(ends, set(begin)) & set(graph.inputs) - set(begin)
    if early or not ends:
        raise ExportError('cut at %s lies before one that was named earlier; name cuts in the '
                          'order in which the graph computes them' % (', '.join(ends) or 'it'))


def _taken(graph: _Graph, begin: Sequence[str], ends: Sequence[str]) -> List[str]:
    reached = graph.reached(ends, set(begin))
    return [name for name in begin if name in reached]


class Reference:
    """
    What a whole graph gives on random input, to compare many splits of it with.

    :param model: with fixed shapes
    :param seed: of the input
    """

    def __init__(self, model: onnx.ModelProto, seed: int = 0) -> None:
        self._given = random_inputs(model, seed)
        self._wanted = run_model(model, self._given)

    def check(self, parts: Sequence[onnx.ModelProto], tolerance: float = TOLERANCE) -> float:
        """
        Compare a chain of pieces with the whole, through ONNX Runtime.

        :param parts: each takes what the graph is given or an earlier piece gave
        :param tolerance: of the largest value of an output, or of 1 where that is larger
        :returns: largest difference, on that scale
        :raises ExportError: it is above `tolerance`, or an output is missing
        """
        known = dict(self._given)
        for part in parts:
            known.update(run_model(part, known))
        missing = sorted(set(self._wanted) - set(known))
        if missing:
            raise ExportError('head and tail do not give %s' % ', '.join(missing))
        worst = largest_difference(self._wanted, known)
        if not worst <= tolerance:
            raise ExportError('head and tail differ from the whole graph by %g' % worst)
        return worst


def check_split(model: onnx.ModelProto, head: onnx.ModelProto, tail: onnx.ModelProto, *,
                tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """
    Compare head and tail with the whole graph on random input.

    :param tolerance: see `Reference.check`
    :returns: largest difference, see `Reference.check`
    :raises ExportError: it is above `tolerance`, or an output is missing
    """
    return Reference(model, seed).check((head, tail), tolerance)


def check_pieces(model: onnx.ModelProto, parts: Sequence[onnx.ModelProto], *,
                 tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """
    Compare a chain of pieces with the whole graph on random input.

    :param tolerance: see `Reference.check`
    :returns: largest difference, see `Reference.check`
    :raises ExportError: it is above `tolerance`, or an output is missing
    """
    return Reference(model, seed).check(parts, tolerance)
