# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the rules of `ncnn_rules` work on: tensors of a graph and the layers they become."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backends.common import first_line
from crowdhmt_ros.engine.backends.ncnn_layers import Layer, NcnnModel, Parameter, assemble
from crowdhmt_ros.engine.onnx_file import GraphFile, Node

Shape = Tuple[int, ...]


class NotForNcnnError(Exception):
    """Says which part of a graph ncnn is not given, and why."""


class Writer:
    """
    The state of one translation; rules read and extend it.

    :param graph: what is translated
    :param rules: by ONNX operator
    """

    def __init__(self, graph: GraphFile, rules: Mapping[str, Callable[[Writer, Node], None]]
                 ) -> None:
        self.graph = graph
        self._rules = rules
        self.constants: Dict[str, np.ndarray] = dict(graph.constants)
        self.shapes: Dict[str, Shape] = {}
        self.layers: List[Layer] = []
        self._blobs: Dict[str, str] = {}
        reads = [name for node in graph.nodes for name in node.inputs]
        self.reads = reads + [spec.name for spec in graph.outputs]

    def write(self) -> NcnnModel:
        """
        Translate the graph, once.

        :raises NotForNcnnError: naming the first node that no rule covers
        """
        for spec in (*self.graph.inputs, *self.graph.outputs):
            if spec.dtype != 'float32':
                raise NotForNcnnError('%s is %s, ncnn is given float32' % (spec.name, spec.dtype))
        for spec in self.graph.inputs:
            self._declare(spec.name, spec.shape)
        for node in self.graph.nodes:
            self._translate(node)
        for spec in self.graph.outputs:
            if spec.name not in self.shapes:
                raise NotForNcnnError('its output %s is a constant' % spec.name)
        return assemble(self.layers, [self._blobs[s.name] for s in self.graph.inputs],
                        [self._blobs[s.name] for s in self.graph.outputs])

    def _translate(self, node: Node) -> None:
        rule = self._rules.get(node.operator) if not node.domain else None
        if rule is None:
            raise NotForNcnnError('there is no rule for %s' % node.label)
        if any(node.outputs[1:]) and node.operator != 'Split':
            raise NotForNcnnError('%s has more than one output' % node.label)
        try:
            rule(self, node)
        except (LookupError, ArithmeticError, ValueError, TypeError) as error:
            raise NotForNcnnError('%s is not as ONNX describes it (%s)' % (
                node.label, first_line(error))) from error

    def _declare(self, tensor: str, shape: Shape) -> None:
        if not 2 <= len(shape) <= 4 or shape[0] != 1:
            raise NotForNcnnError('tensor %s %r has no single batch of one to three axes' % (
                tensor, shape))
        self.shapes[tensor] = shape
        self._blobs[tensor] = 'b%d' % len(self._blobs)

    def add(self, kind: str, node: Node, shape: Shape,
            parameters: Optional[Mapping[int, Parameter]] = None,
            weights: Sequence[Tuple[np.ndarray, bool]] = (), *,
            inputs: Optional[Sequence[str]] = None) -> Layer:
        """Add a layer that writes the node's output; inputs are tensors, the first by default."""
        read = [self.blob(node, name) for name in inputs or node.inputs[:1]]
        self._declare(node.outputs[0], shape)
        layer = Layer(kind, read, [self._blobs[node.outputs[0]]], dict(parameters or {}),
                      list(weights))
        self.layers.append(layer)
        return layer

    def add_split(self, node: Node, shapes: Sequence[Shape], axis: int) -> None:
        """Add a layer that parts its input along an axis."""
        read = [self.blob(node, node.inputs[0])]
        for name, shape in zip(node.outputs, shapes):
            self._declare(name, shape)
        self.layers.append(Layer(
            'Slice', read, [self._blobs[name] for name in node.outputs],
            {0: [shape[axis] for shape in shapes], 1: axis - 1}))

    def insert(self, kind: str, output: str, parameters: Mapping[int, Parameter],
               weights: Sequence[Tuple[np.ndarray, bool]] = (), *, source: str = '') -> None:
        """Add a layer behind a blob, or one without an input, that ONNX does not have."""
        self.layers.append(Layer(kind, [source] if source else [], [output], dict(parameters),
                                 list(weights)))

    def new_blob(self, tensor: str, shape: Shape) -> str:
        """Return a blob for a constant that a layer is going to give."""
        if tensor not in self._blobs:
            self._declare(tensor, shape)
        return self._blobs[tensor]

    def alias(self, node: Node) -> None:
        """Let the output be the input."""
        source = node.inputs[0]
        if source in self.constants:
            self.constants[node.outputs[0]] = self.constants[source]
            return
        self._blobs[node.outputs[0]] = self.blob(node, source)
        self.shapes[node.outputs[0]] = self.shapes[source]

    def blob(self, node: Node, tensor: str) -> str:
        """Return the blob of a tensor that is computed."""
        if tensor not in self._blobs:
            raise NotForNcnnError('%s reads the constant %s' % (node.label, tensor))
        return self._blobs[tensor]

    def shape(self, node: Node, index: int = 0) -> Shape:
        """Return the shape of a computed input."""
        name = node.inputs[index]
        if name not in self.shapes:
            raise NotForNcnnError('%s reads the constant %s' % (node.label, name))
        return self.shapes[name]

    def constant(self, node: Node, index: int) -> Optional[np.ndarray]:
        """Return a constant input, None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        name = node.inputs[index]
        if name not in self.constants:
            raise NotForNcnnError('%s computes its input %s, which must be a constant' % (
                node.label, name))
        return self.constants[name]

    def needed(self, node: Node, index: int) -> np.ndarray:
        """Return a constant input that must be there."""
        found = self.constant(node, index)
        if found is None:
            raise NotForNcnnError('%s lacks its input %d' % (node.label, index))
        return found

    def setting(self, node: Node, name: str, index: int) -> Optional[Tuple[int, ...]]:
        """Return whole numbers that are an attribute or, in later opsets, an input."""
        if name in node.attributes:
            return ints(node, name)
        found = self.constant(node, index)
        return None if found is None else tuple(int(v) for v in found.reshape(-1))

    def producer(self, tensor: str) -> Optional[Layer]:
        """Return the layer that writes a tensor which nobody else reads."""
        blob = self._blobs.get(tensor)
        if self.reads.count(tensor) != 1:
            return None
        return next((layer for layer in self.layers if blob in layer.outputs), None)


def ints(node: Node, name: str, default: Sequence[int] = ()) -> Tuple[int, ...]:
    """Return an attribute of whole numbers."""
    value: Any = node.attributes.get(name, tuple(default))
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(value),)
