# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Shared tensors without what no graph of a family reads. Offline."""
from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.family import Family, Recipe

Hull = List[Tuple[int, int]]


def cropped(family: Family) -> Family:
    """
    Cut each shared tensor down to the smallest box that holds all slices of it.

    Tensors that no recipe names are left out; what the recipes give stays, bit for bit.

    :param family: it is not changed
    """
    hulls: Dict[str, Hull] = {}
    scales: Dict[str, NDArray[np.generic]] = {}
    for recipe in (r for graph in family.graphs for r in graph.recipes.values()):
        hull = hulls.setdefault(recipe.tensor, list(recipe.slices))
        hulls[recipe.tensor] = [(min(a, c), max(b, d))
                                for (a, b), (c, d) in zip(hull, recipe.slices)]
        if recipe.scale is not None:
            scales[recipe.scale] = family.tensors[recipe.scale]
    for name in scales:  # read whole, whatever else is read of them
        hulls[name] = [(0, extent) for extent in scales[name].shape]
    tensors = {name: np.ascontiguousarray(family.tensors[name][tuple(
        slice(a, b) for a, b in hull)]).reshape([b - a for a, b in hull])
        for name, hull in hulls.items()}
    return Family(tensors, tuple(replace(graph, recipes={
        name: _moved(recipe, hulls[recipe.tensor]) for name, recipe in graph.recipes.items()})
        for graph in family.graphs))


def _moved(recipe: Recipe, hull: Hull) -> Recipe:
    return replace(recipe, slices=tuple(
        (start - first, stop - first)
        for (start, stop), (first, _) in zip(recipe.slices, hull)))
