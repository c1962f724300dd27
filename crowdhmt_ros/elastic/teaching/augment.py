# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Variation of images: part, mirror, brightness, contrast and colour, by each one's own draw."""
from __future__ import annotations

from typing import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

VARIATION = 'shift 1/8, zoom 0.8-1.1, mirror, gain 0.7-1.25, colour 0.06, offset 20'
"""Names what is done; another variation is another text, so that checkpoints tell."""


def augmented(image: NDArray[np.uint8], edge: int, rng: np.random.Generator
              ) -> NDArray[np.float32]:
    """
    Return a varied copy of an image.

    :param image: shape (size, size, 3), uint8
    :param edge: of the result, pixels
    :param rng: of this image
    :returns: shape (edge, edge, 3), float32, 0..255
    """
    return _jitter(_warp(image, edge, rng).astype(np.float32), rng)


def augmented_batch(pixels: NDArray[np.uint8], edge: int, rngs: Sequence[np.random.Generator]
                    ) -> NDArray[np.float32]:
    """
    Return varied copies of images.

    :param pixels: shape (n, size, size, 3), uint8
    :param edge: of the result, pixels
    :param rngs: one per image
    :returns: shape (n, edge, edge, 3), float32, 0..255
    """
    return np.stack([augmented(image, edge, rng) for image, rng in zip(pixels, rngs)])


def _warp(image: NDArray[np.uint8], edge: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut out a shifted, perhaps zoomed and mirrored part, `edge` pixels wide."""
    size = image.shape[0]
    zoom = 1.0 if rng.random() < 0.5 else rng.uniform(0.8, 1.1)
    shift = rng.integers(-size // 8, size // 8 + 1, 2)
    scale = edge / size * zoom
    centre = size / 2.0
    matrix = np.array([[scale, 0.0, edge / 2.0 - scale * (centre + shift[0])],
                       [0.0, scale, edge / 2.0 - scale * (centre + shift[1])]])
    # Pixel centres lie at half-integers; without this a pure shift would blur.
    matrix[:, 2] += (scale - 1.0) / 2.0
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.asarray(cv2.warpAffine(
        np.ascontiguousarray(image), matrix, (edge, edge), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _jitter(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change brightness, contrast and colour of an image of values 0..255, in place."""
    gain = rng.uniform(0.7, 1.25) * rng.uniform(0.94, 1.06, 3)
    image *= gain.astype(np.float32)
    image += np.float32(rng.uniform(-20.0, 20.0))
    return np.clip(image, 0.0, 255.0, out=image)
