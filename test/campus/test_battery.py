# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Battery arithmetic by hand."""
from __future__ import annotations

import math

import pytest

from crowdhmt_ros.campus.battery import Battery, compression_for


def test_drain_takes_base_load_and_inference() -> None:
    battery = Battery(capacity_j=1000.0, ratio=0.9).drain(5.0, 20.0, 10.0)
    assert battery.energy_j == pytest.approx(900.0 - 50.0 - 20.0)


def test_compression_multiplies_what_is_drained() -> None:
    battery = Battery(1000.0, 0.9, time_compression_ratio=4.0).drain(5.0, 20.0, 10.0)
    assert battery.energy_j == pytest.approx(900.0 - 4.0 * 70.0)


def test_saving_inference_energy_saves_charge() -> None:
    full = Battery(1000.0, 0.9)
    assert full.drain(5.0, 10.0, 10.0).ratio > full.drain(5.0, 100.0, 10.0).ratio


def test_many_small_steps_equal_one_large_step() -> None:
    battery = Battery(1000.0, 0.9, 2.0)
    for _ in range(100):
        battery = battery.drain(3.0, 0.1, 0.1)
    assert battery.ratio == pytest.approx(Battery(1000.0, 0.9, 2.0).drain(3.0, 10.0, 10.0).ratio)


def test_it_stops_at_empty() -> None:
    assert Battery(10.0, 0.1).drain(1e6, 0.0, 1.0).ratio == 0.0


@pytest.mark.parametrize(('capacity_j', 'ratio', 'compression'), [
    (0.0, 0.5, 1.0), (math.nan, 0.5, 1.0), (10.0, 1.2, 1.0), (10.0, math.nan, 1.0),
    (10.0, 0.5, 0.0)])
def test_impossible_batteries_are_refused(capacity_j: float, ratio: float,
                                          compression: float) -> None:
    with pytest.raises(ValueError, match='must be'):
        Battery(capacity_j, ratio, compression)


@pytest.mark.parametrize('amounts', [(-1.0, 0.0, 1.0), (1.0, math.nan, 1.0), (1.0, 0.0, -1.0)])
def test_negative_or_unknown_amounts_are_refused(amounts: tuple) -> None:
    with pytest.raises(ValueError, match='0 or more'):
        Battery(10.0, 0.5).drain(*amounts)


def test_compression_for_hits_the_wanted_end() -> None:
    factor = compression_for(capacity_j=5e4, start_ratio=0.9, end_ratio=0.21, base_w=6.0,
                             inference_j=90.0, duration_s=60.0)
    assert Battery(5e4, 0.9, factor).drain(6.0, 90.0, 60.0).ratio == pytest.approx(0.21)


def test_compression_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match='drains'):
        compression_for(capacity_j=5e4, start_ratio=0.2, end_ratio=0.9, base_w=6.0,
                        inference_j=0.0, duration_s=60.0)
