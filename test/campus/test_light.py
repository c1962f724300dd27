# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The day of light runs one way."""
from __future__ import annotations

import numpy as np
import pytest

from crowdhmt_ros.campus.light import LIGHT_BANDS, band_of, band_range, light_at, light_ratio_at


def test_the_day_is_monotone() -> None:
    day = [light_at(ratio) for ratio in np.linspace(0.0, 1.0, 101)]
    for index in range(1, len(day)):
        before, after = day[index - 1], day[index]
        assert after.sun_elevation_deg < before.sun_elevation_deg
        assert after.gain_ratio < before.gain_ratio
        assert after.contrast_ratio <= before.contrast_ratio
        assert after.shadow_length_ratio >= before.shadow_length_ratio
        assert after.read_noise > before.read_noise
        assert after.shot_noise > before.shot_noise
        assert after.lamps_ratio >= before.lamps_ratio


def test_afternoon_is_warm_and_dusk_is_blue() -> None:
    blue, _, red = light_at(0.65).tint_bgr
    assert red > blue
    blue, _, red = light_at(1.0).tint_bgr
    assert blue > red


@pytest.mark.parametrize('band', LIGHT_BANDS)
def test_bands_and_ratios_agree(band: str) -> None:
    low, high = band_range(band)
    assert band_of(low) == band
    assert band_of((low + high) / 2) == band


def test_bands_cover_the_day() -> None:
    edges = [band_range(band) for band in LIGHT_BANDS]
    assert edges[0][0] == 0.0
    assert edges[-1][1] == 1.0
    assert [low for low, _ in edges[1:]] == [high for _, high in edges[:-1]]
    assert band_of(1.0) == 'dusk'


def test_light_is_clamped_outside_the_day() -> None:
    assert light_at(-3.0) == light_at(0.0)
    assert light_at(7.0) == light_at(1.0)


def test_keyframes_are_joined_by_straight_lines() -> None:
    keys = ((0.0, 0.2), (0.5, 0.4), (1.0, 1.0))
    assert light_ratio_at(0.25, keys) == pytest.approx(0.3)
    assert light_ratio_at(0.75, keys) == pytest.approx(0.7)
    assert light_ratio_at(9.0, keys) == 1.0
