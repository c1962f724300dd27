# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Ghost features (eta4, P III-A1; GhostNet, Han et al. 2020): half of the outputs from the others.

The unit's own convolution gives the first half of the outputs; a depthwise 3 x 3 convolution over
these gives the rest: output j from output j - half. The first half are slices of the backbone's
weight. Which output a ghost is made from depends on the width, so each offered width has rows of
its own in the cheap tensor: they are few words.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.macs import cost_refusal, whole
from crowdhmt_ros.elastic.operators.operator import (
    WIDTH_STEPS,
    FormBase,
    Parameters,
    UnitShape,
)
from crowdhmt_ros.elastic.operators.smooth import likeness, mixed
from crowdhmt_ros.elastic.steps import Apply, Concat, Part, Program, Span
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.types import OperatorChoice

KERNEL = 3
LEAST_OUTPUTS = 16
MULTIPLE = 8
"""Widths that are offered are multiples of it, where the full one is."""


@dataclass(frozen=True)
class Ghost(FormBase):
    """Compute one output, filter another one from it; it has no parameters."""

    name: str = 'ghost'
    eta: int = 4

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer the form itself."""
        return () if self.refusal(stage, units) else (ghost(),)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse what has no places, no dense channels, or would not get cheaper."""
        if unit.kind != 'conv':
            return 'it has no places: a cheap filter has no neighbourhood'
        if not unit.is_dense:
            return 'each of its outputs is cheap already'
        if unit.outputs < LEAST_OUTPUTS:
            return 'it has fewer than %d outputs' % LEAST_OUTPUTS
        return cost_refusal(unit, self.program(whole(unit), {}))

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Fit each ghost to the output that it stands for, by least squares over its taps."""
        half, axes = _half(unit.outputs), len(unit.kernel)
        near = list(itertools.product(range(-(KERNEL // 2), KERNEL // 2 + 1), repeat=axes))
        far = list(itertools.product(range(1 - KERNEL, KERNEL), repeat=axes))
        like = {shift: likeness(unit, shift) for shift in far}
        rows, sources = weight.flatten(2), mixed(weight[:half], moment).flatten(2)
        # Expected products of outputs: per pair of taps first, then per shift between them.
        taps = rows[:half].transpose(1, 2) @ sources
        own = {shift: (taps * like[shift]).sum((1, 2)) for shift in far}
        normal = torch.stack([torch.stack([own[_minus(v, u)] for v in near], 1)
                              for u in near], 1)
        ridge = own[(0,) * axes] * 1e-6 + 1e-12
        normal = normal + ridge[:, None, None] * torch.eye(len(near), dtype=torch.float64)
        found = []
        for width in _widths(unit.outputs):
            start = _half(width)
            taps = rows[start:width].transpose(1, 2) @ sources[:width - start]
            answers = torch.stack([(taps * like[u]).sum((1, 2)) for u in near], 1)
            found.append(torch.linalg.solve(normal[:width - start], answers))
        cheap = torch.cat(found)
        return {unit.name + '.ghost.cheap': cheap.reshape(-1, 1, *(KERNEL,) * axes)}

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """
        Compute the first half and filter the rest from it.

        Of an odd number of outputs the middle one has no ghost and is computed apart.
        """
        ghosts = shape.outputs - _half(shape.outputs)
        first = _primary(shape, (0, ghosts or shape.outputs))
        if not ghosts:
            return (first,)
        count = len(shape.kernel)
        span = (shape.outputs - ghosts, shape.outputs)
        row = _first_row(shape)
        cheap = Apply(1, Part(shape.unit.name + '.ghost.cheap',
                              ((row, row + ghosts), (0, 1), *((0, KERNEL),) * count)),
                      shape.bias(*span), (1,) * count, (KERNEL // 2,) * count, (1,) * count,
                      ghosts, shape.norm(*span))
        if shape.outputs == 2 * ghosts:
            return first, cheap, Concat((1, 2))
        return first, _primary(shape, (ghosts, ghosts + 1)), cheap, Concat((1, 2, 3))


def _primary(shape: UnitShape, span: Span) -> Apply:
    unit = shape.unit
    return Apply(0, Part(unit.name + '.weight', (span, (0, shape.inputs), *shape.crops)),
                 shape.bias(*span), shape.stride, shape.padding, unit.dilation, 1,
                 shape.norm(*span))


def _half(width: int) -> int:
    return -(-width // 2)


def _minus(first: Tuple[int, ...], second: Tuple[int, ...]) -> Tuple[int, ...]:
    return tuple(a - b for a, b in zip(first, second))


def _widths(outputs: int) -> List[int]:
    """List the widths that have rows of their own, ascending: those that variants offer."""
    step = MULTIPLE if outputs % MULTIPLE == 0 else 1
    return sorted({max(1, round(outputs * eighth / WIDTH_STEPS / step)) * step
                   for eighth in range(1, WIDTH_STEPS + 1)})


def _first_row(shape: UnitShape) -> int:
    """Return where the rows of a width begin; another width borrows the next larger one's."""
    row = 0
    for width in _widths(shape.unit.outputs):
        if width >= shape.outputs:
            break
        row += width - _half(width)
    return row


def ghost() -> OperatorChoice:
    """Describe the form."""
    return OperatorChoice('ghost', ())
