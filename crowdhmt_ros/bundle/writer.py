# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a family of graphs as a bundle: one weight store, weightless graphs, one manifest. Offline.

The directory appears at once: it is written beside its place and renamed.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import CrossingFigure
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.counts import layer_costs
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe, realise
from crowdhmt_ros.graph.split import check_split, split
from crowdhmt_ros.types import InputSpec, LayerCost, Variant

FORMAT_VERSION = 1
ALIGNMENT_BYTES = 64
MAX_OPSET = 17
MAX_IR_VERSION = 8
INITIALISERS = 'initialisers.bin'

Accuracy = Mapping[str, Tuple[float, int]]
"""Condition -> ratio of right answers and images counted."""


@dataclass(frozen=True)
class Description:
    """
    What the manifest says beside the graphs.

    :param name: of the bundle
    :param task: for example 'image_classification'
    :param classes: in the order of the logits
    :param input: what the graphs take
    :param luminance_bands: light band -> (low, high) mean grey 0..1; disjoint, covering 0..1
    :param accuracy: variant_id -> condition -> (value, count)
    :param provenance: how to make the bundle again
    :param crossings: what was measured of the ways to a peer
    """

    name: str
    task: str
    classes: Tuple[str, ...]
    input: InputSpec
    luminance_bands: Mapping[str, Tuple[float, float]]
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    crossings: Tuple[CrossingFigure, ...] = ()


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Initialisers:
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
        content = realise(recipe, self._tensors).astype('<f4').tobytes()
        offset = _aligned(self.bytes)
        self.entries.append({
            'offset': offset, 'shape': list(recipe.shape), 'dtype': 'float32',
            'tensor': recipe.tensor, 'slices': [list(s) for s in recipe.slices],
            'scale': recipe.scale, 'scale_axis': recipe.scale_axis, 'sha256': _sha256(content)})
        self.bytes = offset + len(content)
        self._index[recipe] = len(self.entries) - 1
        return self._index[recipe]


def _used_tensors(family: Family) -> List[str]:
    used = {name for graph in family.graphs for recipe in graph.recipes.values()
            for name in (recipe.tensor, recipe.scale) if name is not None}
    return sorted(used)


def _pack(family: Family) -> Tuple[bytes, List[Dict[str, Any]]]:
    """Lay the shared tensors out; returns the store and its table."""
    content, entries = bytearray(), []
    for name in _used_tensors(family):
        value = family.tensors[name]
        if value.dtype not in (np.float16, np.float32):
            raise ExportError('tensor %s is %s; store float16 or float32' % (name, value.dtype))
        content.extend(b'\0' * (_aligned(len(content)) - len(content)))
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder('<')).tobytes()
        entries.append({'name': name, 'dtype': value.dtype.name, 'shape': list(value.shape),
                        'offset': len(content), 'bytes': len(data)})
        content.extend(data)
    return bytes(content), entries


def weightless(source: onnx.ModelProto, place: Mapping[str, Tuple[int, int]], *,
               name: str) -> onnx.ModelProto:
    """
    Replace the values of a graph's initialisers by their place in the initialisers' file.

    :param source: the graph; it is not changed
    :param place: initialiser -> (offset, length)
    :param name: of the graph, for the error
    :raises ExportError: a float initialiser has no recipe
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    for tensor in model.graph.initializer:
        if tensor.name not in place:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                raise ExportError('initialiser %s of %s has no recipe' % (tensor.name, name))
            continue
        offset, length = place[tensor.name]
        tensor.ClearField('raw_data')
        tensor.ClearField('float_data')
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


def _check_values(graph: FamilyGraph, family: Family) -> None:
    """The recipes must give what the graph was exported with."""
    for tensor in graph.model.graph.initializer:
        recipe = graph.recipes.get(tensor.name)
        if recipe is None:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if not np.array_equal(value, realise(recipe, family.tensors)):
            raise ExportError('initialiser %s of %s differs from its recipe'
                              % (tensor.name, graph.variant_id))


def _specs(values: Sequence[onnx.ValueInfoProto]) -> List[Dict[str, Any]]:
    return [{'name': v.name, 'dtype': 'float32',
             'shape': [d.dim_value for d in v.type.tensor_type.shape.dim]} for v in values]


def _layers(costs: Sequence[LayerCost]) -> List[Dict[str, Any]]:
    return [{'name': c.name, 'operator': c.operator, 'macs': c.macs,
             'input_words': c.input_words, 'weight_words': c.weight_words,
             'output_words': c.output_words} for c in costs]


def _stages(variant: Variant) -> List[List[Dict[str, Any]]]:
    return [[{'operator': c.operator, 'parameters': dict(c.parameters)} for c in stage]
            for stage in variant.stages]


def _variant(graph: FamilyGraph, costs: Sequence[LayerCost], accuracy: Accuracy
             ) -> Dict[str, Any]:
    parameters = sum(int(np.prod(r.shape)) for r in graph.recipes.values())
    return {'variant_id': graph.variant_id, 'stages': _stages(graph.variant),
            'exit_index': graph.variant.exit_index, 'precision': graph.variant.precision,
            'macs': sum(c.macs for c in costs), 'parameters': parameters,
            'accuracy': {k: {'value': round(v, 6), 'count': n}
                         for k, (v, n) in accuracy.items()}}


def _segment(part: _Part, variant_id: str, path: str, indices: Sequence[int]) -> Dict[str, Any]:
    opset, ir_version = _check_versions(part.model, part.segment_id)
    entry = {'segment_id': part.segment_id, 'file': path, 'role': part.role,
             'variant_id': variant_id, 'fusion_set': 'none', 'opset': opset,
             'ir_version': ir_version, 'inputs': _specs(part.model.graph.input),
             'outputs': _specs(part.model.graph.output), 'recipes': sorted(set(indices)),
             'layers': _layers(layer_costs(part.model))}
    return {**entry, 'cut_id': part.cut_id} if part.cut_id else entry


def _crossing(figure: CrossingFigure) -> Dict[str, Any]:
    return {**asdict(figure), 'bytes_mean': round(figure.bytes_mean, 1),
            'accuracy_drop': round(figure.accuracy_drop, 6)}


def _input(spec: InputSpec) -> Dict[str, Any]:
    return {'name': spec.name, 'dtype': spec.dtype, 'shape': list(spec.shape),
            'color': spec.color, 'resize': spec.resize, 'scale': spec.scale,
            'mean': list(spec.mean), 'std': list(spec.std)}


class _Files:
    """Files written into the new directory, with their digests."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.entries: List[Dict[str, Any]] = []

    def write(self, path: str, content: bytes) -> None:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.entries.append({'path': path, 'bytes': len(content), 'sha256': _sha256(content)})


@dataclass(frozen=True, eq=False)
class _Part:
    """One graph of a variant: all of it, or what lies on one side of a cut."""

    segment_id: str
    role: str
    model: onnx.ModelProto
    cut_id: str = ''


def _parts(graph: FamilyGraph) -> Iterator[_Part]:
    """Yield the whole of a variant, then head and tail of each cut, checked against it."""
    yield _Part(graph.variant_id + '-whole', 'whole', graph.model)
    for cut_id, tensors in graph.cuts.items():
        head, tail = split(graph.model, tensors)
        check_split(graph.model, head, tail)
        yield _Part(cut_id + '-head', 'head', head, cut_id)
        yield _Part(cut_id + '-tail', 'tail', tail, cut_id)


class _Graphs:
    """Graphs written into the new directory, with the manifest's entries for them."""

    def __init__(self, initialisers: _Initialisers, files: _Files) -> None:
        self._initialisers = initialisers
        self._files = files
        self.segments: List[Dict[str, Any]] = []
        self.cuts: List[Dict[str, Any]] = []

    def add(self, graph: FamilyGraph, part: _Part) -> None:
        """Write one graph without its weights."""
        names = [t.name for t in part.model.graph.initializer if t.name in graph.recipes]
        entries = self._initialisers.entries
        indices = {n: self._initialisers.add(graph.recipes[n]) for n in names}
        place = {n: (entries[i]['offset'], 4 * int(np.prod(entries[i]['shape'])))
                 for n, i in indices.items()}
        path = 'graphs/%s.onnx' % part.segment_id
        model = weightless(part.model, place, name=part.segment_id)
        self._files.write(path, model.SerializeToString(deterministic=True))
        self.segments.append(_segment(part, graph.variant_id, path, list(indices.values())))
        if part.role == 'head':
            self.cuts.append({'cut_id': part.cut_id, 'tensors': _specs(part.model.graph.output)})


def _manifest(family: Family, description: Description, files: _Files) -> Dict[str, Any]:
    store, tensors = _pack(family)
    files.write('weights.bin', store)
    initialisers = _Initialisers(family.tensors)
    graphs, variants = _Graphs(initialisers, files), []
    for graph in family.graphs:
        _check_values(graph, family)
        for part in _parts(graph):
            graphs.add(graph, part)
        variants.append(_variant(graph, layer_costs(graph.model),
                                 description.accuracy.get(graph.variant_id, {})))
    return {
        'format': 'crowdhmt-bundle', 'format_version': FORMAT_VERSION,
        'name': description.name, 'task': description.task,
        'classes': list(description.classes), 'input': _input(description.input),
        'luminance_bands': {k: list(v) for k, v in description.luminance_bands.items()},
        'files': files.entries, 'tensors': tensors,
        'initialisers': {'file': INITIALISERS, 'bytes': initialisers.bytes,
                         'recipes': initialisers.entries},
        'segments': graphs.segments, 'cuts': graphs.cuts, 'variants': variants,
        'front': [v['variant_id'] for v in sorted(variants, key=lambda v: -int(v['macs']))],
        'crossings': [_crossing(c) for c in description.crossings],
        'provenance': dict(description.provenance)}


def write_bundle(family: Family, description: Description, directory: Path) -> str:
    """
    Write a bundle, replacing the one that is there.

    :param family: graphs and shared tensors
    :param description: the rest of the manifest
    :param directory: where the bundle shall lie
    :returns: sha256 of the manifest, which names the bundle
    :raises ExportError: a graph disagrees with its recipes or is too new for robots
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix='.%s-' % directory.name, dir=directory.parent))
    try:
        manifest = _manifest(family, description, _Files(new))
        content = json.dumps(manifest, indent=1).encode() + b'\n'
        (new / 'manifest.json').write_bytes(content)
        (new / 'manifest.json.sha256').write_text(_sha256(content) + '\n', encoding='ascii')
        new.chmod(0o755)
        _replace(new, directory)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return _sha256(content)


def _replace(new: Path, directory: Path) -> None:
    old: Optional[Path] = None
    if directory.exists():
        old = directory.with_name('.%s-old-%d' % (directory.name, os.getpid()))
        directory.rename(old)
    new.rename(directory)
    if old is not None:
        shutil.rmtree(old)
