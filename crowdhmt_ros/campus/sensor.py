# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From painted surfaces to a camera picture: light, lamps, motion blur, gain and noise."""
from __future__ import annotations

import functools
import math
from typing import Tuple

import cv2
import numpy as np
import numpy.typing as npt

from crowdhmt_ros.campus.light import Light
from crowdhmt_ros.campus.paint import Canvas, Image, white_tile


def expose(canvas: Canvas, light: Light, *, gain_ratio: float, warmth: float,
           haze_ratio: float) -> npt.NDArray[np.float32]:
    """
    Apply the light of the day, haze and lamps.

    :param canvas: surfaces painted as they look at noon.
    :param gain_ratio: deviation of the camera's automatic gain, about 1.
    :param warmth: deviation of the white balance, about 0; positive is redder.
    :param haze_ratio: how much the contrast is washed out, 0..1.
    :returns: (H, W, 3) float32 grey levels, not clipped.
    """
    gain = light.gain_ratio * gain_ratio
    contrast = light.contrast_ratio * (1.0 - haze_ratio)
    lift = 118.0 * (1.0 - contrast)
    blue, green, red = light.tint_bgr
    tint = (gain * blue * (1.0 - warmth), gain * green, gain * red * (1.0 + warmth))
    picture = _affine(canvas.image, contrast, lift, tint)
    if light.lamps_ratio > 0.0 and canvas.lamps:
        _add_lamps(picture, canvas, light.lamps_ratio)
    return picture


def _affine(image: Image, contrast: float, lift: float,
            tint: Tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Per channel (value * contrast + lift) * tint, by one table look-up."""
    levels = (np.arange(256, dtype=np.float32) * contrast + lift)[:, None]
    table = (levels * np.asarray(tint, np.float32)).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(image, table), np.float32)


def _add_lamps(picture: npt.NDArray[np.float32], canvas: Canvas, strength: float) -> None:
    for x, y, radius, colour in canvas.lamps:
        reach = math.ceil(2.2 * radius) + 1
        cx, cy = round(x), round(y)
        x0, x1 = max(0, cx - reach), min(canvas.width, cx + reach + 1)
        y0, y1 = max(0, cy - reach), min(canvas.height, cy + reach + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        glow = _glow(reach, max(1, int(radius * 2)))
        part = glow[y0 - cy + reach:y1 - cy + reach, x0 - cx + reach:x1 - cx + reach]
        picture[y0:y1, x0:x1] += part * np.asarray(colour, np.float32) * strength


@functools.lru_cache(maxsize=256)
def _glow(reach: int, diameter: int) -> npt.NDArray[np.float32]:
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    falloff = np.exp(-square / (2.0 * (diameter / 3.0) ** 2 + 0.5))
    return np.asarray(falloff[:, :, None], np.float32)


def record(picture: npt.NDArray[np.float32], light: Light, *, noise_seed: int,
           noise_ratio: float, blur_px: float, blur_angle_rad: float) -> Image:
    """
    Blur by motion, add shot and read noise, round to 8 bits.

    :param picture: (H, W, 3) from `expose`; is changed.
    :param noise_seed: picks the noise of this frame.
    :param noise_ratio: factor on the standard deviation for this camera.
    :param blur_px: length of the motion blur in pixels.
    :returns: (H, W, 3) uint8, blue-green-red.
    """
    if blur_px >= 0.4:
        cv2.filter2D(picture, -1, _blur_kernel(round(blur_px * 2) / 2,
                                               round(blur_angle_rad * 8 / math.pi)),
                     dst=picture, borderType=cv2.BORDER_REPLICATE)
    height, width = picture.shape[:2]
    noise = _noise_patch(noise_seed, height, width)
    deviation = np.maximum(picture, 0.0)
    deviation *= light.shot_noise
    deviation += light.read_noise ** 2
    cv2.sqrt(deviation, deviation)
    cv2.multiply(deviation, noise, deviation, noise_ratio)
    cv2.add(picture, deviation, picture)
    return np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0.0)), np.uint8)


def _noise_patch(seed: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Part of the fixed noise tile at a seeded place, flipped at random."""
    tile = white_tile()
    mixed = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 29
    if height > tile.shape[0] or width > tile.shape[1]:
        rng = np.random.Generator(np.random.PCG64(seed))
        return rng.standard_normal((height, width, 3), np.float32)
    y = (mixed >> 8) % (tile.shape[0] - height + 1)
    x = (mixed >> 24) % (tile.shape[1] - width + 1)
    patch = tile[y:y + height, x:x + width]
    if mixed & 1:
        patch = patch[::-1]
    return np.ascontiguousarray(patch[:, ::-1] if mixed & 2 else patch)


@functools.lru_cache(maxsize=256)
def _blur_kernel(length: float, sixteenth: int) -> npt.NDArray[np.float32]:
    size = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((size, size), np.float32)
    angle = sixteenth * math.pi / 8
    middle = size // 2
    for step in np.linspace(-length / 2, length / 2, 9):
        x, y = middle + step * math.cos(angle), middle + step * math.sin(angle)
        kernel[min(size - 1, max(0, round(y))), min(size - 1, max(0, round(x)))] += 1
    return np.asarray(kernel / kernel.sum(), np.float32)
