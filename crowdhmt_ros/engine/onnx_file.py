# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Read an ONNX graph without the onnx package: robots do not have it.

Engines that do not read ONNX themselves (ncnn, PyTorch) are given what this module returns.
Only what segments are made of is read: one graph of fixed shapes, no functions and no subgraphs.
Weights stay where they are: what lies in the file or beside it is mapped into memory, private to
this process (copy on write), so a reader that never writes shares the pages with all others.
"""
from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from crowdhmt_ros.engine import protobuf
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import TensorSpec

Attribute = Union[int, float, str, Tuple[int, ...], Tuple[float, ...], Tuple[str, ...], np.ndarray]
_Files = Callable[[str], memoryview]

DTYPES = {1: 'float32', 2: 'uint8', 3: 'int8', 4: 'uint16', 5: 'int16', 6: 'int32', 7: 'int64',
          9: 'bool', 10: 'float16', 11: 'float64', 12: 'uint32', 13: 'uint64'}
_EXTERNAL = 1


@dataclass(frozen=True)
class Node:
    """
    One operator.

    :param inputs: tensor names, '' for one that is left out
    :param attributes: as in the file; a tensor is an array
    """

    name: str
    operator: str
    domain: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For messages: operator and name."""
        return '%s %s' % (self.operator, self.name or '(%s)' % ', '.join(self.outputs))


@dataclass(frozen=True)
class GraphFile:
    """
    A graph as it lies in its file.

    :param inputs: without initialisers
    :param nodes: in the order of the file, which is a topological one; without Constant nodes
    :param constants: initialisers and values of Constant nodes; never write to one
    :param opset: of the default domain
    """

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    nodes: Tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    opset: int


_DAMAGE = (protobuf.WireError, struct.error, IndexError, KeyError, ValueError, OverflowError,
           TypeError, MemoryError, OSError)


def read_graph(path: str) -> GraphFile:
    """
    Read a graph and map its weights.

    :param path: an ONNX file; its external data may only lie in the same folder
    :raises BackendError: when the file is missing, damaged, or no plain graph of fixed shapes
    """
    try:
        return _model(_map(path), _beside(path))
    except _DAMAGE as error:
        said = ''.join(c if c.isprintable() else '?' for c in str(error))[:300]
        raise BackendError('%s is not a graph that can be read (%s): materialise the bundle again'
                           % (path, said or type(error).__name__)) from error


def _map(path: str) -> memoryview:
    with open(path, 'rb') as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise protobuf.WireError('it is empty')
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))


def _beside(path: str) -> _Files:
    """Return what opens files of external data, each once."""
    opened: Dict[str, memoryview] = {}

    def find(location: str) -> memoryview:
        if location not in opened:
            if PurePosixPath(location).name != location or '\0' in location:
                raise protobuf.WireError('its data lies outside its folder, in %.80r' % location)
            opened[location] = _map(os.path.join(os.path.dirname(path), location))
        return opened[location]
    return find


def _model(view: memoryview, files: _Files) -> GraphFile:
    graph: Optional[memoryview] = None
    opset = 0
    for number, value in protobuf.fields(view):
        if number == 7:
            graph = protobuf.view_of(value)
        elif number == 8:
            domain, version = _opset(protobuf.view_of(value))
            opset = version if domain in ('', 'ai.onnx') else opset
        elif number == 25:
            raise protobuf.WireError('it has functions')
    if graph is None:
        raise protobuf.WireError('it holds no graph')
    return _graph(graph, opset, files)


def _opset(view: memoryview) -> Tuple[str, int]:
    domain, version = '', 0
    for number, value in protobuf.fields(view):
        if number == 1:
            domain = protobuf.text(value)
        elif number == 2:
            version = protobuf.whole(value)
    return domain, version


def _graph(view: memoryview, opset: int, files: _Files) -> GraphFile:
    nodes: List[Node] = []
    constants: Dict[str, np.ndarray] = {}
    inputs: List[TensorSpec] = []
    outputs: List[TensorSpec] = []
    for number, value in protobuf.fields(view):
        if number == 1:
            node = _node(protobuf.view_of(value), files)
            if node.operator == 'Constant' and not node.domain:
                constants[node.outputs[0]] = _constant(node)
            else:
                nodes.append(node)
        elif number == 5:
            name, array = _tensor(protobuf.view_of(value), files)
            constants[name] = array
        elif number in (11, 12):
            (inputs if number == 11 else outputs).append(spec_of(protobuf.view_of(value)))
        elif number == 15:
            raise protobuf.WireError('it has sparse initialisers')
    given = tuple(spec for spec in inputs if spec.name not in constants)
    _check_order(given, nodes, constants, outputs)
    return GraphFile(given, tuple(outputs), tuple(nodes), constants, opset)


def _check_order(inputs: Tuple[TensorSpec, ...], nodes: List[Node],
                 constants: Mapping[str, np.ndarray], outputs: List[TensorSpec]) -> None:
    known = {'', *constants, *(spec.name for spec in inputs)}
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise protobuf.WireError('%s reads %s, which nothing before it writes' % (
                    node.label, name))
        known.update(node.outputs)
    for spec in outputs:
        if spec.name not in known:
            raise protobuf.WireError('nothing writes its output %s' % spec.name)


def spec_of(view: memoryview) -> TensorSpec:
    """Return what a `value_info` says; a shape that is not fixed is damage."""
    name, dtype = '', 'unknown'
    shape: Optional[Tuple[int, ...]] = None
    for number, value in protobuf.fields(view):
        if number == 1:
            name = protobuf.text(value)
        elif number == 2:
            for kind, tensor in protobuf.fields(protobuf.view_of(value)):
                if kind == 1:
                    dtype, shape = _tensor_type(protobuf.view_of(tensor))
    if shape is None:
        raise protobuf.WireError('%s has no fixed shape' % name)
    return TensorSpec(name, dtype, shape)


def _tensor_type(view: memoryview) -> Tuple[str, Optional[Tuple[int, ...]]]:
    dtype, shape = 'unknown', None
    for number, value in protobuf.fields(view):
        if number == 1:
            dtype = DTYPES.get(protobuf.whole(value), 'type %d' % protobuf.whole(value))
        elif number == 2:
            dims = protobuf.fields(protobuf.view_of(value))
            extents = [_extent(protobuf.view_of(dim)) for n, dim in dims if n == 1]
            shape = None if None in extents else tuple(e for e in extents if e is not None)
    return dtype, shape


def _extent(view: memoryview) -> Optional[int]:
    for number, value in protobuf.fields(view):
        if number == 1 and protobuf.whole(value) > 0:
            return protobuf.whole(value)
    return None


def _node(view: memoryview, files: _Files) -> Node:
    texts: Dict[int, str] = {}
    inputs: List[str] = []
    outputs: List[str] = []
    attributes: Dict[str, Attribute] = {}
    for number, value in protobuf.fields(view):
        if number == 1:
            inputs.append(protobuf.text(value))
        elif number == 2:
            outputs.append(protobuf.text(value))
        elif number == 5:
            name, attribute = _attribute(protobuf.view_of(value), files)
            attributes[name] = attribute
        elif number in (3, 4, 7):
            texts[number] = protobuf.text(value)
    domain = texts.get(7, '')
    return Node(texts.get(3, ''), texts.get(4, ''), '' if domain == 'ai.onnx' else domain,
                tuple(inputs), tuple(outputs), attributes)


def _attribute(view: memoryview, files: _Files) -> Tuple[str, Attribute]:
    name, single = '', None  # type: str, Optional[Attribute]
    whole: List[int] = []
    real: List[float] = []
    texts: List[str] = []
    kind = 0
    for number, value in protobuf.fields(view):
        if number == 1:
            name = protobuf.text(value)
        elif number == 2:
            single = protobuf.floats(value)[0]
        elif number == 3:
            single = protobuf.whole(value)
        elif number == 4:
            single = bytes(protobuf.view_of(value)).decode(errors='replace')
        elif number == 5:
            single = _tensor(protobuf.view_of(value), files)[1]
        elif number in (6, 10, 11, 21):
            raise protobuf.WireError('attribute %s holds a graph or a reference' % name)
        elif number == 7:
            real += protobuf.floats(value)
        elif number == 8:
            whole += protobuf.numbers(value)
        elif number == 9:
            texts.append(protobuf.text(value))
        elif number == 20:
            kind = protobuf.whole(value)
    lists: Mapping[int, Attribute] = {6: tuple(real), 7: tuple(whole), 8: tuple(texts)}
    if kind in lists:
        return name, lists[kind]
    return name, 0 if single is None else single  # a zero may be left out of the file


def _constant(node: Node) -> np.ndarray:
    if 'value' in node.attributes:
        return np.asarray(node.attributes['value'])
    for key, dtype in (('value_float', 'float32'), ('value_int', 'int64'),
                       ('value_floats', 'float32'), ('value_ints', 'int64')):
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype)
    raise protobuf.WireError('%s has no value that can be read' % node.label)


def _tensor(view: memoryview, files: _Files) -> Tuple[str, np.ndarray]:
    dims: List[int] = []
    name, kind, location = '', 0, 0
    raw: Optional[memoryview] = None
    typed: List[Union[int, float]] = []
    place: Dict[str, str] = {}
    for number, value in protobuf.fields(view):
        if number == 1:
            dims += protobuf.numbers(value)
        elif number == 2:
            kind = protobuf.whole(value)
        elif number == 4:
            typed += protobuf.floats(value)
        elif number in (5, 7, 11):
            typed += protobuf.numbers(value)
        elif number == 8:
            name = protobuf.text(value)
        elif number == 9:
            raw = protobuf.view_of(value)
        elif number == 10:
            doubles = protobuf.view_of(value)
            typed += struct.unpack('<%dd' % (len(doubles) // 8), doubles)
        elif number == 13:
            pair = dict(protobuf.fields(protobuf.view_of(value)))
            place[protobuf.text(pair[1])] = protobuf.text(pair[2])
        elif number == 14:
            location = protobuf.whole(value)
    if kind not in DTYPES:
        raise protobuf.WireError('tensor %s has the unknown type %d' % (name, kind))
    dtype = np.dtype(DTYPES[kind]).newbyteorder('<')
    if location == _EXTERNAL:
        raw = _external(name, place, files)
    return name, _array(name, dtype, tuple(dims), raw, typed)


def _external(name: str, place: Mapping[str, str], files: _Files) -> memoryview:
    content = files(place.get('location', ''))
    offset = int(place.get('offset', '0'))
    length = int(place.get('length', str(len(content) - offset)))
    if not 0 <= offset <= offset + length <= len(content):
        raise protobuf.WireError('the data of tensor %s ends beyond its file' % name)
    return content[offset:offset + length]


def _array(name: str, dtype: np.dtype, shape: Tuple[int, ...], raw: Optional[memoryview],
           typed: List[Union[int, float]]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    if raw is None:
        if dtype.kind == 'f' and dtype.itemsize == 2:  # half floats are kept as their bits
            values = np.array(typed, dtype='<u2').view(dtype)
        else:
            values = np.array(typed, dtype=dtype)
    else:
        if len(raw) != count * dtype.itemsize:
            raise protobuf.WireError('tensor %s needs %d bytes, there are %d' % (
                name, count * dtype.itemsize, len(raw)))
        values = np.frombuffer(raw, dtype)
    if any(extent < 0 for extent in shape) or values.size != count:
        raise protobuf.WireError('tensor %s needs %d values, there are %d' % (
            name, count, values.size))
    return values.reshape(shape)
