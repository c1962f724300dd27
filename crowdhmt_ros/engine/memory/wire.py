# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Cut an ONNX file into pieces without the onnx package: robots do not have it.

Operators and initialisers are copied as the bytes that they are; only names, shapes and the
places of weights are read. Weights beside the file stay there: every piece addresses them.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import TensorSpec

ELEMENT_TYPES = {'float32': 1, 'uint8': 2, 'int8': 3, 'uint16': 4, 'int16': 5, 'int32': 6,
                 'int64': 7, 'bool': 9, 'float16': 10, 'float64': 11, 'uint32': 12, 'uint64': 13}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH = 7
_NODE, _GRAPH_NAME, _INITIALISER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12
_Value = Union[int, bytes]


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
        return _model(Path(path).read_bytes())
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
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
    body: List[bytes] = [_field(_NODE, node.raw) for node in nodes]
    body.append(_field(_GRAPH_NAME, b'piece'))
    read = dict.fromkeys(n for node in nodes for n in node.inputs)
    body += [_field(_INITIALISER, graph.initialisers[n]) for n in read if n in graph.initialisers]
    body += [_field(_INPUT, raw) for raw in inputs.values()]
    body += [_field(_OUTPUT, raw) for raw in outputs.values()]
    return graph.head + _field(_GRAPH, b''.join(body))


def value_info(name: str, spec: Optional[TensorSpec] = None) -> bytes:
    """
    Return what says a tensor's name, type and shape.

    :param spec: None leaves type and shape to the engine
    """
    said = _field(1, name.encode())
    if spec is None:
        return said
    extents = b''.join(_field(1, _number(1, extent)) for extent in spec.shape)
    tensor = _number(1, ELEMENT_TYPES[spec.dtype]) + _field(2, extents)
    return said + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7f:
        found.append(value & 0x7f | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _read_varint(content: bytes, at: int) -> Tuple[int, int]:
    result = shift = 0
    while True:
        byte = content[at]
        at += 1
        result |= (byte & 0x7f) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError('a number does not end')


def _fields(content: bytes) -> Iterator[Tuple[int, _Value, bytes]]:
    """Yield (number, value, the whole field) of a message."""
    at = 0
    while at < len(content):
        start = at
        key, at = _read_varint(content, at)
        value: _Value
        if key & 7 == _VARINT:
            value, at = _read_varint(content, at)
        else:
            if key & 7 == _BYTES:
                length, at = _read_varint(content, at)
            elif key & 7 in (_FIXED32, _FIXED64):
                length = 4 if key & 7 == _FIXED32 else 8
            else:
                raise ValueError('wire type %d' % (key & 7))
            value, at = content[at:at + length], at + length
            if at > len(content):
                raise ValueError('a field ends beyond its message')
        yield key >> 3, value, content[start:at]


def _bytes(value: _Value) -> bytes:
    if isinstance(value, int):
        raise ValueError('a number stands where a message must')
    return value


def _model(content: bytes) -> WireGraph:
    head: List[bytes] = []
    body: Optional[bytes] = None
    for number, value, whole in _fields(content):
        if number == _GRAPH:
            body = _bytes(value)
        else:
            head.append(whole)
    if body is None:
        raise ValueError('it holds no graph')
    return _graph(b''.join(head), body)


def _graph(head: bytes, body: bytes) -> WireGraph:
    nodes: List[WireNode] = []
    initialisers: Dict[str, bytes] = {}
    places: Dict[str, Place] = {}
    infos: Dict[int, Dict[str, bytes]] = {_INPUT: {}, _OUTPUT: {}}
    for number, value, _ in _fields(body):
        if number == _NODE:
            nodes.append(_node(_bytes(value)))
        elif number == _INITIALISER:
            name, place = _initialiser(_bytes(value))
            initialisers[name] = _bytes(value)
            if place is not None:
                places[name] = place
        elif number in infos:
            name = next(_bytes(v).decode() for n, v, _ in _fields(_bytes(value)) if n == 1)
            infos[number][name] = _bytes(value)
    inputs = {name: raw for name, raw in infos[_INPUT].items() if name not in initialisers}
    return WireGraph(head, tuple(nodes), initialisers, places, inputs, infos[_OUTPUT])


def _node(raw: bytes) -> WireNode:
    lists: Dict[int, List[str]] = {1: [], 2: []}
    texts: Dict[int, str] = {}
    nested = False
    for number, value, _ in _fields(raw):
        if number in lists:
            lists[number].append(_bytes(value).decode())
        elif number in (3, 4, 7):
            texts[number] = _bytes(value).decode()
        elif number == 5:
            nested = nested or any(n in (6, 11) for n, _, _ in _fields(_bytes(value)))
    domain = texts.get(7, '')
    return WireNode(raw, texts.get(3) or next((o for o in lists[2] if o), ''), texts.get(4, ''),
                    '' if domain == 'ai.onnx' else domain, tuple(lists[1]), tuple(lists[2]),
                    nested)


def _initialiser(raw: bytes) -> Tuple[str, Optional[Place]]:
    name, external = '', {}
    for number, value, _ in _fields(raw):
        if number == 8:
            name = _bytes(value).decode()
        elif number == 13:
            pair = {n: _bytes(v).decode() for n, v, _ in _fields(_bytes(value))}
            external[pair[1]] = pair[2]
    if 'location' not in external:
        return name, None
    return name, Place(external['location'], int(external.get('offset', '0')),
                       int(external.get('length', '0')))
