# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The fused forms of a variant's graphs, beside the plain ones (P III-C1). Offline.

Only what a robot runs alone has them, for only there robots choose: the whole, or the steps
between early exits, each by itself and all by the same sets. Left out is a set that would need
more new weights than `GROWTH` of a variant's own, since bundles share weights, and one that leaves
no fewer operators than the one before, since robots measure what they get.
"""
from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.writer_graphs import INLINE_ELEMENTS, Part
from crowdhmt_ros.graph.family import FamilyGraph, Recipe
from crowdhmt_ros.graph.fusion import JOINT, Fused, fuse, useful_sets
from crowdhmt_ros.types.candidates import STEP_ROLES

Tensors = Dict[str, NDArray[np.generic]]
GROWTH = 0.1


def fused_parts(graph: FamilyGraph, made: Sequence[Part], tensors: Tensors) -> Iterator[Part]:
    """
    Yield the useful fused forms of a variant's graphs.

    The whole says which sets there are; where none is useful there, its steps are not tried.

    :param graph: the variant
    :param made: its graphs, see `writer_graphs.parts`
    :param tensors: shared ones; what fusion computed is added
    :raises ExportError: a fused graph differs from the plain one
    """
    room = GROWTH * sum(_bytes(t) for t in graph.model.graph.initializer)
    names = _sets(graph.model)
    plain = run_alone(made)
    least = sum(len(p.model.graph.node) for p in plain)
    for name in names:
        fused = [fuse(p.model, name.split(JOINT)) for p in plain]
        operators = sum(len(one.model.graph.node) for one in fused)
        found = [_recipes(graph, one) for one in fused]
        if operators >= least or sum(
                v.nbytes for _, new in found for v in new.values()) > room:
            continue
        least = operators
        for part, one, (recipes, new) in zip(plain, fused, found):
            tensors.update(new)
            yield replace(part, segment_id='%s-%s' % (part.segment_id, name),
                          model=one.model, fusion_set=name, recipes=recipes)


def run_alone(made: Sequence[Part]) -> List[Part]:
    """Return the graphs by which a robot answers without peers: the steps, else the whole."""
    return ([part for part in made if part.role in STEP_ROLES]
            or [part for part in made if part.role == 'whole'])


def _sets(model: onnx.ModelProto) -> List[str]:
    """Return the names of the sets that leave fewer operators each, the mildest first."""
    found: List[str] = []
    least = len(model.graph.node)
    for one in useful_sets(model, verify=False):
        if one.report.nodes_after < least:
            found.append(one.fusion_set)
            least = one.report.nodes_after
    return found


def _recipes(graph: FamilyGraph, fused: Fused) -> Tuple[Mapping[str, Recipe], Tensors]:
    """Return the recipes of a fused graph's initialisers, and the tensors that are new."""
    recipes: Dict[str, Recipe] = {}
    new: Tensors = {}
    for tensor in fused.model.graph.initializer:
        if tensor.name in graph.recipes:
            recipes[tensor.name] = graph.recipes[tensor.name]
        elif _bytes(tensor) and np.prod(tensor.dims) > INLINE_ELEMENTS:
            value = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor))
            name = 'fused.' + hashlib.sha256(value.tobytes()).hexdigest()[:16]
            new[name] = value
            recipes[tensor.name] = Recipe(name, tuple((0, e) for e in value.shape))
    return recipes, new


def _bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a float32 initialiser, 0 for others."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return 0
    return int(np.prod(tensor.dims)) * 4
