# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs in memory as batches: drawn, varied, scaled."""
from __future__ import annotations

import hashlib
from typing import Iterator, List, Tuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crowdhmt_ros.datasets import InputKind
from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.tasks.task import InputScaling
from crowdhmt_ros.tasks.variation import Variation

PIXEL_SCALE = 1.0 / 255.0
LEAST_STD = 1e-6
SIGNIFICANT = 6
"""Digits of measured constants: as they are written, so they are used."""


def ready(values: NDArray[np.generic], scaling: InputScaling) -> torch.Tensor:
    """
    Turn values into a network's input.

    :param values: uint8 (n, h, w, 3), or float32 (n, channels, ...)
    :param scaling: settled
    :returns: float32 (n, 3, h, w) or of the shape given; `values` stay as they are
    """
    x = torch.from_numpy(np.ascontiguousarray(values))
    if x.dtype == torch.uint8:
        x = x.permute(0, 3, 1, 2).to(torch.float32)  # stays channels last in memory
    else:
        x = x.clone()
    return scaling.apply(x)


def settled(scaling: InputScaling, values: NDArray[np.generic], kind: InputKind) -> InputScaling:
    """
    Return a scaling with its constants, measured per channel where they are not given.

    :param values: of the training part, as for `ready`
    """
    scale = PIXEL_SCALE if kind is InputKind.IMAGE else 1.0
    if scaling.settled:
        return InputScaling(scaling.mean, scaling.std, scale)
    channel = values.ndim - 1 if kind is InputKind.IMAGE else 1
    rest = tuple(a for a in range(values.ndim) if a != channel)
    mean = values.mean(rest, dtype=np.float64) * scale
    std = np.maximum(values.std(rest, dtype=np.float64) * scale, LEAST_STD)
    return InputScaling(_rounded(mean), _rounded(std), scale)


def _rounded(values: NDArray[np.float64]) -> Tuple[float, ...]:
    return tuple(float('%.*g' % (SIGNIFICANT, v)) for v in values)


class VariedBatches:
    """Inputs that lie in memory, varied a batch at a time; see `teaching.batches.Batches`."""

    def __init__(self, values: NDArray[np.generic], labels: NDArray[np.int64],
                 scaling: InputScaling, variation: Variation) -> None:
        """
        Draw from arrays.

        :param values: uint8 (n, h, w, 3), or float32 (n, channels, ...)
        :param labels: (n,)
        :param scaling: settled
        :param variation: of the values, before they are scaled
        """
        self.values = values
        self.labels = np.asarray(labels, np.int64)
        self.scaling, self.variation = scaling, variation
        self._edge, self._resized = 0, values
        digest = hashlib.sha256(np.ascontiguousarray(values).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        self._identity = '%d inputs %s; %s; %s' % (
            len(self.labels), digest.hexdigest()[:16], scaling, variation.text)

    @property
    def identity(self) -> str:
        """See `Batches`."""
        return self._identity

    def steps(self, batch_size: int) -> int:
        """See `Batches`."""
        return len(self.labels) // batch_size

    def epoch(self, draw: Draw) -> Iterator[Tuple[int, torch.Tensor, torch.Tensor]]:
        """See `Batches`."""
        values = self.values if self.variation.resizes else self._at(draw.edge)
        order = np.random.default_rng((draw.seed, draw.epoch)).permutation(len(self.labels))
        for step in range(draw.first_step, self.steps(draw.batch_size)):
            rows = order[step * draw.batch_size:(step + 1) * draw.batch_size][draw.share]
            # Drawn for the whole batch, so that a share gets what the whole batch would give it.
            numbers = np.random.default_rng((draw.seed, draw.epoch, step)).random(
                (draw.batch_size, self.variation.numbers))[draw.share]
            varied = self.variation.apply(values[rows], numbers, draw.edge)
            yield step, ready(varied, self.scaling), torch.from_numpy(self.labels[rows])

    def unvaried(self, batches: int, batch_size: int, edge: int) -> List[torch.Tensor]:
        """See `Batches`; an edge of 0 leaves images as they are."""
        order = np.random.default_rng(0).permutation(len(self.labels))
        parts = [order[k * batch_size:(k + 1) * batch_size] for k in range(batches)]
        return [ready(_stretched(self.values[rows], edge), self.scaling)
                for rows in parts if len(rows) > 1]

    def _at(self, edge: int) -> NDArray[np.generic]:
        """Return all images at an edge; those of the last one asked for are kept."""
        if edge != self._edge:
            self._edge, self._resized = edge, _stretched(self.values, edge)
        return self._resized


def _stretched(values: NDArray[np.generic], edge: int) -> NDArray[np.generic]:
    """
    Return images at an edge, 0 for as they are.

    :raises ConfigError: an edge is given, but the values are no images
    """
    if not edge:
        return values
    if values.dtype != np.uint8:
        raise ConfigError('the recipe gives edges of images, but the inputs are none; leave '
                          'edges out')
    if edge == values.shape[1]:
        return values
    return np.stack([
        np.asarray(cv2.resize(v, (edge, edge), interpolation=cv2.INTER_AREA), np.uint8)
        for v in np.asarray(values, np.uint8)])
