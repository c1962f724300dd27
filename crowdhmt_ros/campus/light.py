# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Day of light: one number from noon to nightfall and what it does to the picture.

`light_ratio` is 0 at solar noon and 1 when the sun is 6 degrees under the horizon (end of civil
dusk). Everything else follows from it by monotone curves, so that a scenario needs to state only
keyframes of this one number. The curves are hand-made, not photometric measurements.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence, Tuple

import numpy as np

LIGHT_BANDS = ('noon', 'afternoon', 'dusk')
BAND_EDGES = (0.0, 0.35, 0.70, 1.0)

_KNOTS = (0.0, 0.35, 0.70, 0.85, 1.0)
_ELEVATION_DEG = (62.0, 40.0, 14.0, 3.0, -6.0)
_GAIN = (1.10, 1.02, 0.88, 0.66, 0.48)
_CONTRAST = (1.0, 0.98, 0.93, 0.83, 0.72)
_SHADOW = (0.48, 0.46, 0.42, 0.16, 0.0)
_READ_NOISE = (1.5, 2.0, 3.0, 5.0, 7.5)
_SHOT_NOISE = (0.05, 0.08, 0.14, 0.30, 0.50)
# Colour of the light, blue-green-red: neutral, warm, orange, then blue.
_TINT_B = (1.00, 0.95, 0.84, 0.98, 1.18)
_TINT_G = (1.00, 0.98, 0.94, 0.93, 0.96)
_TINT_R = (1.00, 1.03, 1.10, 0.98, 0.83)


@dataclass(frozen=True)
class Light:
    """
    What the sun does at one moment.

    :param light_ratio: 0 noon .. 1 nightfall.
    :param sun_elevation_deg: degrees above the horizon, negative after sunset.
    :param gain_ratio: brightness of the picture relative to how surfaces are painted.
    :param contrast_ratio: contrast relative to noon, 0..1.
    :param shadow_ratio: how much of the light a cast shadow takes away, 0..1.
    :param tint_bgr: factor per channel.
    :param read_noise: standard deviation in grey levels at black.
    :param shot_noise: variance added per grey level of signal.
    """

    light_ratio: float
    sun_elevation_deg: float
    gain_ratio: float
    contrast_ratio: float
    shadow_ratio: float
    tint_bgr: Tuple[float, float, float]
    read_noise: float
    shot_noise: float

    @property
    def band(self) -> str:
        """Name of the band this moment lies in, one of LIGHT_BANDS."""
        return band_of(self.light_ratio)

    @property
    def lamps_ratio(self) -> float:
        """How bright lamps and lit windows stand out: 0 by day, 1 at nightfall."""
        return min(1.0, max(0.0, (self.light_ratio - 0.68) / 0.22))

    @property
    def shadow_length_ratio(self) -> float:
        """Length of a cast shadow over the height of what casts it, at most 4."""
        if self.sun_elevation_deg <= 0.0:
            return 4.0
        return min(4.0, 1.0 / math.tan(math.radians(self.sun_elevation_deg)))


def band_of(light_ratio: float) -> str:
    """
    Name the band of a light ratio.

    :param light_ratio: 0 noon .. 1 nightfall.
    :returns: one of LIGHT_BANDS.
    """
    if light_ratio < BAND_EDGES[1]:
        return LIGHT_BANDS[0]
    return LIGHT_BANDS[1] if light_ratio < BAND_EDGES[2] else LIGHT_BANDS[2]


def band_range(light_band: str) -> Tuple[float, float]:
    """
    Lowest and highest light ratio of a band.

    :param light_band: one of LIGHT_BANDS.
    :returns: (low, high) of the half-open range [low, high).
    :raises ValueError: unknown band.
    """
    if light_band not in LIGHT_BANDS:
        raise ValueError(f'unknown light band {light_band!r}: use one of {LIGHT_BANDS}')
    index = LIGHT_BANDS.index(light_band)
    return BAND_EDGES[index], BAND_EDGES[index + 1]


def light_at(light_ratio: float) -> Light:
    """
    Light at one moment of the day.

    :param light_ratio: 0 noon .. 1 nightfall; values outside are clamped.
    """
    ratio = min(1.0, max(0.0, float(light_ratio)))
    return Light(
        light_ratio=ratio,
        sun_elevation_deg=_curve(ratio, _ELEVATION_DEG),
        gain_ratio=_curve(ratio, _GAIN),
        contrast_ratio=_curve(ratio, _CONTRAST),
        shadow_ratio=_curve(ratio, _SHADOW),
        tint_bgr=(_curve(ratio, _TINT_B), _curve(ratio, _TINT_G), _curve(ratio, _TINT_R)),
        read_noise=_curve(ratio, _READ_NOISE),
        shot_noise=_curve(ratio, _SHOT_NOISE))


def light_ratio_at(fraction: float, keyframes: Sequence[Tuple[float, float]]) -> float:
    """
    Light ratio at a fraction of a scenario, straight lines between keyframes.

    :param fraction: 0..1 of the scenario's duration.
    :param keyframes: (fraction, light_ratio), fractions rising; held flat outside.
    """
    return float(np.interp(fraction, [at for at, _ in keyframes], [to for _, to in keyframes]))


def _curve(ratio: float, values: Sequence[float]) -> float:
    return float(np.interp(ratio, _KNOTS, values))
