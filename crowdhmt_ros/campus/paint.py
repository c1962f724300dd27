# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Anti-aliased drawing in sub-pixel coordinates, seeded choices and cached noise tiles."""
from __future__ import annotations

import colorsys
import functools
import math
from typing import List, Optional, Sequence, Tuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Colour = Tuple[float, float, float]
Point = Tuple[float, float]
Choice = TypeVar('Choice')

_SHIFT = 4
_SCALE = 1 << _SHIFT
_FAR = 1 << 13
_TILE = 512


class Dice:
    """
    Seeded choices: the same seed gives the same sequence, whatever else ran before.

    One block of uniforms is drawn at once, since a numpy call per number costs microseconds.
    """

    def __init__(self, seed: int) -> None:
        """
        Start the sequence.

        :param seed: any non-negative integer.
        """
        self._units: List[float] = np.random.Generator(np.random.PCG64(seed)).random(256).tolist()
        self._next = 0

    def unit(self) -> float:
        """Next number in [0, 1)."""
        value = self._units[self._next % 256]
        self._next += 1
        return value

    def span(self, low: float, high: float) -> float:
        """Next number in [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """Whether the next draw falls under a probability."""
        return self.unit() < probability

    def pick(self, options: Sequence[Choice]) -> Choice:
        """One of the options."""
        return options[int(self.unit() * len(options))]

    def count(self, low: int, high: int) -> int:
        """Next integer in [low, high], both included."""
        return low + int(self.unit() * (high - low + 1))

    def colour(self, hue: Tuple[float, float] = (0.0, 1.0),
               saturation: Tuple[float, float] = (0.0, 1.0),
               value: Tuple[float, float] = (0.1, 0.95)) -> Colour:
        """
        Random colour from ranges of hue, saturation and value.

        :returns: blue, green, red in 0..255.
        """
        return hsv(self.span(*hue) % 1.0, self.span(*saturation), self.span(*value))


class Canvas:
    """
    A picture being painted, plus what shines on its own.

    `box` grows with everything painted since `track()`; lamps are kept apart, because they are
    added after the light of the day has darkened the picture.
    """

    def __init__(self, width: int, height: int) -> None:
        """
        Start with black.

        :param width: pixels.
        :param height: pixels.
        """
        self.width = width
        self.height = height
        self.image: Image = np.zeros((height, width, 3), np.uint8)
        self.lamps: List[Tuple[float, float, float, Colour]] = []
        self._box: Optional[List[float]] = None

    def track(self) -> None:
        """Begin to record the extent of what is painted."""
        self._box = [math.inf, math.inf, -math.inf, -math.inf]

    def tracked(self) -> Optional[Tuple[float, float, float, float]]:
        """End recording: (x0, y0, x1, y1) as ratios of the picture, None when nothing shows."""
        box, self._box = self._box, None
        if box is None or box[0] > box[2]:
            return None
        x0, x1 = (min(1.0, max(0.0, v / self.width)) for v in (box[0], box[2]))
        y0, y1 = (min(1.0, max(0.0, v / self.height)) for v in (box[1], box[3]))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon, concave ones too."""
        self._grow(points)
        cv2.fillPoly(self.image, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def convex(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex polygon, faster than `poly`."""
        self._grow(points)
        cv2.fillConvexPoly(self.image, _fixed(points), colour, cv2.LINE_AA, _SHIFT)

    def hull(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill the convex hull of points."""
        self._grow(points)
        hull = cv2.convexHull(_fixed(points))
        cv2.fillConvexPoly(self.image, hull, colour, cv2.LINE_AA, _SHIFT)

    def stroke(self, start: Point, end: Point, width: float, colour: Colour,
               end_width: Optional[float] = None) -> None:
        """Draw a straight, possibly tapered stroke of sub-pixel width."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length * 0.5, dx / length * 0.5
        last = width if end_width is None else end_width
        self.convex(((start[0] + nx * width, start[1] + ny * width),
                     (end[0] + nx * last, end[1] + ny * last),
                     (end[0] - nx * last, end[1] - ny * last),
                     (start[0] - nx * width, start[1] - ny * width)), colour)

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Colour, *,
                angle_deg: float = 0.0, ring: float = 0.0) -> None:
        """Fill an ellipse, or draw its outline `ring` pixels thick."""
        self._grow(((centre[0] - rx, centre[1] - ry), (centre[0] + rx, centre[1] + ry)))
        if max(abs(centre[0]), abs(centre[1]), rx, ry) > _FAR:
            return
        thickness = max(1, int(ring + 0.5)) if ring > 0.0 else -1
        cv2.ellipse(self.image, (int(centre[0] * _SCALE), int(centre[1] * _SCALE)),
                    (max(1, int(rx * _SCALE)), max(1, int(ry * _SCALE))), angle_deg, 0, 360,
                    colour, thickness, cv2.LINE_AA, _SHIFT)

    def shade(self, points: Sequence[Point], ratio: float) -> None:
        """Darken the hull of points by a ratio: a cast shadow."""
        if ratio <= 0.01:
            return
        hull: npt.NDArray[np.int32] = np.asarray(cv2.convexHull(_fixed(points)), np.int32)
        x, y, w, h = cv2.boundingRect(np.right_shift(hull, _SHIFT))
        x0, y0 = max(0, x - 1), max(0, y - 1)
        x1, y1 = min(self.width, x + w + 2), min(self.height, y + h + 2)
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
        level = 255.0 * ratio
        offset = np.array((x0 * _SCALE, y0 * _SCALE), np.int32)
        cv2.fillConvexPoly(mask, hull - offset, (level * 0.86, level, level), cv2.LINE_AA, _SHIFT)
        region = self.image[y0:y1, x0:x1]
        region[:] = cv2.multiply(region, cv2.bitwise_not(mask), scale=1.0 / 255.0)

    def lamp(self, centre: Point, radius: float, colour: Colour) -> None:
        """Remember something that shines, to be added after the light of the day."""
        self.lamps.append((centre[0], centre[1], radius, colour))

    def grain(self, top: int, bottom: int, dice: Dice, *, amplitude: float,
              size: Tuple[float, float] = (1.0, 1.0)) -> None:
        """Add soft noise to rows top..bottom; `size` stretches it (x, y)."""
        rows = min(self.height, bottom) - max(0, top)
        if rows < 2:
            return
        wide = max(2, min(_TILE, int(self.width / size[0])))
        tall = max(2, min(_TILE, int(rows / size[1])))
        x, y = dice.count(0, _TILE - wide), dice.count(0, _TILE - tall)
        patch = soft_tile()[y:y + tall, x:x + wide]
        if (tall, wide) != (rows, self.width):
            patch = np.asarray(cv2.resize(patch, (self.width, rows),
                                          interpolation=cv2.INTER_LINEAR), np.uint8)
        region = self.image[max(0, top):max(0, top) + rows]
        region[:] = cv2.addWeighted(region, 1.0, cv2.merge((patch, patch, patch)), amplitude,
                                    -128.0 * amplitude)

    def _grow(self, points: Sequence[Point]) -> None:
        box = self._box
        if box is None:
            return
        for x, y in points:
            box[0], box[1] = min(box[0], x), min(box[1], y)
            box[2], box[3] = max(box[2], x), max(box[3], y)


class Frame:
    """
    A local frame in metres, upright in the picture: x to the right, z up.

    :param origin: pixel of the point on the ground.
    :param scale: pixels per metre.
    :param squeeze: factor on x, negative mirrors.
    """

    def __init__(self, origin: Point, scale: float, squeeze: float = 1.0) -> None:
        """Keep the mapping."""
        self.x, self.y = origin
        self.scale = scale
        self.squeeze = squeeze

    def at(self, x: float, z: float) -> Point:
        """Pixel of one point given in metres."""
        return self.x + self.squeeze * self.scale * x, self.y - self.scale * z

    def all(self, points: Sequence[Point]) -> List[Point]:
        """Pixels of many points given in metres."""
        sx, s = self.squeeze * self.scale, self.scale
        return [(self.x + sx * x, self.y - s * z) for x, z in points]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Colour from hue, saturation, value in 0..1 to blue, green, red in 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255.0 * blue, 255.0 * green, 255.0 * red


def tone(colour: Colour, factor: float) -> Colour:
    """Same colour, lighter (> 1) or darker (< 1)."""
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor),
            min(255.0, colour[2] * factor))


def mix(first: Colour, second: Colour, ratio: float) -> Colour:
    """Blend two colours; ratio 0 is the first."""
    keep = 1.0 - ratio
    return (first[0] * keep + second[0] * ratio, first[1] * keep + second[1] * ratio,
            first[2] * keep + second[2] * ratio)


@functools.lru_cache(maxsize=1)
def soft_tile() -> Image:
    """Fixed tile (512, 512) of noise with four octaves, mean 128."""
    rng = np.random.Generator(np.random.PCG64(20260101))
    total = np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in ((512, 0.5), (256, 0.7), (96, 1.0), (24, 1.2)):
        octave = rng.standard_normal((cells, cells), np.float32)
        total += weight * cv2.resize(octave, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    total = (total - total.mean()) / total.std()
    return np.asarray(np.clip(128.0 + 36.0 * total, 0, 255), np.uint8)


@functools.lru_cache(maxsize=1)
def white_tile() -> npt.NDArray[np.float32]:
    """Fixed tile (512, 512, 3) of unit Gaussian noise."""
    rng = np.random.Generator(np.random.PCG64(20260102))
    return rng.standard_normal((_TILE, _TILE, 3), np.float32)


def _fixed(points: Sequence[Point]) -> npt.NDArray[np.int32]:
    array = np.asarray(points, np.float64)
    return np.clip(array * _SCALE, -_FAR * _SCALE, _FAR * _SCALE).astype(np.int32)
