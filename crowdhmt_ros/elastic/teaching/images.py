# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled images of one size in memory, and draws from them that are balanced over classes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Images:
    """
    Labelled images of one domain.

    :param pixels: shape (n, size, size, 3), uint8, RGB
    :param labels: shape (n,), int64, indices into the classes
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def join(parts: Sequence[Images]) -> Images:
    """Put several sets of equal image size together."""
    return Images(np.concatenate([p.pixels for p in parts]),
                  np.concatenate([p.labels for p in parts]))


def shares(images: Images, count: int, weights: Sequence[float]) -> Dict[int, int]:
    """
    Divide a draw among the classes that are there.

    :param count: images in all, up to rounding
    :param weights: per class its share relative to the others
    :returns: class -> images
    """
    present = [c for c in range(len(weights)) if np.any(images.labels == c)]
    total = sum(weights[c] for c in present)
    return {c: round(count * weights[c] / total) for c in present}


def balanced_draw(images: Images, count: int, rng: np.random.Generator,
                  weights: Sequence[float]) -> NDArray[np.int64]:
    """
    Draw indices so that each class gets its share, each image of it about equally often.

    :param count: number of indices, up to rounding
    :param weights: per class its share relative to the others
    """
    drawn: List[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for c, wanted in shares(images, count, weights).items():
        members = np.flatnonzero(images.labels == c)
        rounds = [rng.permutation(members) for _ in range(-(-wanted // len(members)))]
        drawn.append(np.concatenate(rounds)[:wanted] if rounds else members[:0])
    return rng.permutation(np.concatenate(drawn))
