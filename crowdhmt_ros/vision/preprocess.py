# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Image to tensor without allocating: ``x = (rgb * scale - mean) / std``, whole frame stretched.

There are only 256 values a channel, so the normalisation is a table per channel, computed in
double precision once; frames are resized, separated and looked up into memory that is kept.
"""
from __future__ import annotations

from typing import Optional, Tuple

import cv2
import numpy as np

from crowdhmt_ros.errors import BundleError, FrameError
from crowdhmt_ros.types import InputSpec
from crowdhmt_ros.types.models import RESIZES
from crowdhmt_ros.vision.shrink import Resizer

BLUE, GREEN, RED = 0.114, 0.587, 0.299
"""ITU-R BT.601 luma, as cv2.COLOR_BGR2GRAY has it."""


class Preprocessor:
    """
    Turns camera images into the input of a model. One thread at a time.

    :param spec: what the model expects, shape (1, 3, height, width)
    :raises BundleError: when it expects something other than a float32 colour image, or
        resized in a way that is not known
    """

    def __init__(self, spec: InputSpec) -> None:
        if (len(spec.shape) != 4 or spec.shape[:2] != (1, 3) or spec.dtype != 'float32'
                or len(spec.mean) != 3 or len(spec.std) != 3):
            raise BundleError('the model takes %s %r, no colour image: choose a bundle for image '
                              'classification' % (spec.dtype, spec.shape))
        if spec.resize not in RESIZES:
            raise BundleError('the model takes images resized by %.40r, this robot knows %s'
                              % (spec.resize, ', '.join(RESIZES)))
        self.spec = spec
        _, _, height, width = spec.shape
        self._colour = np.zeros((height, width, 3), np.uint8)
        self._grey = np.zeros((height, width), np.uint8)
        self._channels = [np.zeros((height, width), np.uint8) for _ in range(3)]
        self._shape: Tuple[int, ...] = ()
        self._resizer: Optional[Resizer] = None
        self._resized: Optional[np.ndarray] = None
        self._tables = [_table(spec.scale, m, s) for m, s in zip(spec.mean, spec.std)]
        self._out: Optional[np.ndarray] = None
        self._planes: Tuple[np.ndarray, ...] = ()

    def into(self, image: np.ndarray, out: np.ndarray) -> None:
        """
        Write the tensor of an image into a buffer.

        :param image: (H, W, 3) uint8 blue-green-red, (H, W) or (H, W, 1) uint8 grey; any
            strides; only read
        :param out: C-contiguous float32 of the model's input shape, overwritten
        :raises FrameError: when image or buffer have another type or shape
        """
        if out is not self._out:
            self._take_planes(out)
        resized = self._resize(image)
        if resized.ndim == 2:
            for table, plane in zip(self._tables, self._planes):
                cv2.LUT(resized, table, dst=plane)
            return
        cv2.split(resized, self._channels)
        for channel, table, plane in zip(reversed(self._channels), self._tables, self._planes):
            cv2.LUT(channel, table, dst=plane)

    def luminance(self) -> Optional[float]:
        """Return the mean grey of the last resized image, 0..1; None before the first."""
        if self._resized is None:
            return None
        blue, green, red, _ = cv2.mean(self._resized)
        if self._resized.ndim == 2:
            return float(blue) / 255.0
        return (BLUE * blue + GREEN * green + RED * red) / 255.0

    @property
    def resized(self) -> Optional[np.ndarray]:
        """
        The last image in the model's size, (height, width, 3) uint8 blue-green-red.

        Valid until the next image; None before the first.
        """
        if self._resized is None or self._resized.ndim == 3:
            return self._resized
        return cv2.cvtColor(self._resized, cv2.COLOR_GRAY2BGR)

    def _resize(self, image: np.ndarray) -> np.ndarray:
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0 or (
                image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise FrameError('the image is %s %r, expected uint8 (height, width, 3) or '
                             '(height, width)' % (image.dtype, image.shape))
        grey = image.ndim == 2 or image.shape[2] == 1
        target = self._grey if grey else self._colour
        if self._resizer is None or image.shape != self._shape:
            self._take_resizer(image.shape, grey)
        assert self._resizer is not None
        try:
            self._resizer.into(image, target)
        except cv2.error as error:
            raise FrameError('an image of %d x %d pixels cannot be resized: %s' % (
                image.shape[1], image.shape[0], ' '.join(str(error).split())[:200])) from error
        self._resized = target
        return target

    def _take_resizer(self, shape: Tuple[int, ...], grey: bool) -> None:
        height, width = self.spec.shape[2:]
        self._resizer = Resizer(shape[:2] if grey else shape, (height, width), self.spec.resize)
        self._shape = shape

    def _take_planes(self, out: np.ndarray) -> None:
        if out.dtype != np.float32 or out.shape != self.spec.shape or not (
                out.flags.c_contiguous and out.flags.writeable):
            raise FrameError('the tensor buffer is %s %r, expected contiguous float32 %r' % (
                out.dtype, out.shape, self.spec.shape))
        self._out = out
        self._planes = tuple(out[0, channel] for channel in range(3))


def _table(scale: float, mean: float, std: float) -> np.ndarray:
    values = (np.arange(256, dtype=np.float64) * scale - mean) / std
    return np.ascontiguousarray(values.astype(np.float32).reshape(1, 256))
