# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images resized into memory that is kept: by area, as `cv2.INTER_AREA`, or bilinear.

cv2 averages areas of fractional size pixel by pixel, which takes ten times as long as the rest of
the preparation of a frame. A mean over the nearest whole number of pixels, sampled bilinearly at
the centre of each area, is the same but for the rim of the area: the mean of m pixels between two
places is what lies between the two means (the integral of a piecewise constant is piecewise
linear). It stands in where its width is right to an eighth and the frame is large; elsewhere cv2
does it, so that small pictures come out as the networks saw them in training.
"""
from __future__ import annotations

from typing import List, Optional, Tuple

import cv2
import numpy as np

from crowdhmt_ros.types.models import AREA, LINEAR

EXACT_PIXELS = 1 << 16
"""Below, cv2's own averaging takes a third of a millisecond at most."""
RIM_RATIO = 1 / 8
"""By how much of it the whole width may miss the width of an area."""
LEAST_FACTOR, LEAST_HALVED = 2.0, 6.0
"""Least width of an area that is averaged so, and of one that remains after halving."""
_HALF = cv2.INTER_AREA


class Resizer:
    """
    Brings images of one shape to a size. One thread at a time.

    :param shape: of the images, (H, W) or (H, W, 3)
    :param size: (height, width) wanted
    :param how: 'area' or 'linear'
    """

    def __init__(self, shape: Tuple[int, ...], size: Tuple[int, int], how: str) -> None:
        self._size = (size[1], size[0])
        self._flag = cv2.INTER_LINEAR if how == LINEAR else cv2.INTER_AREA
        self._halves: List[np.ndarray] = []
        self._mean: Optional[np.ndarray] = None
        self._maps: Optional[Tuple[np.ndarray, np.ndarray]] = None
        self._widths = (1, 1)
        if how == AREA and shape[0] * shape[1] >= EXACT_PIXELS:
            self._plan(shape, size)

    @property
    def exact(self) -> bool:
        """Tell whether cv2 does it in one step."""
        return self._mean is None

    def into(self, image: np.ndarray, out: np.ndarray) -> None:
        """
        Resize an image.

        :param image: uint8 of the shape told before, any strides; only read
        :param out: uint8 of the size, contiguous, overwritten
        :raises cv2.error: the image is beyond what cv2 takes
        """
        if self._mean is None:
            cv2.resize(image, self._size, dst=out, interpolation=self._flag)
            return
        for half in self._halves:
            image = cv2.resize(image, half.shape[1::-1], dst=half, interpolation=_HALF)
        cv2.blur(image, self._widths, dst=self._mean, borderType=cv2.BORDER_REPLICATE)
        if self._maps is None:
            cv2.resize(self._mean, self._size, dst=out, interpolation=cv2.INTER_LINEAR)
        else:
            cv2.remap(self._mean, self._maps[0], self._maps[1], cv2.INTER_LINEAR, dst=out,
                      borderMode=cv2.BORDER_REPLICATE)

    def _plan(self, shape: Tuple[int, ...], size: Tuple[int, int]) -> None:
        height, width = shape[:2]
        while (height % 2 == width % 2 == 0
               and _fits(height // 2, size[0], LEAST_HALVED)
               and _fits(width // 2, size[1], LEAST_HALVED)):
            height, width = height // 2, width // 2
            self._halves.append(np.zeros((height, width, *shape[2:]), np.uint8))
        if not (_fits(height, size[0], LEAST_FACTOR) and _fits(width, size[1], LEAST_FACTOR)):
            self._halves = []
            return
        self._widths = (round(width / size[1]), round(height / size[0]))
        self._mean = np.zeros((height, width, *shape[2:]), np.uint8)
        # A mean over an even number of pixels lies half a pixel before its place.
        if self._widths[0] % 2 == 0 or self._widths[1] % 2 == 0:
            across, down = (_centres(length, wanted, not mean % 2) for length, wanted, mean in (
                (width, size[1], self._widths[0]), (height, size[0], self._widths[1])))
            grid = np.meshgrid(across, down)
            self._maps = cv2.convertMaps(grid[0], grid[1], cv2.CV_16SC2)


def _fits(length: int, wanted: int, least: float) -> bool:
    factor = length / wanted
    return factor >= least and abs(round(factor) - factor) <= RIM_RATIO * factor


def _centres(length: int, wanted: int, later: bool) -> np.ndarray:
    centres = (np.arange(wanted) + 0.5) * (length / wanted) - (0.0 if later else 0.5)
    return np.asarray(centres, np.float32)
