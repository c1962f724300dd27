# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Take a bundle apart again: the family and the description that it was written from. Offline.

So a bundle can be written anew - with cuts, with further figures - and keeps its weights.
"""
from __future__ import annotations

from typing import Dict, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import SegmentEntry
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.bundle.writer import Description
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import Family, FamilyGraph, Recipe, realise


def description_of(bundle: Bundle) -> Description:
    """Return what the manifest says beside the graphs."""
    manifest = bundle.manifest
    accuracy = {v: {c: (a.value, a.count) for c, a in entry.accuracy.items()}
                for v, entry in manifest.variants.items()}
    early = {v: entry.early_exits for v, entry in manifest.variants.items() if entry.early_exits}
    return Description(manifest.name, manifest.task, manifest.classes, manifest.input,
                       manifest.luminance_bands, accuracy, manifest.provenance,
                       manifest.crossings, early)


def family_of(bundle: Bundle) -> Family:
    """
    Return tensors and graphs, with values in the graphs and the cuts that the bundle has.

    :raises ExportError: an initialiser of a graph has no recipe in the manifest
    """
    tensors = _tensors(bundle)
    return Family(tensors, tuple(_graph(bundle, variant_id, tensors)
                                 for variant_id in bundle.manifest.variants))


def _tensors(bundle: Bundle) -> Dict[str, NDArray[np.generic]]:
    store = np.fromfile(bundle.weights_path, np.uint8)
    return {t.name: store[t.offset:t.offset + t.size_bytes].view(
        np.dtype(t.dtype).newbyteorder('<')).reshape(t.shape).astype(t.dtype)
        for t in bundle.manifest.tensors.values()}


def _graph(bundle: Bundle, variant_id: str, tensors: Dict[str, NDArray[np.generic]]
           ) -> FamilyGraph:
    segment = bundle.segment(bundle.segment_for(variant_id))
    model = onnx.load(str(bundle.directory / segment.file), load_external_data=False)
    recipes: Dict[str, Recipe] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        recipes[tensor.name] = _recipe(bundle, segment, tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(
            realise(recipes[tensor.name], tensors), tensor.name))
    cuts: Dict[str, Tuple[str, ...]] = {
        s.cut_id: tuple(t.name for t in bundle.manifest.cuts[s.cut_id].tensors)
        for s in bundle.manifest.segments.values()
        if s.variant_id == variant_id and s.role == 'head'}
    pieces = any(s.variant_id == variant_id and s.role == 'piece'
                 for s in bundle.manifest.segments.values())
    exits = {e.exit_index: bundle.segment(bundle.segment_for(
        variant_id, 'exit', cut_id=e.cut_id)).outputs[0].name
        for e in bundle.early_exits(variant_id)}
    return FamilyGraph(variant_id, bundle.variant(variant_id).variant, model, recipes, cuts,
                       pieces, exits)


def _recipe(bundle: Bundle, segment: SegmentEntry, tensor: onnx.TensorProto) -> Recipe:
    place = {item.key: item.value for item in tensor.external_data}
    for index in segment.recipes:
        found = bundle.manifest.recipes[index]
        if str(found.offset) == place.get('offset'):
            return Recipe(found.tensor, found.slices, found.scale, found.scale_axis, found.dtype)
    raise ExportError('initialiser %s of %s has no recipe' % (tensor.name, segment.segment_id))
