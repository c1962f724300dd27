# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fire modules (eta2, P III-A1; SqueezeNet, Iandola et al. 2016): squeeze, then expand two ways.

A 1x1 convolution squeezes the inputs to few channels. From these the first half of the outputs
is expanded by the unit's own kernel, the second half by a 1x1 convolution: channels are sorted by
importance, and the larger kernel comes closer. A pointwise unit gets 3 x 3 for its first half.
The squeeze is linear: a ReLU there would lose half of what it can carry of the backbone's weights.

Both tensors of the expansion have a row for every output, so that an output means the same
channel at every width; which of the two rows is used follows from the width.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.directions import roots_of, singular
from crowdhmt_ros.elastic.operators.macs import cost_refusal, whole
from crowdhmt_ros.elastic.operators.operator import FormBase, Parameters, UnitShape
from crowdhmt_ros.elastic.operators.smooth import likeness
from crowdhmt_ros.elastic.steps import Apply, Concat, Part, Program, Span
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

SQUEEZES = (0.25, 0.125)
MULTIPLE = 4
POINTWISE_KERNEL = 3


@dataclass(frozen=True)
class Fire(FormBase):
    """Squeeze to a share of the channels; a pointwise unit, whose kernels grow, to half of it."""

    name: str = 'fire'
    eta: int = 2

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer shares."""
        return () if self.refusal(stage, units) else tuple(fire(share) for share in SQUEEZES)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse what is no dense convolution with a centre, or would not get cheaper."""
        if unit.kind != 'conv':
            return 'it has no places: a larger kernel has nothing to look at'
        if not unit.is_dense:
            return 'its channels are not mixed: there is nothing to squeeze'
        if unit.outputs < 2 * MULTIPLE:
            return 'it has fewer than %d outputs' % (2 * MULTIPLE)
        if any(k % 2 == 0 for k in unit.kernel):
            return 'its kernel has no centre'
        if any(p < 0 for p in _centre_padding(whole(unit))):
            return 'it has too little padding: a 1x1 convolution would give more places'
        return cost_refusal(unit, self.program(whole(unit), {}))

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Squeeze to the inputs' directions that the outputs need most, expand by projection."""
        root, back = roots_of(moment, unit.inputs)
        near, taps = likeness(unit), weight.flatten(2).transpose(1, 2)
        basis = _directions(near, taps, root)[:, :_squeeze(whole(unit), SQUEEZES[0])]
        expand = taps @ (root @ basis)  # (outputs, taps, squeezed)
        # What a 1x1 convolution sees of the kernel: the centre tells about its neighbourhood.
        centre = torch.einsum('t,nts->ns', near[len(near) // 2], expand)
        wide = expand.transpose(1, 2).reshape(unit.outputs, -1, *unit.kernel)
        ones = (1,) * len(unit.kernel)
        if math.prod(unit.kernel) == 1:
            margin = POINTWISE_KERNEL // 2
            wide = torch.nn.functional.pad(wide, (margin,) * (2 * len(ones)))
        squeeze = (back @ basis).T
        return {unit.name + '.fire.squeeze': squeeze.reshape(*squeeze.shape, *ones),
                unit.name + '.fire.near': centre.reshape(*centre.shape, *ones),
                unit.name + '.fire.wide': wide}

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """Squeeze, expand the first half widely and the second pointwise, join them."""
        share = float(parameters.get('squeeze', SQUEEZES[0]))
        if not 0.0 < share <= SQUEEZES[0]:
            raise ExportError('fire squeeze is %g; give a share above 0 and up to %g'
                              % (share, SQUEEZES[0]))
        unit, count = shape.unit, len(shape.kernel)
        ones, places = (1,) * count, ((0, 1),) * count
        squeezed = _squeeze(shape, share)
        half = -(-shape.outputs // 2)
        squeeze = Apply(0, Part(unit.name + '.fire.squeeze',
                                ((0, squeezed), (0, shape.inputs), *places)),
                        None, ones, (0,) * count, ones)
        if half == shape.outputs:
            return squeeze, _wide(shape, squeezed, (0, half))
        near = Apply(1, Part(unit.name + '.fire.near',
                             ((half, shape.outputs), (0, squeezed), *places)),
                     shape.bias(half), shape.stride, _centre_padding(shape), ones, 1,
                     shape.norm(half))
        return squeeze, _wide(shape, squeezed, (0, half)), near, Concat((2, 3))


def _directions(near: torch.Tensor, taps: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """
    Return the directions of the inputs by how much the outputs need them, (inputs, directions).

    :param near: how alike the taps' places are, (taps, taps)
    :param taps: weights, (outputs, taps, inputs)
    :param root: of the inputs' second moment
    """
    if len(near) == 1:  # the smaller Gram matrix may be the outputs'
        return singular(taps[:, 0] @ root)[2].T
    needed = taps.flatten(0, 1).T @ (near @ taps).flatten(0, 1)
    _, vectors = torch.linalg.eigh(root @ needed @ root)
    directions: torch.Tensor = vectors.flip(1)
    return directions


def _wide(shape: UnitShape, squeezed: int, span: Span) -> Apply:
    """Expand by the unit's kernel, or 3 x 3."""
    unit = shape.unit
    crops, padding = shape.crops, shape.padding
    if math.prod(unit.kernel) == 1:
        crops = ((0, POINTWISE_KERNEL),) * len(unit.kernel)
        padding = tuple(p + POINTWISE_KERNEL // 2 for p in padding)
    dilation = unit.dilation if math.prod(unit.kernel) > 1 else (1,) * len(unit.kernel)
    return Apply(1, Part(unit.name + '.fire.wide', (span, (0, squeezed), *crops)),
                 shape.bias(*span), shape.stride, padding, dilation, 1, shape.norm(*span))


def _squeeze(shape: UnitShape, share: float) -> int:
    """Return the number of squeezed channels."""
    if math.prod(shape.unit.kernel) == 1:
        share /= 2
    count = int(min(shape.inputs, shape.outputs) * share / MULTIPLE) * MULTIPLE
    full = min(shape.unit.inputs, shape.unit.outputs)
    return min(max(MULTIPLE, count), full)


def _centre_padding(shape: UnitShape) -> Tuple[int, ...]:
    """Padding with which a 1x1 convolution gives as many places as the unit."""
    return tuple(p - d * (k - 1) // 2 for p, d, k in zip(
        shape.padding, shape.unit.dilation, shape.kernel))


def fire(squeeze: float) -> OperatorChoice:
    """Describe a squeeze to a share of the channels."""
    return OperatorChoice('fire', (('squeeze', squeeze),))
