# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A typed working view of an ONNX graph: operators, tensors, who makes and who reads them. Offline.

One invariant carries every rewrite: a tensor's name stands for the same value as long as the
name exists. So a rewrite that computes something else gives it a new name, and what is known of
a name (type, shape) never goes stale.
"""
from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Container, Dict, Iterator, List, Optional, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.operator import (
    STANDARD_DOMAINS,
    Addition,
    Operator,
    Removal,
    Shape,
    TensorType,
    node_of,
    operator_of,
    read_type,
)

Array = NDArray[np.generic]

MIN_OPSET, MAX_OPSET = 7, 17
MIN_IR, MAX_IR = 4, 8
INFERENCE_ELEMENTS = 4096  # constants up to this size are shown to shape inference by value


class Graph:
    """
    Operators, constants and the index of who makes and who reads each tensor.

    A pass works on a `copy` and never on the graph it was given.

    :param keep: constants whose value must stay as it is under its name
    """

    def __init__(self, model: onnx.ModelProto, *, keep: Container[str] = ()) -> None:
        self.header = onnx.ModelProto()
        self.header.CopyFrom(_without_body(model))
        self.opset = _opset(model)
        self.keep = keep
        self.input_infos = [v for v in model.graph.input
                            if v.name not in {t.name for t in model.graph.initializer}]
        self.output_infos = list(model.graph.output)
        self.inputs = tuple(v.name for v in self.input_infos)
        self.outputs = tuple(v.name for v in self.output_infos)
        self.constants: Dict[str, Array] = {
            t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.types: Dict[str, TensorType] = {
            v.name: read_type(v) for v in
            (*model.graph.value_info, *model.graph.output, *self.input_infos)}
        self.removals: List[Removal] = []
        self.additions: List[Addition] = []
        self._operators: Dict[str, Operator] = {}
        self._positions: Dict[str, float] = {}
        self._producers: Dict[str, str] = {}
        self._readers: Dict[str, Dict[str, None]] = {}
        self._names = {*self.inputs, *self.outputs, *self.constants}
        self._stale = True
        self._order: Optional[Tuple[Operator, ...]] = None
        for index, node in enumerate(model.graph.node):
            self._put(operator_of(node, self._operators, index), float(index))

    def copy(self) -> Graph:
        """Return a graph that may be changed without changing this one."""
        other = Graph.__new__(Graph)
        other.__dict__.update(self.__dict__)
        for name in ('constants', 'types', '_operators', '_positions', '_producers'):
            setattr(other, name, dict(getattr(self, name)))
        other._readers = {t: dict(r) for t, r in self._readers.items()}
        other._names = set(self._names)
        other.removals, other.additions = [], []
        return other

    # What is there

    @property
    def operators(self) -> List[Operator]:
        """All operators, makers before readers."""
        if self._order is None:
            self._order = tuple(self._sorted())
        return list(self._order)

    def __len__(self) -> int:
        return len(self._operators)

    def __contains__(self, operator: object) -> bool:
        return (isinstance(operator, Operator)
                and self._operators.get(operator.name) is operator)

    def named(self, name: str) -> Operator:
        """Return the operator of a name."""
        return self._operators[name]

    def producer(self, tensor: str) -> Optional[Operator]:
        """Return the operator that makes a tensor, None for inputs and constants."""
        name = self._producers.get(tensor)
        return None if name is None else self._operators[name]

    def readers(self, tensor: str) -> List[Operator]:
        """Return the operators that read a tensor, each once."""
        return [self._operators[n] for n in self._readers.get(tensor, ())]

    def uses(self, tensor: str) -> int:
        """Count how often a tensor is read, as output of the graph included."""
        count = sum(o.inputs.count(tensor) + (tensor in o.captured)
                    for o in self.readers(tensor))
        return count + self.outputs.count(tensor)

    def sole_reader(self, tensor: str) -> Optional[Operator]:
        """Return the one operator that reads a tensor once, None when there is more to it."""
        found = self.readers(tensor)
        if len(found) != 1 or self.uses(tensor) != 1 or tensor in found[0].captured:
            return None
        return found[0]

    def is_captured(self, tensor: str) -> bool:
        """Whether a subgraph reads the tensor by its name."""
        return any(tensor in o.captured for o in self.readers(tensor))

    def value(self, tensor: str) -> Optional[Array]:
        """Return a constant, None when the tensor is not constant."""
        return self.constants.get(tensor)

    def foldable(self, tensor: str) -> Optional[Array]:
        """Return a constant that may be computed with, None for others and for kept ones."""
        return None if tensor in self.keep else self.constants.get(tensor)

    def type_of(self, tensor: str) -> TensorType:
        """Return what is known of a tensor."""
        constant = self.constants.get(tensor)
        if constant is not None:
            return TensorType(helper.np_dtype_to_tensor_dtype(constant.dtype), constant.shape)
        return self.types.get(tensor, TensorType(0))

    def shape(self, tensor: str) -> Optional[Shape]:
        """Return the extents of a tensor, None when one is unknown."""
        return self.type_of(tensor).fixed

    def rank(self, tensor: str) -> Optional[int]:
        """Return the number of axes of a tensor, None when unknown."""
        shape = self.type_of(tensor).shape
        return None if shape is None else len(shape)

    # How it changes

    def new_name(self, stem: str) -> str:
        """Return a name that no tensor or operator of this graph has had."""
        name, count = stem, 0
        while name in self._names:
            count += 1
            name = '%s_%d' % (stem, count)
        self._names.add(name)
        return name

    def add_constant(self, stem: str, value: Array) -> str:
        """Add a constant and return its name."""
        name = self.new_name(stem)
        self.constants[name] = value
        self._stale = True
        return name

    def make_constant(self, tensor: str, value: Array) -> None:
        """Give a tensor its value; its maker must have been removed."""
        self.constants[tensor] = value
        self._stale = True

    def drop_constant(self, tensor: str) -> None:
        """Remove a constant that nothing reads."""
        del self.constants[tensor]

    def add(self, operator: Operator, reason: str, *, near: Operator, rule: str) -> None:
        """Add an operator beside another in the order."""
        self._put(operator, self._positions.get(near.name, float(len(self._positions))))
        self.additions.append(Addition(operator.name, operator.op_type, rule, reason))

    def update(self, operator: Operator) -> None:
        """Put an operator in the place of the one of the same name."""
        position = self._positions[operator.name]
        self._take(self._operators[operator.name])
        self._put(operator, position)

    def remove(self, operator: Operator, reason: str, *, rule: str) -> None:
        """Take an operator out and say why."""
        self._take(operator)
        self.removals.append(Removal(operator.name, operator.op_type, rule, reason))

    def why_not_bypass(self, old: str, new: str) -> Optional[str]:
        """Return why the readers of one tensor may not read another instead, None if they may."""
        if self.is_captured(old):
            return 'a subgraph reads %s by its name' % old
        if old not in self.outputs:
            return None
        if self.producer(new) is None:
            return '%s is an output of the graph and %s is not computed' % (old, new)
        if new in self.outputs or self.is_captured(new):
            return '%s and %s are both read by name' % (old, new)
        return None

    def bypass(self, operator: Operator, source: str, reason: str, *, rule: str) -> None:
        """
        Remove an operator whose first output equals another tensor.

        An output of the graph keeps its name: then the maker of `source` takes it over.

        :raises ExportError: `why_not_bypass` gives a reason
        """
        old = operator.output
        refusal = self.why_not_bypass(old, source)
        if refusal is not None:
            raise ExportError('operator %s cannot be removed: %s' % (operator.name, refusal))
        self.remove(operator, reason, rule=rule)
        if old in self.outputs:
            maker = self.producer(source)
            assert maker is not None
            self.update(replace(maker, outputs=tuple(
                old if o == source else o for o in maker.outputs)))
            self.reroute(source, old)
        else:
            self.reroute(old, source)

    def reroute(self, old: str, new: str) -> None:
        """Let all operators that read one tensor read another."""
        for reader in self.readers(old):
            self.update(replace(reader, inputs=tuple(
                new if i == old else i for i in reader.inputs)))

    # What is known of it

    def refresh(self) -> None:
        """
        Infer types and shapes again if something changed.

        :raises ExportError: the operators do not fit together
        """
        if not self._stale:
            return
        for name, found in infer_types(self.to_model(skeleton=True)).items():
            self.types[name] = _more_of(self.types.get(name), found)
        self._stale = False

    def to_model(self, *, skeleton: bool = False) -> onnx.ModelProto:
        """
        Return the graph as a model.

        :param skeleton: large constants become inputs of their type and shape
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.header)
        graph = model.graph
        graph.input.extend(self.input_infos)
        graph.output.extend(self.output_infos)
        for name, value in self.constants.items():
            if skeleton and value.size > INFERENCE_ELEMENTS:
                graph.input.append(helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
            else:
                graph.initializer.append(numpy_helper.from_array(value, name))
        graph.node.extend(node_of(o) for o in self.operators)
        return model

    def _put(self, operator: Operator, position: float) -> None:
        self._order = None
        self._operators[operator.name] = operator
        self._positions[operator.name] = position
        self._names.add(operator.name)
        for tensor in operator.outputs:
            if tensor:
                self._producers[tensor] = operator.name
                self._names.add(tensor)
        for tensor in (*operator.inputs, *operator.captured):
            if tensor:
                self._readers.setdefault(tensor, {})[operator.name] = None
        self._stale = True

    def _take(self, operator: Operator) -> None:
        self._order = None
        del self._operators[operator.name]
        del self._positions[operator.name]
        for tensor in operator.outputs:
            if tensor and self._producers.get(tensor) == operator.name:
                del self._producers[tensor]
        for tensor in (*operator.inputs, *operator.captured):
            if tensor:
                self._readers[tensor].pop(operator.name, None)
        self._stale = True

    def _sorted(self) -> Iterator[Operator]:
        rank = {n: (p, i) for i, (n, p) in enumerate(self._positions.items())}
        waiting = {o.name: len({self._producers[t] for t in (*o.inputs, *o.captured)
                                if t in self._producers}) for o in self._operators.values()}
        ready = [(rank[n], n) for n, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        done = 0
        while ready:
            operator = self._operators[heapq.heappop(ready)[1]]
            done += 1
            yield operator
            for name in {r for t in operator.outputs for r in self._readers.get(t, ())}:
                waiting[name] -= 1
                if waiting[name] == 0:
                    heapq.heappush(ready, (rank[name], name))
        if done != len(self._operators):
            raise ExportError('the operators of the graph form a cycle; export it again')


def infer_types(model: onnx.ModelProto) -> Dict[str, TensorType]:
    """
    Infer the type of every tensor.

    :raises ExportError: the operators do not fit together
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ExportError('the shapes of the graph do not fit together (%s); export it again'
                          % _one_line(error)) from error
    graph = inferred.graph
    return {v.name: read_type(v) for v in (*graph.value_info, *graph.output, *graph.input)}


def read_graph(model: onnx.ModelProto, *, keep: Container[str] = ()) -> Graph:
    """
    Return the working view of a model; the model itself stays as it is.

    :param keep: initialisers whose value must stay as it is under its name
    :raises ExportError: the model is malformed or of a version that robots do not run
    """
    try:
        onnx.checker.check_model(model)
        if model.functions:
            model = inliner.inline_local_functions(model)
        graph = Graph(model, keep=keep)
    except (onnx.checker.ValidationError, ValueError, TypeError, OSError) as error:
        raise ExportError('the ONNX model is malformed (%s); export it again'
                          % _one_line(error)) from error
    if not graph.outputs:
        raise ExportError('the ONNX model has no output; export it with its outputs')
    graph.refresh()
    return graph


def _one_line(error: BaseException, most: int = 200) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:most]


def _more_of(known: Optional[TensorType], found: TensorType) -> TensorType:
    if known is None:
        return found
    if known.shape is None or found.shape is None or len(known.shape) != len(found.shape):
        shape = found.shape if known.shape is None else known.shape
    else:
        shape = tuple(f if k is None else k for k, f in zip(known.shape, found.shape))
    return TensorType(known.dtype or found.dtype, shape)


def _opset(model: onnx.ModelProto) -> int:
    versions = [e.version for e in model.opset_import if e.domain in STANDARD_DOMAINS]
    if not versions or not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise ExportError('the model is of opset %s, robots run %d to %d; export it with '
                          'opset_version=%d' % (versions[0] if versions else 'none', MIN_OPSET,
                                                MAX_OPSET, MAX_OPSET))
    return int(versions[0])


def _without_body(model: onnx.ModelProto) -> onnx.ModelProto:
    header = onnx.ModelProto(
        ir_version=min(MAX_IR, max(MIN_IR, model.ir_version)), opset_import=model.opset_import,
        producer_name=model.producer_name, producer_version=model.producer_version,
        domain=model.domain, model_version=model.model_version, doc_string=model.doc_string,
        metadata_props=model.metadata_props)
    header.graph.name = model.graph.name
    header.graph.doc_string = model.graph.doc_string
    return header
