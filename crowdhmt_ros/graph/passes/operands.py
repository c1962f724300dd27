# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What several rules ask of an operator's operands. Offline."""
from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Array, Graph
from crowdhmt_ros.graph.operator import Operator, PartialShape

FLOATS = ('float16', 'float32', 'float64')


class ConstantOperand(NamedTuple):
    """A binary operator with one constant operand."""

    tensor: str
    place: int
    value: Array


def constant_operand(graph: Graph, operator: Operator) -> Optional[ConstantOperand]:
    """Return the other operand and the constant of a binary operator that has exactly one."""
    if len(operator.inputs) != 2:
        return None
    values = [graph.value(i) for i in operator.inputs]
    if (values[0] is None) == (values[1] is None):
        return None
    index = 1 if values[0] is None else 0
    value = values[index]
    assert value is not None
    return ConstantOperand(operator.inputs[1 - index], index, value)


def is_kept(graph: Graph, *tensors: str) -> Optional[str]:
    """Return a refusal when one of the constants must stay as it is."""
    for tensor in tensors:
        if tensor in graph.constants and tensor in graph.keep:
            return 'the constant %s must stay as it is' % tensor
    return None


def axes_of(graph: Graph, operator: Operator, index: int = 1) -> Optional[Tuple[int, ...]]:
    """Return the axes of an operator that takes them as attribute or as constant input."""
    attribute = operator.integers('axes')
    if attribute is not None:
        return attribute
    value = graph.value(operator.input(index))
    return None if value is None else integers(value)


def integers(value: Array) -> Tuple[int, ...]:
    """Return an integer tensor as a tuple."""
    return tuple(int(v) for v in np.asarray(value).reshape(-1))


def positive(axes: Sequence[int], rank: int) -> Tuple[int, ...]:
    """Return axes counted from the front."""
    return tuple(a + rank if a < 0 else a for a in axes)


def same_extents(one: Optional[PartialShape], other: Optional[PartialShape]) -> bool:
    """
    Whether two shapes of the same number of elements are equal.

    One extent may be unknown in both: the number of elements then settles it.
    """
    if one is None or other is None or one != other:
        return False
    unknown = sum(e is None for e in one)
    return unknown == 0 or (unknown == 1 and 0 not in one)


def target_of(shape: Optional[PartialShape]) -> Optional[List[int]]:
    """Return the shape operand that makes Reshape give a shape, None when none does."""
    if shape is None or 0 in shape or sum(e is None for e in shape) > 1:
        return None
    return [-1 if e is None else e for e in shape]


def permutation(graph: Graph, operator: Operator) -> Optional[Tuple[int, ...]]:
    """Return the permutation of a Transpose, None when its default needs an unknown rank."""
    given = operator.integers('perm')
    if given is not None:
        return given
    rank = graph.rank(operator.input(0))
    return None if rank is None else tuple(reversed(range(rank)))


def scalar(graph: Graph, tensor: str) -> Optional[float]:
    """Return the one value of a floating-point constant, None for all others."""
    value = graph.value(tensor)
    if value is None or value.size != 1 or value.dtype.name not in FLOATS:
        return None
    return float(value.reshape(()))


def along_axis(value: Array, rank: int, axis: int, extent: int) -> Optional[NDArray[np.float64]]:
    """
    Return a constant as `extent` values along one axis of a tensor, None when it varies elsewhere.

    :param value: broadcast against a tensor of `rank` axes
    """
    if value.ndim > rank or value.dtype.name not in FLOATS:
        return None
    shape: List[int] = [1] * (rank - value.ndim) + list(value.shape)
    if value.size != shape[axis] or value.size not in (1, extent):
        return None
    return np.resize(value.astype(np.float64), extent)


def elements(shape: Sequence[int]) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(shape)


def inverse(perm: Sequence[int]) -> Tuple[int, ...]:
    """Return the permutation that undoes another."""
    places: Dict[int, int] = {axis: place for place, axis in enumerate(perm)}
    return tuple(places[i] for i in range(len(perm)))
