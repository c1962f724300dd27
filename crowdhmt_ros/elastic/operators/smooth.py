# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the forms assume of a layer's inputs while they derive their tensors.

The second moment of the channels is measured; that of neighbouring places is a model: feature
maps are smooth, two places d steps apart (along all axes together) agree to SMOOTHNESS^d.
"""
from __future__ import annotations

import itertools
from typing import Optional, Tuple

import torch

from crowdhmt_ros.elastic.structure import Unit

SMOOTHNESS = 0.4
"""Between neighbouring places of feature maps."""


def likeness(unit: Unit, shift: Tuple[int, ...] = ()) -> torch.Tensor:
    """
    Return how far the places under two taps of a kernel agree, (taps, taps).

    :param unit: whose kernel it is
    :param shift: how many outputs the kernel of the second tap lies further, per axis
    """
    taps = torch.tensor(list(itertools.product(*(range(k) for k in unit.kernel))))
    taps = taps.reshape(-1, len(unit.kernel)) * torch.tensor(unit.dilation, dtype=torch.long)
    moved = taps
    if shift:
        moved = taps + torch.tensor(shift) * torch.tensor(unit.stride)
    apart = (taps[:, None] - moved[None]).abs().sum(2)
    return torch.as_tensor(SMOOTHNESS, dtype=torch.float64) ** apart


def mixed(weight: torch.Tensor, moment: Optional[torch.Tensor]) -> torch.Tensor:
    """Multiply weights by the second moment of the channels alone; see `seen`."""
    return weight if moment is None else torch.einsum('cd,nd...->nc...', moment, weight)


def seen(unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor],
         shift: Tuple[int, ...] = ()) -> torch.Tensor:
    """
    Multiply weights by the second moment of what they read.

    The product with other weights is then the expected product of the two layers' outputs.

    :param weight: (outputs, inputs, *kernel), float64
    :param moment: of the inputs, (inputs, inputs), None for the identity
    :param shift: see `likeness`: the other weights lie so many outputs before
    :returns: as `weight`
    """
    product = mixed(weight, moment)
    if not unit.kernel:
        return product
    return (product.flatten(2) @ likeness(unit, shift).T).reshape(weight.shape)
