# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Factorization by singular values (eta1, P III-A1): a layer becomes two thin ones.

W (N, C, k, k) is read as a matrix of N rows. With U the eigenvectors of the outputs' second moment
W M W^T, W = U (U^T W) gives a k x k convolution to r channels (U^T W) and a 1x1 convolution from
there (U): of all rank-r layers the one whose outputs err least. Where nothing is known of the
inputs, M is a model (`smooth`) and U are W's left singular vectors, but for that model.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.operator import FormBase, Parameters, UnitShape
from crowdhmt_ros.elastic.operators.smooth import seen
from crowdhmt_ros.elastic.steps import Apply, Part, Program
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

RANKS = (0.5, 0.25)
LEAST_CHANNELS = 16
RANK_MULTIPLE = 4
SELDOM = 1e-6
"""Weight of directions that no image showed, against all that were seen."""


@dataclass(frozen=True)
class Svd(FormBase):
    """Keep the largest singular values: `rank` is a share of all of them."""

    name: str = 'svd'
    eta: int = 1

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer ranks."""
        return () if self.refusal(stage, units) else tuple(svd(rank) for rank in RANKS)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse what is not dense, or too thin to save work."""
        if not unit.is_dense:
            return 'its channels are not mixed: there is nothing to factorize'
        if min(unit.inputs * math.prod(unit.kernel), unit.outputs) < LEAST_CHANNELS:
            return 'it has fewer than %d inputs or outputs' % LEAST_CHANNELS
        return ''

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Take the principal directions of the outputs; `program` keeps the first ones."""
        wide = weight.flatten(1)
        if outputs is None:
            outputs = seen(unit, weight, moment).flatten(1) @ wide.T
        else:  # few images show few directions: the weights say which others there are
            gram = wide @ wide.T
            outputs = outputs + SELDOM * outputs.trace() / gram.trace().clamp_min(1e-30) * gram
        rank = min(weight.shape[0], wide.shape[1])
        mix = torch.linalg.eigh(outputs)[1].flip(1)[:, :rank]
        basis = (mix.T @ wide).reshape(rank, *weight.shape[1:])
        ones = (1,) * len(unit.kernel)
        return {unit.name + '.svd.basis': basis,
                unit.name + '.svd.mix': mix.reshape(*mix.shape, *ones)}

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """Apply the basis, then mix."""
        share = float(parameters.get('rank', RANKS[0]))
        if not 0.0 < share <= 1.0:
            raise ExportError('svd rank is %g; give a share above 0 and up to 1' % share)
        unit, ones = shape.unit, tuple(1 for _ in shape.kernel)
        full = min(unit.inputs * math.prod(unit.kernel), unit.outputs)
        narrowed = min(shape.inputs * math.prod(shape.kernel), shape.outputs)
        rank = max(RANK_MULTIPLE, round(narrowed * share / RANK_MULTIPLE) * RANK_MULTIPLE)
        rank = min(rank, full)
        return (
            Apply(0, Part(unit.name + '.svd.basis',
                          ((0, rank), (0, shape.inputs), *shape.crops)),
                  None, shape.stride, shape.padding, unit.dilation),
            Apply(1, Part(unit.name + '.svd.mix',
                          ((0, shape.outputs), (0, rank), *((0, 1) for _ in ones))),
                  shape.bias(), ones, tuple(0 for _ in ones), ones, 1, shape.norm()))


def svd(rank: float) -> OperatorChoice:
    """Describe a factorization to a share of the singular values."""
    return OperatorChoice('svd', (('rank', rank),))
