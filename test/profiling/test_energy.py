# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Formula (1), by hand."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.profiling.energy import (
    awake_energy_j,
    modelled_cache_hit_ratio,
    radio_energy_j,
    work_energy_j,
    working_set_bytes,
)
from crowdhmt_ros.types import EnergyCoefficients, LayerCost

PICO = EnergyCoefficients(1e-12)


@pytest.mark.parametrize(('hits', 'expected'), [(1.0, 100 + 60), (0.0, 100 + 2000),
                                                (0.5, 100 + 30 + 1000)])
def test_ratios_of_the_paper_by_hand(hits, expected):
    assert work_energy_j(100, 10, PICO, cache_hit_ratio=hits) == pytest.approx(expected * 1e-12)


def test_a_graphics_processor_pays_for_shared_memory():
    on_cpu = work_energy_j(100, 10, PICO, cache_hit_ratio=1.0)
    on_gpu = work_energy_j(100, 10, PICO, cache_hit_ratio=1.0, on_gpu=True)
    assert on_gpu - on_cpu == pytest.approx(20e-12)


def test_awake_cores_cost_while_a_frame_is_computed():
    assert awake_energy_j(0.01, 2, EnergyCoefficients(1e-12, idle_w=3.0)) == pytest.approx(0.06)


def test_working_set_is_all_weights_and_the_widest_layer():
    layers = [LayerCost('a', 'Conv', 1, 10, 100, 20), LayerCost('b', 'Gemm', 1, 20, 50, 5)]
    assert working_set_bytes(layers) == 4 * (150 + 30)


def test_cache_hits_follow_the_working_set():
    assert modelled_cache_hit_ratio(100, 400.0) == 1.0
    assert modelled_cache_hit_ratio(400, 100.0) == 0.25
    assert modelled_cache_hit_ratio(100, None) == 0.5
    assert modelled_cache_hit_ratio(0, 100.0) == 1.0


COUNTS = st.integers(0, 10 ** 12)


@given(COUNTS, COUNTS, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_hits_never_cost_more(macs, words, a, b):
    low, high = sorted((a, b))
    assert work_energy_j(macs, words, PICO, cache_hit_ratio=high) <= work_energy_j(
        macs, words, PICO, cache_hit_ratio=low) * (1 + 1e-12)


def test_bytes_by_radio_cost_the_same_both_ways():
    assert radio_energy_j(1000.0, EnergyCoefficients(1e-12, joules_per_byte=2e-6)) == \
        pytest.approx(0.002)
    assert radio_energy_j(1000.0, PICO) == 0.0
