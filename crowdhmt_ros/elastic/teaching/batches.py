# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The seam to data: what a training asks of photos, windows and spectrograms alike.

Variation (augmentation) lives with the data, behind this seam.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np
import torch
from numpy.typing import NDArray

Vary = Callable[[NDArray[np.float32], int, Sequence[np.random.Generator]], NDArray[np.float32]]
"""(inputs (n, ...), edge in pixels or 0, a generator per input) -> varied inputs."""


@dataclass(frozen=True)
class Draw:
    """
    What of the data is wanted.

    :param seed: of the training
    :param epoch: counted over all phases
    :param batch_size: of all ranks together
    :param edge: of images in pixels, 0 for inputs as they are
    :param first_step: earlier steps are not wanted (any more)
    :param rank: whose share of each batch: a contiguous one, in the order of the ranks
    :param ranks: how many shares there are; divides the batch size
    """

    seed: int
    epoch: int
    batch_size: int
    edge: int = 0
    first_step: int = 0
    rank: int = 0
    ranks: int = 1

    @property
    def share(self) -> slice:
        """Rows of a batch that belong to the rank."""
        size = self.batch_size // self.ranks
        return slice(self.rank * size, (self.rank + 1) * size)


class Batches(Protocol):
    """Labelled inputs in random order; the same order and variation for the same draw."""

    @property
    def identity(self) -> str:
        """What tells this data, with its variation, from other data; in the checkpoint."""

    def steps(self, batch_size: int) -> int:
        """Return how many full batches an epoch has."""

    def epoch(self, draw: Draw) -> Iterator[Tuple[int, torch.Tensor, torch.Tensor]]:
        """
        Yield (step, inputs, labels) of each full batch of an epoch from a step on.

        A row's order and variation are functions of (seed, epoch, step, row) alone, whatever
        the rank and the first step.

        :returns: inputs float32 (n, ...), labels int64 (n,), of the rank's share
        """

    def unvaried(self, batches: int, batch_size: int, edge: int) -> List[torch.Tensor]:
        """
        Return training inputs without variation, the same ones each time.

        For the transformation, and to calibrate statistics.

        :param batches: at most so many
        """


class MemoryBatches:
    """Inputs that lie in memory."""

    def __init__(self, inputs: NDArray[np.float32], labels: NDArray[np.int64], *,
                 vary: Optional[Vary] = None, variation: str = '') -> None:
        """
        Draw from arrays.

        :param inputs: (n, ...), as the network takes them
        :param labels: (n,)
        :param vary: augmentation, None for none
        :param variation: names the augmentation; another one is other data
        """
        self._inputs, self._labels, self._vary = inputs, labels, vary
        digest = hashlib.sha256(np.ascontiguousarray(inputs).tobytes())
        digest.update(np.ascontiguousarray(labels).tobytes())
        self._identity = '%d inputs %s %s' % (len(labels), digest.hexdigest()[:16], variation)

    @property
    def identity(self) -> str:
        """See `Batches`."""
        return self._identity

    def steps(self, batch_size: int) -> int:
        """See `Batches`."""
        return len(self._labels) // batch_size

    def epoch(self, draw: Draw) -> Iterator[Tuple[int, torch.Tensor, torch.Tensor]]:
        """See `Batches`."""
        order = np.random.default_rng((draw.seed, draw.epoch)).permutation(len(self._labels))
        numbers = np.arange(draw.batch_size)[draw.share]
        for step in range(draw.first_step, self.steps(draw.batch_size)):
            rows = order[step * draw.batch_size:(step + 1) * draw.batch_size][draw.share]
            inputs = self._inputs[rows]
            if self._vary is not None:
                inputs = self._vary(inputs, draw.edge, [
                    np.random.default_rng((draw.seed, draw.epoch, step, row))
                    for row in numbers])
            yield step, torch.from_numpy(inputs), torch.from_numpy(self._labels[rows])

    def unvaried(self, batches: int, batch_size: int, edge: int) -> List[torch.Tensor]:
        """See `Batches`; the edge is that of the arrays."""
        order = np.random.default_rng(0).permutation(len(self._labels))
        parts = [order[k * batch_size:(k + 1) * batch_size] for k in range(batches)]
        return [torch.from_numpy(self._inputs[rows]) for rows in parts if len(rows) > 1]
