# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of two domains of images, real photos and rendered scenes, each balanced (E3)."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, List, Tuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crowdhmt_ros.elastic.scaling import InputScaling
from crowdhmt_ros.elastic.teaching.augment import VARIATION, augmented_batch
from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.elastic.teaching.images import Images, balanced_draw, shares

UNVARIED_SEED = 2 ** 20


@dataclass(frozen=True)
class Normalisation(InputScaling):
    """
    The scaling of pixels, (rgb * scale - mean) / std; its name is in checkpoints.

    :param mean: per colour
    :param std: per colour
    :param scale: of pixel values
    """

    mean: Tuple[float, ...] = (0.47, 0.46, 0.43)
    std: Tuple[float, ...] = (0.26, 0.25, 0.27)
    scale: float = 1.0 / 255.0

    def of_pixels(self, pixels: NDArray[np.generic]) -> torch.Tensor:
        """Turn pixels of shape (n, h, w, 3) into a network input of shape (n, 3, h, w)."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        return self.apply(x).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class Mixture:
    """
    What an epoch draws from: both domains, each balanced over the classes; see `Batches`.

    :param photos: real photos
    :param scenes: rendered scenes, as large as the photos
    :param photos_per_epoch: images
    :param scenes_per_epoch: images
    :param photo_weights: per class its share of the photos, relative
    :param normalisation: of pixels
    """

    photos: Images
    scenes: Images
    photos_per_epoch: int
    scenes_per_epoch: int
    photo_weights: Tuple[float, ...]
    normalisation: Normalisation = Normalisation()

    @cached_property
    def identity(self) -> str:
        """See `Batches`: both domains by content, their shares, what is done to them."""
        digest = hashlib.sha256()
        for images in (self.photos, self.scenes):
            digest.update(np.ascontiguousarray(images.pixels).data)
            digest.update(np.ascontiguousarray(images.labels).data)
        return '%d photos, %d scenes, %s; %s' % (
            len(self.photos.labels), len(self.scenes.labels), digest.hexdigest()[:16],
            (self.photos_per_epoch, self.scenes_per_epoch, self.photo_weights,
             self.normalisation, VARIATION))

    def _domains(self) -> List[Tuple[Images, int, Tuple[float, ...]]]:
        even = (1.0,) * len(self.photo_weights)
        return [(self.photos, self.photos_per_epoch, self.photo_weights),
                (self.scenes, self.scenes_per_epoch, even)]

    def steps(self, batch_size: int) -> int:
        """See `Batches`."""
        drawn = sum(sum(shares(*domain).values()) for domain in self._domains())
        return drawn // batch_size

    def order(self, rng: np.random.Generator) -> Tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return domain (0 photos, 1 scenes) and index of each image of an epoch, shuffled."""
        parts = [balanced_draw(images, count, rng, weights)
                 for images, count, weights in self._domains()]
        domain = np.concatenate([np.full(len(p), d, np.int64) for d, p in enumerate(parts)])
        shuffle = rng.permutation(len(domain))
        return domain[shuffle], np.concatenate(parts)[shuffle]

    def _take(self, domain: NDArray[np.int64], index: NDArray[np.int64]) -> Images:
        """Gather the images that `order` named."""
        sources = (self.photos, self.scenes)
        pixels = np.stack([sources[d].pixels[i] for d, i in zip(domain, index)])
        labels = np.array([sources[d].labels[i] for d, i in zip(domain, index)], np.int64)
        return Images(pixels, labels)

    def epoch(self, draw: Draw) -> Iterator[Tuple[int, torch.Tensor, torch.Tensor]]:
        """See `Batches`."""
        domain, index = self.order(np.random.default_rng((draw.seed, draw.epoch)))
        edge = draw.edge or self.photos.pixels.shape[1]
        for step in range(draw.first_step, len(domain) // draw.batch_size):
            rows = np.arange(draw.batch_size)[draw.share]
            drawn = step * draw.batch_size + rows
            images = self._take(domain[drawn], index[drawn])
            pixels = augmented_batch(images.pixels, edge, [
                np.random.default_rng((draw.seed, draw.epoch, step, int(row))) for row in rows])
            yield step, self.normalisation.of_pixels(pixels), torch.from_numpy(images.labels)

    def unvaried(self, batches: int, batch_size: int, edge: int) -> List[torch.Tensor]:
        """See `Batches`; images are stretched to the edge, 0 leaves them."""
        domain, index = self.order(np.random.default_rng(UNVARIED_SEED))
        found = []
        for start in range(0, min(len(domain), batches * batch_size), batch_size):
            rows = slice(start, start + batch_size)
            if len(domain[rows]) > 1:
                pixels = self._take(domain[rows], index[rows]).pixels
                found.append(self.normalisation.of_pixels(_stretched(pixels, edge)))
        return found


def _stretched(pixels: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    if edge in (0, pixels.shape[1]):
        return pixels
    return np.stack([np.asarray(cv2.resize(p, (edge, edge), interpolation=cv2.INTER_AREA),
                                np.uint8) for p in pixels])
