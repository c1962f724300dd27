# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Cut an ONNX file into pieces without the onnx package: robots do not have it.

Operators and initialisers are copied as the bytes that they are; only names, shapes and the
places of weights are read. Weights beside the file stay there: every piece addresses them.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from crowdhmt_ros.engine.onnx_file import DTYPES
from crowdhmt_ros.engine.protobuf import (
    WireError,
    field,
    fields,
    number_field,
    numbers,
    spans,
    text,
    view_of,
)
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import TensorSpec

ELEMENT_TYPES: Mapping[str, int] = {dtype: number for number, dtype in DTYPES.items()}
_GRAPH = 7
_NODE_NAME, _ATTRIBUTE, _INTS = 3, 5, 7
_RAW, _BESIDE, _LOCATION = 9, 13, 14
_NODE, _GRAPH_NAME, _INITIALISER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12


@dataclass(frozen=True)
class Place:
    """
    Where an initialiser lies beside its graph.

    :param location: name of the file
    :param offset: in bytes
    :param size_bytes: of the initialiser
    """

    location: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class WireNode:
    """
    One operator.

    :param raw: as it lies in the file
    :param name: its own, else its first result
    :param nested: whether it holds graphs, which may read any tensor of this one
    """

    raw: bytes
    name: str
    operator: str
    domain: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    nested: bool


@dataclass(frozen=True)
class WireGraph:
    """
    What a graph file holds.

    :param head: all of the model but its graph
    :param nodes: in the order in which they run
    :param initialisers: name -> as it lies in the file
    :param places: name -> place, of initialisers beside the file
    :param inputs: name -> as it lies in the file, without initialisers
    :param outputs: the same of the outputs
    """

    head: bytes
    nodes: Tuple[WireNode, ...]
    initialisers: Mapping[str, bytes]
    places: Mapping[str, Place]
    inputs: Mapping[str, bytes]
    outputs: Mapping[str, bytes]

    def weight_bytes(self, node: WireNode) -> int:
        """Return the bytes of an operator's initialisers, as far as they are of any size."""
        return sum(self.places[n].size_bytes if n in self.places
                   else len(self.initialisers.get(n, b'')) for n in set(node.inputs))


def read_wire(path: Union[str, Path]) -> WireGraph:
    """
    Read a graph file.

    :raises BackendError: it is missing or damaged
    """
    try:
        return _model(memoryview(Path(path).read_bytes()))
    except (WireError, OSError, ValueError, IndexError, KeyError) as error:
        raise BackendError('%s is no graph that can be read (%s): delete it and it is made again'
                           % (path, error)) from error


def piece(graph: WireGraph, nodes: Sequence[WireNode], *, inputs: Mapping[str, bytes],
          outputs: Mapping[str, bytes]) -> bytes:
    """
    Return some operators of a graph as a model.

    :param nodes: in order
    :param inputs: name -> `value_info` of all that they read and do not give
    :param outputs: the same of what is read behind them
    """
    body: List[bytes] = [field(_NODE, node.raw) for node in nodes]
    body.append(field(_GRAPH_NAME, b'piece'))
    read = dict.fromkeys(n for node in nodes for n in node.inputs)
    body += [field(_INITIALISER, graph.initialisers[n]) for n in read if n in graph.initialisers]
    body += [field(_INPUT, raw) for raw in inputs.values()]
    body += [field(_OUTPUT, raw) for raw in outputs.values()]
    return graph.head + field(_GRAPH, b''.join(body))


@dataclass(frozen=True)
class Spatial:
    """
    How an operator goes over the rows of an image.

    :param reach: rows that one row of the result hangs on, from the first to the last
    :param stride: rows between two such
    :param pads: top, left, bottom, right
    """

    reach: int
    stride: int
    pads: Tuple[int, ...]


def spatial(node: WireNode) -> Optional[Spatial]:
    """Return how an operator goes over rows; None unless its attributes say it all."""
    lists: Dict[str, List[int]] = {}
    for number, value in fields(memoryview(node.raw)):
        if number == _ATTRIBUTE:
            name, numbers_found, said = _attribute(view_of(value))
            lists[name] = numbers_found
            if name == 'auto_pad' and said != 'NOTSET':
                return None
    kernel, strides, dilations, pads = (
        lists.get(name, []) for name in ('kernel_shape', 'strides', 'dilations', 'pads'))
    if [len(kernel), len(strides), len(dilations), len(pads)] != [2, 2, 2, 4] or any(
            lists.get('ceil_mode', [])):
        return None
    return Spatial((kernel[0] - 1) * dilations[0] + 1, strides[0], tuple(pads))


def changed(node: WireNode, names: Mapping[str, str], pads: Sequence[int]) -> WireNode:
    """Return an operator on other tensors and with other pads."""
    said: List[bytes] = []
    for number, value, whole in spans(memoryview(node.raw)):
        if number in (1, 2):
            said.append(field(number, names.get(text(value), text(value)).encode()))
        elif number == _ATTRIBUTE and _attribute(view_of(value))[0] == 'pads':
            said.append(field(_ATTRIBUTE, b''.join((
                field(1, b'pads'), *(number_field(8, pad) for pad in pads),
                number_field(20, _INTS)))))
        elif number != _NODE_NAME:
            said.append(bytes(whole))
    inputs, outputs = (tuple(names.get(n, n) for n in each)
                       for each in (node.inputs, node.outputs))
    return replace(node, raw=b''.join(said), name=outputs[0], inputs=inputs, outputs=outputs)


def _attribute(raw: memoryview) -> Tuple[str, List[int], str]:
    """Return an attribute's name, its whole numbers and its text."""
    name, said, found = '', '', []  # type: str, str, List[int]
    for number, value in fields(raw):
        if number == 1:
            name = text(value)
        elif number in (3, 8):
            found += numbers(value)
        elif number == 4:
            said = text(value)
    return name, found, said


def held(initialiser: bytes, content: bytes) -> bytes:
    """Return an initialiser that holds its content itself, which lay beside its graph."""
    kept = [bytes(whole) for number, _, whole in spans(memoryview(initialiser))
            if number not in (_RAW, _BESIDE, _LOCATION)]
    return b''.join((*kept, field(_RAW, content)))


def value_info(name: str, spec: Optional[TensorSpec] = None) -> bytes:
    """
    Return what says a tensor's name, type and shape.

    :param spec: None leaves type and shape to the engine
    """
    said = field(1, name.encode())
    if spec is None:
        return said
    extents = b''.join(field(1, number_field(1, extent)) for extent in spec.shape)
    tensor = number_field(1, ELEMENT_TYPES[spec.dtype]) + field(2, extents)
    return said + field(2, field(1, tensor))


def _model(content: memoryview) -> WireGraph:
    head: List[bytes] = []
    body: Optional[memoryview] = None
    for number, value, whole in spans(content):
        if number == _GRAPH:
            body = view_of(value)
        else:
            head.append(bytes(whole))
    if body is None:
        raise WireError('it holds no graph')
    return _graph(b''.join(head), body)


def _graph(head: bytes, body: memoryview) -> WireGraph:
    nodes: List[WireNode] = []
    initialisers: Dict[str, bytes] = {}
    places: Dict[str, Place] = {}
    infos: Dict[int, Dict[str, bytes]] = {_INPUT: {}, _OUTPUT: {}}
    for number, value in fields(body):
        if number == _NODE:
            nodes.append(_node(view_of(value)))
        elif number == _INITIALISER:
            name, place = _initialiser(view_of(value))
            initialisers[name] = bytes(view_of(value))
            if place is not None:
                places[name] = place
        elif number in infos:
            name = next((text(v) for n, v in fields(view_of(value)) if n == 1), '')
            infos[number][name] = bytes(view_of(value))
    inputs = {name: raw for name, raw in infos[_INPUT].items() if name not in initialisers}
    return WireGraph(head, tuple(nodes), initialisers, places, inputs, infos[_OUTPUT])


def _node(raw: memoryview) -> WireNode:
    lists: Dict[int, List[str]] = {1: [], 2: []}
    texts: Dict[int, str] = {}
    nested = False
    for number, value in fields(raw):
        if number in lists:
            lists[number].append(text(value))
        elif number in (3, 4, 7):
            texts[number] = text(value)
        elif number == 5:
            nested = nested or any(n in (6, 11) for n, _ in fields(view_of(value)))
    domain = texts.get(7, '')
    return WireNode(bytes(raw), texts.get(3) or next((o for o in lists[2] if o), ''),
                    texts.get(4, ''), '' if domain == 'ai.onnx' else domain, tuple(lists[1]),
                    tuple(lists[2]), nested)


def _initialiser(raw: memoryview) -> Tuple[str, Optional[Place]]:
    name, external = '', {}
    for number, value in fields(raw):
        if number == 8:
            name = text(value)
        elif number == _BESIDE:
            pair = {n: text(v) for n, v in fields(view_of(value))}
            external[pair[1]] = pair[2]
    if 'location' not in external:
        return name, None
    return name, Place(external['location'], int(external.get('offset', '0')),
                       int(external.get('length', '0')))
