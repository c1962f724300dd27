# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Batch normalisation over the batches of several processes.

torch's SyncBatchNorm refuses the CPU; this one needs only an all-gather and an all-reduce, which
gloo and nccl both have. Mean and variance are those of the joint batch, and the gradient runs
through them, so that ranks with shares of a batch compute what one rank with the whole would.
"""
from __future__ import annotations

from typing import Any, List, Tuple

import torch
import torch.distributed as dist

from crowdhmt_ros.elastic.norms import Affine
from crowdhmt_ros.elastic.steps import Norm


class SyncNorms:
    """Statistics of the batches of all ranks; every rank must normalise in the same order."""

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """See `norms.Norms`."""
        y: torch.Tensor = _JointNorm.apply(x, norm.epsilon)  # type: ignore[no-untyped-call]
        columns = (1, -1) + (1,) * (x.ndim - 2)
        if gain is not None:
            y = y * gain.view(columns).to(y.dtype)
        return y if shift is None else y + shift.view(columns).to(y.dtype)


def joint_moments(x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Return count, mean and variance (biased) per channel over the batches of all ranks.

    Each rank's own moments are gathered and joined exactly (Chan et al. 1979): sums of squares
    over ranks would lose digits.

    :param x: (n, c, ...), float32
    :returns: (), (c,) and (c,)
    """
    axes = [a for a in range(x.ndim) if a != 1]
    variance, mean = torch.var_mean(x, axes, unbiased=False)
    count = x.numel() // x.shape[1]
    own = torch.cat([mean, variance, mean.new_tensor([float(count)])])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    return _joined(gathered, x.shape[1])


def _joined(gathered: List[torch.Tensor], channels: int
            ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = torch.stack(gathered)
    means, variances = parts[:, :channels], parts[:, channels:2 * channels]
    counts = parts[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    spread = variances + (means - mean) ** 2
    return total, mean, (spread * counts).sum(0) / total


class _JointNorm(torch.autograd.Function):
    """(x - mean) / deviation over all ranks; the gradient sums over all ranks too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Normalise."""
        wide = x.float()
        total, mean, variance = joint_moments(wide)
        columns = (1, -1) + (1,) * (x.ndim - 2)
        inverse = (variance + epsilon).rsqrt().view(columns)
        y = (wide - mean.view(columns)) * inverse
        ctx.save_for_backward(y, inverse, total)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Tuple[torch.Tensor, None]:
        """Return the gradient by x: what moves mean and deviation is taken out of it."""
        y, inverse, total = ctx.saved_tensors
        wide = gradients[0].float()
        axes = [a for a in range(wide.ndim) if a != 1]
        sums = torch.stack([wide.sum(axes), (wide * y).sum(axes)])
        dist.all_reduce(sums)
        columns = (1, -1) + (1,) * (wide.ndim - 2)
        mean, along = (sums / total).view(2, *columns[:1], -1, *columns[2:])
        return ((wide - mean - y * along) * inverse).to(gradients[0].dtype), None
