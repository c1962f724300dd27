# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Weight recycling: variants use the backbone's tensors again and must not damage them (P III-A1).

A step has two gradients of a shared tensor: the backbone's own and that of the variants. Where
they conflict - their product is negative - the variants' part that opposes the backbone is taken
out (gradient projection, as in PCGrad, Yu et al. 2020, but one-sided: the backbone yields
nothing). To first order, no step of a variant then raises the backbone's loss, tensor by tensor.

Chosen over an importance-weighted anchor (elastic weight consolidation): that one needs a pass for
the importances and a strength that fits one task only, and it holds tensors where they are even
where moving would serve both; the projection needs nothing but the gradients that a step of
the sandwich has anyway. Its cost is one product per tensor. `interference.interference` measures
what is at stake, with the projection and without.
"""
from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

import torch

Gradient = Optional[torch.Tensor]


class Merged(NamedTuple):
    """
    One gradient per parameter, of both parties.

    :param gradients: None where neither has one
    :param conflict_ratio: share of the variants' squared gradient, over the shared tensors,
        that opposes the backbone's; a scalar tensor, None where nothing is shared
    """

    gradients: List[Gradient]
    conflict_ratio: Gradient


def merge(backbone: Sequence[Gradient], variants: Sequence[Gradient], protection: str, *,
          weight: float = 1.0) -> Merged:
    """
    Join the gradients of backbone and variants.

    :param backbone: per parameter
    :param variants: per parameter, summed over the variants
    :param protection: 'none' adds them, 'projection' protects the backbone
    :param weight: of the variants' gradients, where the backbone has one
    """
    merged: List[Gradient] = []
    opposed, total = [], []
    for own, others in zip(backbone, variants):
        if others is None or own is None:
            merged.append(own if others is None else others)
            continue
        against = _opposing_share(own, others)
        opposed.append(against * against * own.pow(2).sum())
        total.append(others.pow(2).sum())
        if protection == 'projection':
            others = others - against * own
        merged.append(own + weight * others)
    ratio = None
    if total:
        ratio = torch.stack(opposed).sum() / torch.stack(total).sum().clamp_min(1e-30)
    return Merged(merged, ratio)


def _opposing_share(own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the factor (at most 0) of `own` that `others` holds against it."""
    along = (own * others).sum() / own.pow(2).sum().clamp_min(1e-30)
    return along.clamp_max(0.0)
