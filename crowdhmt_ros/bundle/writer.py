# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a family of graphs as a bundle: one weight store, weightless graphs, one manifest. Offline.

The directory appears at once: it is written beside its place and renamed.
"""
from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import ITEM_BYTES, CrossingFigure, PrecisionFigure
from crowdhmt_ros.bundle.manifest import MANIFEST_NAME, load_manifest
from crowdhmt_ros.bundle.writer_fusion import fused_parts
from crowdhmt_ros.bundle.writer_graphs import (
    INITIALISERS,
    Files,
    Graphs,
    Initialisers,
    Part,
    aligned,
    exit_cut,
    parts,
    sha256_of,
)
from crowdhmt_ros.bundle.writer_precision import figure_json, int8_parts
from crowdhmt_ros.errors import BundleError, ExportError
from crowdhmt_ros.graph.counts import layer_costs
from crowdhmt_ros.graph.family import Family, FamilyGraph, realise
from crowdhmt_ros.graph.lower import Lowered
from crowdhmt_ros.graph.split import TOLERANCE
from crowdhmt_ros.types import EarlyExit, InputSpec, variant_to_json
from crowdhmt_ros.types.candidates import STEP_ROLES

FORMAT_VERSION = 1

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
    :param early_exits: variant_id -> where and when it answers early; its graph gives these exits,
        and the cuts are named `writer_graphs.exit_cut`
    :param precisions: variant_id -> what lower precisions cost; with 'int8' for each that is
        written so
    """

    name: str
    task: str
    classes: Tuple[str, ...]
    input: InputSpec
    luminance_bands: Mapping[str, Tuple[float, float]]
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    crossings: Tuple[CrossingFigure, ...] = ()
    early_exits: Mapping[str, Tuple[EarlyExit, ...]] = field(default_factory=dict)
    precisions: Mapping[str, Tuple[PrecisionFigure, ...]] = field(default_factory=dict)


def _used_tensors(family: Family) -> Set[str]:
    return {name for graph in family.graphs for recipe in graph.recipes.values()
            for name in (recipe.tensor, recipe.scale) if name is not None}


def _pack(tensors: Mapping[str, NDArray[np.generic]], used: Set[str]
          ) -> Tuple[bytes, List[Dict[str, Any]]]:
    """Lay the shared tensors out; returns the store and its table."""
    content, entries = bytearray(), []
    for name in sorted(used):
        value = tensors[name]
        if value.dtype.name not in ITEM_BYTES:
            raise ExportError('tensor %s is %s; store %s'
                              % (name, value.dtype, ', '.join(ITEM_BYTES)))
        content.extend(b'\0' * (aligned(len(content)) - len(content)))
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder('<')).tobytes()
        entries.append({'name': name, 'dtype': value.dtype.name, 'shape': list(value.shape),
                        'offset': len(content), 'bytes': len(data)})
        content.extend(data)
    return bytes(content), entries


def _check_values(graph: FamilyGraph, family: Family) -> None:
    """The recipes must give what the graph was exported with."""
    for tensor in graph.model.graph.initializer:
        recipe = graph.recipes.get(tensor.name)
        if recipe is None:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if not np.array_equal(value, realise(recipe, family.tensors),
                              equal_nan=value.dtype.kind == 'f'):
            raise ExportError('initialiser %s of %s differs from its recipe'
                              % (tensor.name, graph.variant_id))


def _check_exits(graph: FamilyGraph, early: Sequence[EarlyExit]) -> None:
    told = [(e.exit_index, e.cut_id) for e in early]
    if told != [(n, exit_cut(graph.variant_id, n)) for n in graph.exits]:
        raise ExportError('%s gives the early exits %s, but it is told when to stop at %s' % (
            graph.variant_id, ', '.join(map(str, graph.exits)) or 'none',
            ', '.join('%d (%s)' % pair for pair in told) or 'none'))


def _mean_macs(made: Sequence[Part], early: Sequence[EarlyExit]) -> int:
    """Return the multiply-accumulates of one frame, the mean where it may answer early."""
    works = [sum(c.macs for c in layer_costs(p.model)) for p in made
             if p.role in (STEP_ROLES if early else ('whole',))]
    reached, total = 1.0, 0.0
    for work, ratio in zip(works, [*(e.ratio for e in early), 0.0]):
        total += reached * work
        reached -= ratio
    return max(1, round(total))


def _variant(graph: FamilyGraph, macs: int, description: Description) -> Dict[str, Any]:
    accuracy = description.accuracy.get(graph.variant_id, {})
    early = description.early_exits.get(graph.variant_id, ())
    parameters = sum(int(np.prod(r.shape)) for r in graph.recipes.values())
    entry = {'variant_id': graph.variant_id, **variant_to_json(graph.variant),
             'macs': macs, 'parameters': parameters,
             'accuracy': {k: {'value': round(v, 6), 'count': n}
                          for k, (v, n) in accuracy.items()}}
    if early:
        entry['early_exits'] = [asdict(e) for e in early]
    figures = description.precisions.get(graph.variant_id, ())
    if figures:
        entry['precisions'] = [figure_json(f) for f in figures]
    return entry


def _crossing(figure: CrossingFigure) -> Dict[str, Any]:
    return {**asdict(figure), 'bytes_mean': round(figure.bytes_mean, 1),
            'accuracy_drop': round(figure.accuracy_drop, 6)}


def _input(spec: InputSpec) -> Dict[str, Any]:
    return {'name': spec.name, 'dtype': spec.dtype, 'shape': list(spec.shape),
            'color': spec.color, 'resize': spec.resize, 'scale': spec.scale,
            'mean': list(spec.mean), 'std': list(spec.std)}


def _manifest(family: Family, description: Description, files: Files, tolerance: float,
              fused: bool, lowered: Mapping[str, Lowered]) -> Dict[str, Any]:
    everything = dict(family.tensors)
    initialisers = Initialisers(everything)
    graphs, variants = Graphs(initialisers, files), []
    for graph in family.graphs:
        _check_values(graph, family)
        early = description.early_exits.get(graph.variant_id, ())
        _check_exits(graph, early)
        made = tuple(parts(graph, tolerance))
        for part in made:
            graphs.add(graph, part)
        for part in fused_parts(graph, made, everything) if fused else ():
            graphs.add(graph, part)
        if graph.variant_id in lowered:
            for part in int8_parts(graph, made, lowered[graph.variant_id], everything):
                graphs.add(graph, part)
        variants.append(_variant(graph, _mean_macs(made, early), description))
    store, tensors = _pack(everything, _used_tensors(family) | initialisers.tensors)
    files.write('weights.bin', store)
    files.entries.insert(0, files.entries.pop())  # the store stands first
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


def write_bundle(family: Family, description: Description, directory: Path, *,
                 tolerance: float = TOLERANCE, fused: bool = False,
                 lowered: Optional[Mapping[str, Lowered]] = None) -> str:
    """
    Write a bundle, replacing the one that is there.

    :param family: graphs and shared tensors
    :param description: the rest of the manifest
    :param directory: where the bundle shall lie; no folder with anything else in it
    :param tolerance: by which parts may differ from the whole, see `graph.split.check_split`
    :param fused: write the useful fused forms of each graph beside it, for robots to choose from
    :param lowered: variant_id -> how it is computed in whole numbers: those get graphs in int8
        beside the plain ones, and `description.precisions` says what that costs
    :returns: sha256 of the manifest, which names the bundle
    :raises ExportError: a graph disagrees with its recipes or is too new for robots, or the
        directory is taken
    """
    check_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix='.%s-' % directory.name, dir=directory.parent))
    try:
        manifest = _manifest(family, description, Files(new), tolerance, fused, lowered or {})
        content = json.dumps(manifest, indent=1).encode() + b'\n'
        (new / MANIFEST_NAME).write_bytes(content)
        (new / 'manifest.json.sha256').write_text(sha256_of(content) + '\n', encoding='ascii')
        try:
            load_manifest(new)
        except BundleError as error:
            raise ExportError('robots would refuse the bundle: %s' % error) from error
        new.chmod(0o755)
        _replace(new, directory)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return sha256_of(content)


def check_free(directory: Path) -> None:
    """
    Refuse a place where something else than a bundle would be lost.

    :raises ExportError: it is a file, or a folder with something in it that is no bundle
    """
    if directory.is_dir() and ((directory / MANIFEST_NAME).is_file()
                               or not any(directory.iterdir())):
        return
    if directory.exists() or directory.is_symlink():
        raise ExportError('%s is no bundle and would be lost: name a folder that does not exist '
                          'yet' % directory)


def _replace(new: Path, directory: Path) -> None:
    old: Optional[Path] = None
    if directory.exists():
        old = directory.with_name('.%s-old-%d' % (directory.name, os.getpid()))
        directory.rename(old)
    new.rename(directory)
    if old is not None:
        shutil.rmtree(old)
