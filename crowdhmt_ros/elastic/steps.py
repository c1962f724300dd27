# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a layer does in one variant, written down: a short program over parts of shared tensors.

Training, extraction, export and counting all walk the same steps, so they cannot disagree. A
part is a contiguous slice, which is what a recipe of a bundle can express; so every variant
is exportable without weights of its own.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple, Union

Span = Tuple[int, int]


@dataclass(frozen=True)
class Part:
    """
    A slice of a shared tensor.

    :param tensor: its name
    :param slices: (start, stop) per axis
    """

    tensor: str
    slices: Tuple[Span, ...]

    @property
    def shape(self) -> Tuple[int, ...]:
        """Extents."""
        return tuple(stop - start for start, stop in self.slices)

    @property
    def words(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Norm:
    """
    Batch normalisation of what a layer gives.

    :param layer: path of the normalisation in the backbone
    :param span: the channels of it that are meant; names the statistics together with the
        context, which the plan adds
    :param gain: as many as the span; None for a normalisation without gain and shift
    :param shift: as `gain`
    :param epsilon: added to the variance
    """

    layer: str
    span: Span
    gain: Optional[Part]
    shift: Optional[Part]
    epsilon: float = 1e-5

    @property
    def key(self) -> str:
        """Name of the statistics, without the context."""
        return '%s:%d-%d' % (self.layer, *self.span)


@dataclass(frozen=True)
class Apply:
    """
    A convolution, or a linear layer where the weight has two axes.

    :param source: value that it reads: 0 is the layer's input, i the result of step i
    :param weight: (outputs, inputs / groups, *kernel)
    :param bias: (outputs,)
    :param stride: per spatial axis, empty for a linear layer
    :param padding: likewise
    :param dilation: likewise
    :param groups: of a convolution
    :param norm: behind it
    """

    source: int
    weight: Part
    bias: Optional[Part] = None
    stride: Tuple[int, ...] = ()
    padding: Tuple[int, ...] = ()
    dilation: Tuple[int, ...] = ()
    groups: int = 1
    norm: Optional[Norm] = None

    @property
    def outputs(self) -> int:
        """Channels that it gives."""
        return self.weight.shape[0]


@dataclass(frozen=True)
class Normalise:
    """A batch normalisation that no convolution precedes."""

    source: int
    norm: Norm


@dataclass(frozen=True)
class Concat:
    """Values one after another along the channels."""

    sources: Tuple[int, ...]


Step = Union[Apply, Normalise, Concat]
Program = Tuple[Step, ...]
"""The last step gives the layer's result."""


def parts_of(program: Program) -> Tuple[Part, ...]:
    """List every part of shared tensors that a program reads."""
    found = []
    for step in program:
        if isinstance(step, Apply):
            found += [step.weight, step.bias]
        norm = None if isinstance(step, Concat) else step.norm
        if norm is not None:
            found += [norm.gain, norm.shift]
    return tuple(p for p in found if p is not None)


def norms_of(program: Program) -> Tuple[Norm, ...]:
    """List every batch normalisation of a program."""
    norms = [None if isinstance(step, Concat) else step.norm for step in program]
    return tuple(n for n in norms if n is not None)


def full(tensor: str, *shape: int) -> Part:
    """Return the whole of a tensor."""
    return Part(tensor, tuple((0, extent) for extent in shape))
