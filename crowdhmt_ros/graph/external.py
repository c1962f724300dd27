# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The data of an ONNX model: in the file, or in files beside it, read without trust. Offline."""
from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Iterator, Mapping, Optional

import onnx

from crowdhmt_ros.errors import DataError

_TYPED = ('float_data', 'int32_data', 'int64_data', 'double_data', 'uint64_data', 'string_data')
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_FOUR_BITS = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model that holds values, those within subgraphs among them."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField('t'):
            yield attribute.t
        yield from attribute.tensors
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)


def tensor_problem(tensor: onnx.TensorProto) -> Optional[str]:
    """
    Tell whether a tensor holds as much as its shape says.

    :returns: what is wrong, None when all is well
    """
    name = tensor.name or 'without name'
    if any(extent < 0 for extent in tensor.dims):
        return 'tensor %s has a negative extent' % name
    try:
        itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        return 'tensor %s has the unknown type %d' % (name, tensor.data_type)
    count = math.prod(tensor.dims)
    if tensor.HasField('raw_data'):
        bits = 4 if tensor.data_type in _FOUR_BITS else 8 * itemsize
        wanted, found = (count * bits + 7) // 8, len(tensor.raw_data)
    else:
        wanted = 2 * count if tensor.data_type in _COMPLEX else count
        found = sum(len(getattr(tensor, field)) for field in _TYPED)
    if wanted != found:
        return 'tensor %s %r needs %d values or bytes, the file holds %d' % (
            name, tuple(tensor.dims), wanted, found)
    return None


def embed(model: onnx.ModelProto, folder: Path, limit_bytes: int) -> None:
    """
    Take the data beside a model into it.

    :param model: changed
    :param folder: where the model lies; no other is read
    :param limit_bytes: of all data together
    :raises DataError: a path leads out of the folder, a file is missing or shorter than the
        model says, or there is too much
    """
    base = folder.resolve()
    left = limit_bytes
    for tensor in tensors_of(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(base, place.get('location', ''), tensor.name)
        content = _read(path, place, tensor, left)
        left -= len(content)
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inside(base: Path, location: str, name: str) -> Path:
    parts = PurePosixPath(location).parts
    refused = DataError('tensor %s lies in %.80r: its data must be in the folder of the model'
                        % (name, location))
    if not parts or location.startswith('/') or '..' in parts or '\\' in location or (
            '\0' in location):
        raise refused
    try:
        found = (base / location).resolve()
        found.relative_to(base)
    except (ValueError, OSError, RuntimeError) as error:
        raise refused from error
    return found


def _read(path: Path, place: Mapping[str, str], tensor: onnx.TensorProto, left: int) -> bytes:
    offset, length = _number(place, 'offset', tensor.name), _number(place, 'length', tensor.name)
    try:
        itemsize = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        itemsize = 0
    wanted = math.prod(tensor.dims) * itemsize
    fits = itemsize and length == wanted if 'length' in place else itemsize
    if any(e < 0 for e in tensor.dims) or not fits:
        raise DataError('tensor %s %r does not fit the %d bytes that the model says it has: '
                        'export it again' % (tensor.name, tuple(tensor.dims), length))
    if wanted > left:
        raise DataError('tensor %s takes %d bytes: all data together is more than a bundle may '
                        'hold' % (tensor.name, wanted))
    try:
        if not path.is_file():
            raise DataError('tensor %s lies in %s, which is missing: put it beside the model'
                            % (tensor.name, path.name))
        with open(path, 'rb') as stream:
            stream.seek(offset)
            content = stream.read(wanted)
    except OSError as error:
        raise DataError('%s cannot be read (%s)' % (path, error.strerror or error)) from error
    if len(content) != wanted:
        raise DataError('%s ends before tensor %s does: copy it again' % (path, tensor.name))
    return content


def _number(place: Mapping[str, str], key: str, name: str) -> int:
    text = place.get(key, '0')
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise DataError('tensor %s: %s %.40r is no number of bytes: export it again'
                        % (name, key, text))
    return int(text)
