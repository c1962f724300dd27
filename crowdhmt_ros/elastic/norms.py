# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How batch normalisations get their statistics: from the batch, remembered, or given.

Statistics belong to a layer in its context - its own configuration and that of everything before
it - never to a whole variant: what two variants compute alike they normalise alike.
"""
from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Protocol, Tuple

import torch
import torch.nn.functional as F

from crowdhmt_ros.elastic.steps import Norm
from crowdhmt_ros.errors import ExportError

Statistics = Mapping[str, Tuple[torch.Tensor, torch.Tensor]]
"""'layer:start-stop@context' -> mean and variance of what comes in, float64."""
Affine = Optional[torch.Tensor]


class Norms(Protocol):
    """Normalises what a layer gives."""

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """
        Normalise.

        :param x: (n, c, ...)
        :param norm: which normalisation
        :param key: of its statistics
        :param gain: (c,)
        :param shift: (c,)
        """


class BatchNorms:
    """Statistics of the batch, as training needs them; nothing is remembered."""

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """See `Norms`."""
        return F.batch_norm(x, None, None, gain, shift, True, 0.0, norm.epsilon)


class SkippedNorms:
    """No normalisation: for trials that only ask for shapes."""

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """See `Norms`."""
        return x


class FixedNorms:
    """Statistics that were measured before."""

    def __init__(self, statistics: Statistics) -> None:
        """
        Normalise with these.

        :param statistics: of every normalisation that will run
        """
        self._statistics = statistics

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """
        See `Norms`.

        :raises ExportError: its statistics are missing
        """
        mean, variance = statistics_of(self._statistics, key)
        return F.batch_norm(x, mean.to(x), variance.to(x), gain, shift, False, 0.0, norm.epsilon)


class CollectingNorms:
    """Statistics of the batch, remembered: over several batches their mean."""

    def __init__(self) -> None:
        """Start without any."""
        self._sums: Dict[str, Tuple[Any, Any, int]] = {}

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """See `Norms`."""
        mean, variance = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
        # With momentum 1 the normalisation itself leaves the statistics of this batch there.
        y = F.batch_norm(x, mean, variance, gain, shift, True, 1.0, norm.epsilon)
        old_mean, old_variance, count = self._sums.get(key, (0.0, 0.0, 0))
        self._sums[key] = (old_mean + mean.double(), old_variance + variance.double(), count + 1)
        return y

    def statistics(self) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
        """Return the means over the batches."""
        return {k: (m / n, v / n) for k, (m, v, n) in self._sums.items()}


def statistics_of(statistics: Statistics, key: str) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    Look statistics up.

    :raises ExportError: there are none
    """
    if key not in statistics:
        raise ExportError('statistics of %s are missing; calibrate this variant' % key)
    return statistics[key]
