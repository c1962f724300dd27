# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Factorization by singular values (eta1, P III-A1): a layer becomes two thin ones.

W (N, C, k, k) is read as a matrix of N rows; W = U S V^T gives a k x k convolution to r channels
(S V^T) and a 1x1 convolution from there (U). Where the second moment M of the inputs is known, W
is weighted by its root first, so that the error of the outputs, not of the weights, is least.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.operator import FormBase, Parameters, UnitShape
from crowdhmt_ros.elastic.steps import Apply, Part, Program
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

RANKS = (0.5, 0.25)
LEAST_CHANNELS = 16
RANK_MULTIPLE = 4


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

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None
                ) -> Dict[str, torch.Tensor]:
        """Factorize at full rank; `program` takes the first columns."""
        weighted = weight
        if moment is not None:
            root, back = roots_of(moment, weight.shape[1])
            weighted = torch.einsum('nc...,cd->nd...', weight, root)
        u, s, v = singular(weighted.flatten(1))
        thin = (s.sqrt()[:, None] * v).reshape(len(s), *weight.shape[1:])
        basis = thin if moment is None else torch.einsum('rd...,dc->rc...', thin, back)
        wide = u * s.sqrt()
        ones = (1,) * len(unit.kernel)
        return {unit.name + '.svd.basis': basis,
                unit.name + '.svd.mix': wide.reshape(*wide.shape, *ones)}

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


def singular(matrix: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Decompose a matrix as U S V^T by way of its smaller Gram matrix, which is far quicker.

    :param matrix: (n, m), float64
    :returns: (n, k), (k,) descending, (k, m); k is the smaller of n and m
    """
    turned = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if turned else matrix
    _, vectors = torch.linalg.eigh(wide @ wide.T)
    left = vectors.flip(1)
    right = left.T @ wide
    values = right.norm(dim=1).clamp_min(1e-30)
    right = right / values[:, None]
    return (right.T, values, left.T) if turned else (left, values, right)


def roots_of(moment: Optional[torch.Tensor], inputs: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    Return the symmetric root of a second moment and its inverse.

    :param moment: (inputs, inputs), None for the identity
    """
    if moment is None:
        one = torch.eye(inputs, dtype=torch.float64)
        return one, one
    values, vectors = torch.linalg.eigh(moment)
    values = values.clamp_min(float(values.max()) * 1e-6 + 1e-12).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def svd(rank: float) -> OperatorChoice:
    """Describe a factorization to a share of the singular values."""
    return OperatorChoice('svd', (('rank', rank),))
