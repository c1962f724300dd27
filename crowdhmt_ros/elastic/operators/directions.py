# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which directions of a space matter: roots of second moments, singular vectors."""
from __future__ import annotations

from typing import Optional, Tuple

import torch


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
