# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A model in the terms of ncnn: layers, blobs and weights, and the text that ncnn reads.

ncnn knows no batch: a tensor (1, C, H, W) is a blob (C, H, W). Every blob has one reader, so a
Split layer stands where there are several.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple, Union

import numpy as np

MAGIC = '7767517'
FLOAT32_TAG = b'\0\0\0\0'
Parameter = Union[int, float, Sequence[int], Sequence[float]]
_ONLY_READ = ('Convolution', 'ConvolutionDepthWise', 'InnerProduct', 'Pooling')
ACTIVATED = ('Convolution', 'ConvolutionDepthWise', 'InnerProduct')
_ACTIVATION_TYPE, _ACTIVATION_VALUES = 9, 10
_LIST = -23300


@dataclass
class Layer:
    """
    One ncnn layer.

    :param kind: ncnn's name of it
    :param inputs: blobs
    :param parameters: by ncnn's number of them
    :param weights: in ncnn's order; True where ncnn looks for a tag that tells the type
    """

    kind: str
    inputs: List[str]
    outputs: List[str]
    parameters: Dict[int, Parameter] = field(default_factory=dict)
    weights: List[Tuple[np.ndarray, bool]] = field(default_factory=list)


@dataclass(frozen=True)
class NcnnModel:
    """
    What ncnn loads.

    :param text: the .param file
    :param weights: the .bin file in pieces, float32; not copied where nothing was folded
    :param inputs: blob of each graph input
    :param outputs: blob of each graph output
    :param lent: for each input whether its reader leaves it as it is; others need a copy of their
        own, since ncnn computes in place or passes on what it was given
    """

    text: str
    weights: Tuple[memoryview, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    lent: Tuple[bool, ...]


def assemble(layers: List[Layer], inputs: Sequence[str], outputs: Sequence[str]) -> NcnnModel:
    """
    Write layers down, simplified and with Split layers.

    :param layers: in the order in which they run, changed; without Input layers
    :param inputs: blobs that are given
    :param outputs: blobs that are asked for
    """
    layers = _without_reshaped_vectors(layers, set(outputs))
    layers = _with_activations(layers, set(outputs))
    readers = _readers(layers)
    lent = tuple(name not in outputs and [r.kind in _ONLY_READ for r in readers.get(name, ())]
                 == [True] for name in inputs)
    layers = [*(Layer('Input', [], [name]) for name in inputs), *layers]
    layers, taken = _with_splits(layers, outputs)
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [MAGIC, '%d %d' % (len(layers), blobs),
             *(_line(index, layer) for index, layer in enumerate(layers))]
    weights = tuple(piece for layer in layers for piece in _pieces(layer))
    return NcnnModel('\n'.join(lines) + '\n', weights, tuple(inputs), taken, lent)


def _readers(layers: Sequence[Layer]) -> Dict[str, List[Layer]]:
    found: Dict[str, List[Layer]] = {}
    for layer in layers:
        for name in layer.inputs:
            found.setdefault(name, []).append(layer)
    return found


def _without_reshaped_vectors(layers: List[Layer], outputs: Set[str]) -> List[Layer]:
    """Drop Reshape before Flatten: a pooled blob is a vector already, in ncnn."""
    readers = _readers(layers)
    dropped: Set[int] = set()
    for layer in layers:
        following = readers.get(layer.outputs[0], [])
        if (layer.kind == 'Reshape' and layer.outputs[0] not in outputs and following
                and all(reader.kind == 'Flatten' for reader in following)):
            for reader in following:
                reader.inputs = list(layer.inputs)
            dropped.add(id(layer))
    return [layer for layer in layers if id(layer) not in dropped]


def _with_activations(layers: List[Layer], outputs: Set[str]) -> List[Layer]:
    """Let a convolution or inner product apply the activation that alone reads it."""
    readers = _readers(layers)
    dropped: Set[int] = set()
    for layer in layers:
        if layer.kind not in ACTIVATED or layer.outputs[0] in outputs:
            continue
        following = readers.get(layer.outputs[0], [])
        if len(following) == 1 and _activation(following[0]):
            layer.parameters.update(_activation(following[0]))
            layer.outputs = following[0].outputs
            dropped.add(id(following[0]))
    return [layer for layer in layers if id(layer) not in dropped]


def _activation(layer: Layer) -> Mapping[int, Parameter]:
    """Return what makes a layer apply another one to its result, empty where it cannot."""
    values = [float(v) for v in layer.parameters.values() if isinstance(v, (int, float))]
    if layer.kind == 'ReLU':
        return {_ACTIVATION_TYPE: 2, _ACTIVATION_VALUES: values} if values else {
            _ACTIVATION_TYPE: 1}
    types = {'Clip': 3, 'Sigmoid': 4, 'HardSwish': 6}
    if layer.kind not in types:
        return {}
    found: Dict[int, Parameter] = {_ACTIVATION_TYPE: types[layer.kind]}
    if values:
        found[_ACTIVATION_VALUES] = values
    return found


def _with_splits(layers: List[Layer], outputs: Sequence[str]
                 ) -> Tuple[List[Layer], Tuple[str, ...]]:
    """Give each reader a blob of its own; who takes an output is a reader too."""
    counts: Dict[str, int] = {}
    for name in [*(name for layer in layers for name in layer.inputs), *outputs]:
        counts[name] = counts.get(name, 0) + 1
    copies: Dict[str, List[str]] = {}
    found: List[Layer] = []
    for layer in layers:
        layer.inputs = [_own(name, copies) for name in layer.inputs]
        found.append(layer)
        for name in layer.outputs:
            if counts.get(name, 0) > 1:
                copies[name] = ['%s_%d' % (name, i) for i in range(counts[name])]
                found.append(Layer('Split', [name], list(copies[name])))
    return found, tuple(_own(name, copies) for name in outputs)


def _own(name: str, copies: Dict[str, List[str]]) -> str:
    return copies[name].pop(0) if name in copies else name


def _line(index: int, layer: Layer) -> str:
    words = [layer.kind, 'l%d' % index, str(len(layer.inputs)), str(len(layer.outputs)),
             *layer.inputs, *layer.outputs]
    for number, value in layer.parameters.items():
        if isinstance(value, (int, float)):
            words.append('%d=%s' % (number, _number(value)))
        else:
            words.append('%d=%d,%s' % (_LIST - number, len(value),
                                       ','.join(_number(v) for v in value)))
    return ' '.join(words)


def _number(value: Union[int, float]) -> str:
    """Return a number as ncnn tells kinds apart: a real one has a point or an exponent."""
    return '%.9e' % value if isinstance(value, float) else str(int(value))


def _pieces(layer: Layer) -> List[memoryview]:
    found: List[memoryview] = []
    for array, tagged in layer.weights:
        if tagged:
            found.append(memoryview(FLOAT32_TAG))
        content: Any = np.ascontiguousarray(array, '<f4')
        found.append(memoryview(content).cast('B'))
    return found
