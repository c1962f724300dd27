# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One node of an ONNX graph, one tensor's type, and the records of what rewrites did. Offline."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import (
    Container,
    Dict,
    FrozenSet,
    Iterable,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import onnx
from onnx import helper

Shape = Tuple[int, ...]
PartialShape = Tuple[Optional[int], ...]
AttributeValue = Union[int, float, str, Sequence[int], Sequence[float], onnx.TensorProto]

STANDARD_DOMAINS = ('', 'ai.onnx')


@dataclass(frozen=True)
class TensorType:
    """
    What is known of a tensor.

    :param dtype: `onnx.TensorProto` data type, 0 when unknown
    :param shape: extents, None for an extent that is not known; None when the rank is not
    """

    dtype: int
    shape: Optional[PartialShape] = None

    @property
    def fixed(self) -> Optional[Shape]:
        """All extents, or None when one is unknown."""
        if self.shape is None or any(e is None for e in self.shape):
            return None
        return tuple(e for e in self.shape if e is not None)


@dataclass(frozen=True, eq=False)
class Operator:
    """
    One node of a graph.

    :param name: unique in its graph
    :param captured: tensors that its subgraphs read from this graph
    """

    name: str
    op_type: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)
    domain: str = ''
    captured: FrozenSet[str] = frozenset()

    @property
    def standard(self) -> bool:
        """Whether the operator is one of ONNX's own."""
        return self.domain in STANDARD_DOMAINS

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def input(self, index: int) -> str:
        """Return an input, empty when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ''

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes[name].i) if name in self.attributes else default

    def number(self, name: str, default: float) -> float:
        """Return a floating-point attribute."""
        return float(self.attributes[name].f) if name in self.attributes else default

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        return self.attributes[name].s.decode() if name in self.attributes else default

    def integers(self, name: str) -> Optional[Tuple[int, ...]]:
        """Return an attribute of integers, None when it is left out."""
        return tuple(self.attributes[name].ints) if name in self.attributes else None

    def with_attributes(self, values: Mapping[str, AttributeValue]) -> Operator:
        """Return the operator with some attributes set."""
        return replace(self, attributes=dict(self.attributes, **attributes_of(values)))

    def without_attributes(self, names: Container[str]) -> Operator:
        """Return the operator with some attributes left out."""
        return replace(self, attributes={n: a for n, a in self.attributes.items()
                                         if n not in names})


def attributes_of(values: Mapping[str, AttributeValue]) -> Dict[str, onnx.AttributeProto]:
    """Return the attributes that hold some values."""
    return {n: helper.make_attribute(n, v) for n, v in values.items()}


@dataclass(frozen=True)
class Removal:
    """
    One operator that a pass took out.

    :param rule: name of the pass
    :param reason: why the outputs stay the same without it
    """

    node: str
    op_type: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Addition:
    """One operator that a pass put in, and what it stands for."""

    node: str
    op_type: str
    rule: str
    reason: str


def free_names(graph: onnx.GraphProto) -> FrozenSet[str]:
    """Return the tensors that a subgraph reads from the graphs around it."""
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    found: Set[str] = set()
    for node in graph.node:
        found.update(i for i in node.input if i and i not in known)
        found.update(n for n in captured_by(node) if n not in known)
        known.update(node.output)
    found.update(o.name for o in graph.output if o.name not in known)
    return frozenset(found)


def captured_by(node: onnx.NodeProto) -> FrozenSet[str]:
    graphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    graphs += [g for a in node.attribute for g in a.graphs]
    return frozenset().union(*(free_names(g) for g in graphs))


def read_type(value: onnx.ValueInfoProto) -> TensorType:
    """Return what a value's declaration says."""
    if not value.type.HasField('tensor_type'):
        return TensorType(0)
    tensor = value.type.tensor_type
    if not tensor.HasField('shape'):
        return TensorType(tensor.elem_type)
    return TensorType(tensor.elem_type, tuple(
        int(d.dim_value) if d.HasField('dim_value') else None for d in tensor.shape.dim))


def operator_of(node: onnx.NodeProto, taken: Container[str], index: int) -> Operator:
    name = node.name
    if not name or name in taken:
        name = '%s_%d' % (name or node.op_type, index)
    while name in taken:
        name += '_'
    return Operator(name, node.op_type, _trimmed(node.input), _trimmed(node.output),
                    {a.name: a for a in node.attribute}, node.domain, captured_by(node))


def _trimmed(names: Iterable[str]) -> Tuple[str, ...]:
    found = list(names)
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def node_of(operator: Operator) -> onnx.NodeProto:
    node = onnx.NodeProto(name=operator.name, op_type=operator.op_type, domain=operator.domain,
                          input=operator.inputs, output=operator.outputs)
    node.attribute.extend(operator.attributes.values())
    return node
