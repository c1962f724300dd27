# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a convolution or pool slides over its input, and what operators cost. Offline."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.graph.model import Graph
from crowdhmt_ros.graph.operator import Operator, Shape

WORD_MACS = 4
"""Multiply-accumulates that take as long as one word to or from memory, on processors."""


@dataclass(frozen=True)
class Window:
    """
    Places of a convolution's or pool's window, per spatial axis.

    :param pads: begins, then ends
    :param group: of channels
    """

    kernel: Shape
    strides: Shape
    pads: Shape
    dilations: Shape
    group: int = 1

    @property
    def padded(self) -> bool:
        """Whether it looks beyond its input."""
        return any(self.pads)

    @property
    def pointwise(self) -> bool:
        """Whether each place of the output sees one place of the input."""
        return math.prod(self.kernel) == 1 and not self.padded

    def around(self, axis: int) -> Tuple[int, int]:
        """Return the padding before and behind an axis."""
        return self.pads[axis], self.pads[axis + len(self.kernel)]


def window_of(graph: Graph, operator: Operator) -> Optional[Window]:
    """Return the window of a Conv with constant weights or of a pool, None if it varies."""
    kernel = operator.integers('kernel_shape')
    if operator.op_type == 'Conv':
        weights = graph.value(operator.input(1))
        if weights is None:
            return None
        kernel = tuple(int(k) for k in weights.shape[2:])
    if not kernel or operator.text('auto_pad', 'NOTSET') not in ('NOTSET', 'VALID'):
        return None
    ones = (1,) * len(kernel)
    return Window(kernel, operator.integers('strides') or ones,
                  operator.integers('pads') or (0,) * (2 * len(kernel)),
                  operator.integers('dilations') or ones, operator.integer('group', 1))


def slid(operator: Operator, window: Window) -> Operator:
    """Return a convolution that slides as a window does."""
    return operator.without_attributes(('auto_pad',)).with_attributes({
        'kernel_shape': window.kernel, 'strides': window.strides, 'pads': window.pads,
        'dilations': window.dilations, 'group': window.group})


def weights_of(graph: Graph, operator: Operator) -> NDArray[np.float64]:
    """Return the constant weights of an operator in double precision."""
    return graph.constants[operator.inputs[1]].astype(np.float64)


def convolution_cost(result: Shape, weights: Shape, source: Shape) -> float:
    """
    Return what a convolution takes, in multiply-accumulates.

    :param result: extents of what it makes
    :param weights: (outputs, inputs per group, ...)
    :param source: extents of what it reads
    """
    return (math.prod(result) * math.prod(weights[1:])
            + WORD_MACS * (math.prod(result) + math.prod(source)))
