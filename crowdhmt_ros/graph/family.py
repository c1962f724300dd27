# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A family of graphs that share tensors, before it is written as a bundle. Offline.

An initialiser of a graph is not data but a recipe: a slice of a shared tensor, times a scale per
channel. So a tensor is stored once, however many sub-networks use it.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

import numpy as np
import onnx
from numpy.typing import NDArray

from crowdhmt_ros.types import Variant


@dataclass(frozen=True)
class Recipe:
    """
    How one initialiser follows from the shared tensors.

    :param tensor: name of a shared tensor
    :param slices: (start, stop) per axis
    :param scale: name of a one-dimensional float32 tensor to multiply with, or None
    :param scale_axis: axis along which the scale runs
    :param dtype: of the initialiser: a float, or the type of a shared tensor without scale
    """

    tensor: str
    slices: Tuple[Tuple[int, int], ...]
    scale: Optional[str] = None
    scale_axis: int = 0
    dtype: str = 'float32'

    @property
    def shape(self) -> Tuple[int, ...]:
        """Extents of the initialiser."""
        return tuple(stop - start for start, stop in self.slices)


def realise(recipe: Recipe, tensors: Mapping[str, NDArray[np.generic]]) -> NDArray[Any]:
    """
    Compute one initialiser; robots compute the same, bit for bit.

    :param recipe: what to compute
    :param tensors: the shared tensors
    """
    value: NDArray[Any] = tensors[recipe.tensor][tuple(
        slice(a, b) for a, b in recipe.slices)]
    if recipe.scale is not None:
        axes = [1] * value.ndim
        axes[recipe.scale_axis] = -1
        value = (value.astype(np.float32)
                 * tensors[recipe.scale].astype(np.float32).reshape(axes))
    return np.ascontiguousarray(value, np.dtype(recipe.dtype)).reshape(recipe.shape)


@dataclass(frozen=True, eq=False)
class FamilyGraph:
    """
    The whole model of one variant.

    :param variant_id: short unique name
    :param variant: what it is
    :param model: ONNX graph whose initialisers hold their values
    :param recipes: initialiser name -> recipe, for all float32 initialisers but tiny ones
    :param cuts: cut_id -> tensors at which the model may be split, see `graph.split`
    :param pieces: write what lies between neighbouring cuts too; each cut then lies behind the
        one before
    :param exits: number of an early exit -> output that it gives, behind the network's own; such
        a model is written to answer early, see `graph.split.steps`, and not to be cut
    """

    variant_id: str
    variant: Variant
    model: onnx.ModelProto
    recipes: Mapping[str, Recipe]
    cuts: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    pieces: bool = False
    exits: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Family:
    """
    All variants of a front and what they share.

    :param tensors: name -> array, float16, float32, int8, uint8 or int32
    :param graphs: one per variant, richest first
    """

    tensors: Mapping[str, NDArray[np.generic]]
    graphs: Tuple[FamilyGraph, ...]
