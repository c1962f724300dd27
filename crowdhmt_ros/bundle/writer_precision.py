# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The graphs of a variant in whole numbers, beside those in fp32 (P III-C1). Offline.

Only what a robot runs alone has them: the whole, or the steps between early exits. Ranges and
what stays in fp32 are chosen once, on the whole; steps follow, so that they compute what the whole
does. Where one of them would be without whole numbers, none is written.
"""
from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.bundle.entries import ITEM_BYTES, PrecisionFigure
from crowdhmt_ros.bundle.writer_fusion import run_alone
from crowdhmt_ros.bundle.writer_graphs import INLINE_ELEMENTS, Part
from crowdhmt_ros.graph.family import FamilyGraph, Recipe
from crowdhmt_ros.graph.lower import Lowered
from crowdhmt_ros.graph.quantise import quantised, units

INT8 = 'int8'
STORE_PREFIX = 'int8.'
"""Of the names of tensors in the weight store that came with whole numbers."""
Tensors = Dict[str, NDArray[np.generic]]


def int8_parts(graph: FamilyGraph, made: Sequence[Part], lowered: Lowered, tensors: Tensors
               ) -> Iterator[Part]:
    """
    Yield the graphs of a variant in whole numbers.

    :param graph: the variant
    :param made: its graphs in fp32, see `writer_graphs.parts`
    :param lowered: of its whole
    :param tensors: shared ones; weights in whole numbers and their scales are added
    :raises ExportError: a part holds a tensor that the whole does not
    """
    plain = run_alone(made)
    if not all(set(units(p.model)) - set(lowered.kept) for p in plain):
        return
    for part in plain:
        model = quantised(part.model, lowered.observed, rule=lowered.rule,
                          exclude=lowered.kept, weights=lowered.weights)
        recipes, new = _recipes(graph, model)
        tensors.update(new)
        yield replace(part, segment_id='%s-%s' % (part.segment_id, INT8), model=model,
                      recipes=recipes, precision=INT8, counted=part.model)


def _recipes(graph: FamilyGraph, model: onnx.ModelProto
             ) -> Tuple[Mapping[str, Recipe], Tensors]:
    """Return the recipes of a quantised graph's initialisers, and the tensors that are new."""
    recipes: Dict[str, Recipe] = {}
    new: Tensors = {}
    for tensor in model.graph.initializer:
        value = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor))
        if tensor.name in graph.recipes:
            recipes[tensor.name] = graph.recipes[tensor.name]
        elif value.size > INLINE_ELEMENTS and value.dtype.name in ITEM_BYTES:
            name = STORE_PREFIX + _digest(value)
            new[name] = value
            recipes[tensor.name] = Recipe(name, tuple((0, e) for e in value.shape),
                                          dtype=value.dtype.name)
    return recipes, new


def _digest(value: NDArray[np.generic]) -> str:
    said = '%s %r ' % (value.dtype.name, value.shape)
    return hashlib.sha256(said.encode() + value.tobytes()).hexdigest()[:16]


def figure_json(figure: PrecisionFigure) -> Dict[str, Any]:
    """Return a figure as the manifest holds it."""
    found = asdict(figure)
    for key in ('output_error', 'largest_error', 'agreement'):
        if found[key] is not None:
            found[key] = round(found[key], 6)
    found['accuracy'] = {name: {'value': round(a.value, 6), 'count': a.count}
                         for name, a in figure.accuracy.items()}
    return found
