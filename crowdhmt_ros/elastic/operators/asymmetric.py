# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depthwise-asymmetric convolutions (eta1, P III-A1; DABNet, Li et al. 2019).

A k x k convolution becomes a depthwise k x 1, a depthwise 1 x k and a 1x1 convolution that mixes;
a depthwise one becomes the first two. Each input channel gets the separable filter that serves
all outputs best; the 1x1 weights are then the least squares fit to the outputs.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.macs import cost_refusal, whole
from crowdhmt_ros.elastic.operators.operator import FormBase, Parameters, UnitShape
from crowdhmt_ros.elastic.operators.smooth import likeness, seen
from crowdhmt_ros.elastic.steps import Apply, Part, Program
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.types import OperatorChoice


@dataclass(frozen=True)
class Asymmetric(FormBase):
    """Filter along one axis after the other, then mix; it has no parameters."""

    name: str = 'asymmetric'
    eta: int = 1

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer the form itself."""
        return () if self.refusal(stage, units) else (asymmetric(),)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse kernels of one place, and depthwise ones of one axis."""
        if unit.kind != 'conv' or math.prod(unit.kernel) == 1:
            return 'it has no kernel that could be parted into its axes'
        if unit.groups > 1 and not (unit.is_depthwise and unit.inputs == unit.outputs):
            return 'it has %d groups: neither dense nor depthwise' % unit.groups
        if unit.is_depthwise and len(_axes(unit)) < 2:
            return 'it is depthwise along a single axis already'
        return cost_refusal(unit, self.program(whole(unit), {}))

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Fit filters per channel, and the mixture to them."""
        if unit.is_depthwise:
            lines = _separate(weight[:, 0], unit)
            return _filters(unit, lines)
        lines = _separate(_common_filters(unit, weight), unit)
        kernels = _product(lines)
        one = torch.eye(len(kernels), dtype=torch.float64)
        # Of the filtered channels z and the outputs y: E[z z^T], E[y z^T], then y ~ mix z.
        products = kernels @ likeness(unit) @ kernels.T * (one if moment is None else moment)
        answers = torch.einsum('nct,ct->nc', seen(unit, weight, moment).flatten(2), kernels)
        ridge = products.diagonal().mean() * 1e-6 + 1e-12
        mix = torch.linalg.solve(products + ridge * one, answers.T).T
        ones = (1,) * len(unit.kernel)
        return {**_filters(unit, lines), unit.name + '.asymmetric.mix':
                mix.reshape(*mix.shape, *ones)}

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """Filter along each axis, then mix."""
        unit, count = shape.unit, len(shape.kernel)
        ones, zeros = (1,) * count, (0,) * count
        steps: List[Apply] = []
        for number, axis in enumerate(_axes(unit)):
            crops = [(0, 1)] * count
            crops[axis] = shape.crop(axis)
            last = unit.is_depthwise and axis == _axes(unit)[-1]
            # An axis of one place is never filtered, so the first step has its stride.
            stride = [1 if number or a in _axes(unit) else s
                      for a, s in enumerate(shape.stride)]
            stride[axis] = shape.stride[axis]
            padding = [0 if number or a in _axes(unit) else p
                       for a, p in enumerate(shape.padding)]
            padding[axis] = shape.padding[axis]
            steps.append(Apply(
                number, Part(_line(unit, axis), ((0, shape.inputs), (0, 1), *crops)),
                shape.bias() if last else None, tuple(stride), tuple(padding),
                tuple(d if a == axis else 1 for a, d in enumerate(unit.dilation)), shape.inputs,
                shape.norm() if last else None))
        if not unit.is_depthwise:
            steps.append(Apply(
                len(steps), Part(unit.name + '.asymmetric.mix',
                                 ((0, shape.outputs), (0, shape.inputs), *((0, 1),) * count)),
                shape.bias(), ones, zeros, ones, 1, shape.norm()))
        return tuple(steps)


def _axes(unit: Unit) -> Tuple[int, ...]:
    """Axes along which the kernel has more than one place."""
    return tuple(a for a, k in enumerate(unit.kernel) if k > 1)


def _line(unit: Unit, axis: int) -> str:
    return '%s.asymmetric.axis%d' % (unit.name, axis)


def _common_filters(unit: Unit, weight: torch.Tensor) -> torch.Tensor:
    """Return for each input the filter of which all outputs need most, (inputs, *kernel)."""
    taps = weight.flatten(2).transpose(0, 1)
    values, vectors = torch.linalg.eigh(likeness(unit))
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    _, found = torch.linalg.eigh(root @ taps.transpose(1, 2) @ taps @ root)
    filters: torch.Tensor = torch.linalg.solve(root, found[:, :, -1].T).T
    return filters.reshape(weight.shape[1], *unit.kernel)


def _separate(filters: torch.Tensor, unit: Unit) -> List[torch.Tensor]:
    """
    Part filters into one per axis whose product comes closest.

    :param filters: (channels, *kernel)
    :returns: (channels, places) per axis of `_axes`; all equally large
    """
    axes = _axes(unit)
    if len(axes) == 1:
        return [filters.flatten(1)]
    u, s, v = torch.linalg.svd(filters)
    size = s[:, 0].sqrt()[:, None]
    return [u[:, :, 0] * size, v[:, 0] * size]


def _product(lines: List[torch.Tensor]) -> torch.Tensor:
    """Multiply the filters of all axes again, (channels, taps)."""
    if len(lines) == 1:
        return lines[0]
    return (lines[0][:, :, None] * lines[1][:, None, :]).flatten(1)


def _filters(unit: Unit, lines: List[torch.Tensor]) -> Dict[str, torch.Tensor]:
    found = {}
    for axis, line in zip(_axes(unit), lines):
        extent = [line.shape[1] if a == axis else 1 for a in range(len(unit.kernel))]
        found[_line(unit, axis)] = line.reshape(-1, 1, *extent)
    return found


def asymmetric() -> OperatorChoice:
    """Describe the form."""
    return OperatorChoice('asymmetric', ())
