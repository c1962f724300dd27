# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The graphs of a bundle that is being written: whole, heads, tails and pieces, without weights.

Offline. The weights are recipes into the bundle's store, laid out in one file of initialisers
that robots compute; initialisers that are tiny or of a type that no store holds stay in the
graphs.
"""
from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.manifest import CROSSING_TYPES
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.counts import layer_costs
from crowdhmt_ros.graph.family import FamilyGraph, Recipe, realise
from crowdhmt_ros.graph.split import TOLERANCE, Reference, pieces, split, steps
from crowdhmt_ros.types import LayerCost

ALIGNMENT_BYTES = 64
MAX_OPSET = 17
MAX_IR_VERSION = 8
INITIALISERS = 'initialisers.bin'
INLINE_ELEMENTS = 16
"""Initialisers up to this size may stay in the graphs; engines look at them while they compile."""


def aligned(offset: int) -> int:
    """Return the next place at which a tensor may begin."""
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def sha256_of(content: bytes) -> str:
    """Return a digest, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Initialisers:
    """The initialisers of all graphs, each distinct recipe once."""

    def __init__(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        self._tensors = tensors
        self._index: Dict[Recipe, int] = {}
        self.entries: List[Dict[str, Any]] = []
        self.bytes = 0

    def add(self, recipe: Recipe) -> int:
        """Return the index of a recipe, new or known."""
        if recipe in self._index:
            return self._index[recipe]
        value = realise(recipe, self._tensors)
        content = value.astype(value.dtype.newbyteorder('<')).tobytes()
        offset = aligned(self.bytes)
        self.entries.append({
            'offset': offset, 'shape': list(recipe.shape), 'dtype': recipe.dtype,
            'tensor': recipe.tensor, 'slices': [list(s) for s in recipe.slices],
            'scale': recipe.scale, 'scale_axis': recipe.scale_axis, 'sha256': sha256_of(content)})
        self.bytes = offset + len(content)
        self._index[recipe] = len(self.entries) - 1
        return self._index[recipe]

    @property
    def tensors(self) -> Set[str]:
        """The shared tensors that the recipes read."""
        return {name for recipe in self._index for name in (recipe.tensor, recipe.scale)
                if name is not None}

    def place(self, index: int) -> Tuple[int, int]:
        """Return (offset, length) of an entry in the initialisers' file."""
        entry = self.entries[index]
        return entry['offset'], math.prod(entry['shape']) * np.dtype(entry['dtype']).itemsize


def weightless(source: onnx.ModelProto, place: Mapping[str, Tuple[int, int]], *,
               name: str) -> onnx.ModelProto:
    """
    Replace the values of a graph's initialisers by their place in the initialisers' file.

    :param source: the graph; it is not changed
    :param place: initialiser -> (offset, length)
    :param name: of the graph, for the error
    :raises ExportError: a float32 initialiser of more than `INLINE_ELEMENTS` has no recipe
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    for tensor in model.graph.initializer:
        if tensor.name not in place:
            if (tensor.data_type == onnx.TensorProto.FLOAT
                    and math.prod(tensor.dims) > INLINE_ELEMENTS):
                raise ExportError('initialiser %s of %s has no recipe' % (tensor.name, name))
            continue
        offset, length = place[tensor.name]
        for values in ('raw_data', 'float_data', 'int32_data'):
            tensor.ClearField(values)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (('location', INITIALISERS), ('offset', offset), ('length', length)):
            tensor.external_data.add(key=key, value=str(value))
    return model


def _check_versions(model: onnx.ModelProto, name: str) -> Tuple[int, int]:
    opset = max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))
    if opset > MAX_OPSET or model.ir_version > MAX_IR_VERSION:
        raise ExportError('graph %s has opset %d and file version %d; robots read up to %d and %d'
                          % (name, opset, model.ir_version, MAX_OPSET, MAX_IR_VERSION))
    return opset, model.ir_version


def _specs(values: Sequence[onnx.ValueInfoProto]) -> List[Dict[str, Any]]:
    return [{'name': v.name, 'dtype': _dtype(v),
             'shape': [d.dim_value for d in v.type.tensor_type.shape.dim]} for v in values]


def _dtype(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type.elem_type
    try:
        name = str(onnx.helper.tensor_dtype_to_np_dtype(kind).name)
    except KeyError:
        name = 'no tensor'
    if name not in CROSSING_TYPES:
        raise ExportError('tensor %s is %s; robots exchange %s'
                          % (value.name, name, ', '.join(CROSSING_TYPES)))
    return name


def _layers(costs: Sequence[LayerCost]) -> List[Dict[str, Any]]:
    return [{'name': c.name, 'operator': c.operator, 'macs': c.macs,
             'input_words': c.input_words, 'weight_words': c.weight_words,
             'output_words': c.output_words} for c in costs]


class Files:
    """Files written into the new directory, with their digests."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.entries: List[Dict[str, Any]] = []

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.entries.append({'path': path, 'bytes': len(content), 'sha256': sha256_of(content)})


@dataclass(frozen=True, eq=False)
class Part:
    """
    One graph of a variant: all of it, or what lies on one side of a cut.

    :param fusion_set: families of rewrites that were applied, see `graph.fusion`
    :param recipes: initialiser -> recipe where they are not the variant's
    :param precision: 'int8' for a graph that says itself what is computed in whole numbers
    :param counted: the graph whose work it does, itself when None
    """

    segment_id: str
    role: str
    model: onnx.ModelProto
    cut_id: str = ''
    fusion_set: str = 'none'
    recipes: Optional[Mapping[str, Recipe]] = None
    precision: str = 'fp32'
    counted: Optional[onnx.ModelProto] = None


def parts(graph: FamilyGraph, tolerance: float = TOLERANCE) -> Iterator[Part]:
    """
    Yield the whole of a variant, then head and tail of each cut, then the pieces between cuts.

    Of one with early exits, the whole and then its steps.

    :param tolerance: by which what they compute together may differ from the whole
    :raises ExportError: it differs by more, or a cut does not part the graph
    """
    yield Part(graph.variant_id + '-whole', 'whole', graph.model)
    if graph.exits:
        yield from _step_parts(graph, tolerance)
        return
    if not graph.cuts:
        return
    reference = Reference(graph.model)
    for cut_id, tensors in graph.cuts.items():
        head, tail = split(graph.model, tensors)
        reference.check((head, tail), tolerance)
        yield Part(cut_id + '-head', 'head', head, cut_id)
        yield Part(cut_id + '-tail', 'tail', tail, cut_id)
    if graph.pieces and len(graph.cuts) > 1:
        chain = pieces(graph.model, tuple(graph.cuts.values()))
        reference.check(chain, tolerance)
        for cut_id, piece in zip(graph.cuts, chain[1:-1]):
            yield Part(cut_id + '-piece', 'piece', piece, cut_id)


def exit_cut(variant_id: str, exit_index: int) -> str:
    """Name what goes on from an early exit."""
    return '%s-exit%d' % (variant_id, exit_index)


def _step_parts(graph: FamilyGraph, tolerance: float) -> Iterator[Part]:
    if graph.cuts:
        raise ExportError('%s answers early, so it cannot be cut for peers as well'
                          % graph.variant_id)
    chain = steps(graph.model, tuple(graph.exits.values()))
    Reference(graph.model).check([model for _, model in chain], tolerance)
    cut_id = ''
    for number, (_, model) in zip(graph.exits, chain):
        cut_id = exit_cut(graph.variant_id, number)
        yield Part(cut_id, 'exit', model, cut_id)
    yield Part(graph.variant_id + '-end', 'end', chain[-1][1], cut_id)


def _segment(part: Part, variant_id: str, path: str, indices: Sequence[int]) -> Dict[str, Any]:
    opset, ir_version = _check_versions(part.model, part.segment_id)
    entry = {'segment_id': part.segment_id, 'file': path, 'role': part.role,
             'variant_id': variant_id, 'fusion_set': part.fusion_set, 'opset': opset,
             'ir_version': ir_version, 'inputs': _specs(part.model.graph.input),
             'outputs': _specs(part.model.graph.output), 'recipes': sorted(set(indices)),
             'layers': _layers(layer_costs(part.counted or part.model))}
    further = {'cut_id': part.cut_id} if part.cut_id else {}
    if part.precision != 'fp32':
        further['precision'] = part.precision
    return {**entry, **further}


class Graphs:
    """Graphs written into the new directory, with the manifest's entries for them."""

    def __init__(self, initialisers: Initialisers, files: Files) -> None:
        self._initialisers = initialisers
        self._files = files
        self.segments: List[Dict[str, Any]] = []
        self.cuts: List[Dict[str, Any]] = []

    def add(self, graph: FamilyGraph, part: Part) -> None:
        """Write one graph without its weights."""
        recipes = graph.recipes if part.recipes is None else part.recipes
        names = [t.name for t in part.model.graph.initializer if t.name in recipes]
        indices = {n: self._initialisers.add(recipes[n]) for n in names}
        place = {n: self._initialisers.place(i) for n, i in indices.items()}
        path = 'graphs/%s.onnx' % part.segment_id
        model = weightless(part.model, place, name=part.segment_id)
        self._files.write(path, model.SerializeToString(deterministic=True))
        self.segments.append(_segment(part, graph.variant_id, path, list(indices.values())))
        if part.fusion_set != 'none' or part.precision != 'fp32':
            return
        if part.role == 'head':
            crossing = part.model.graph.output[:len(graph.cuts[part.cut_id])]
            self.cuts.append({'cut_id': part.cut_id, 'tensors': _specs(crossing)})
        if part.role == 'exit':
            self.cuts.append({'cut_id': part.cut_id,
                              'tensors': _specs(part.model.graph.output[1:])})


