# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a candidate is expected to do now."""
from __future__ import annotations

import dataclasses
import math

import pytest

from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.profiling.accuracy import accuracy_now, mean_accuracy
from crowdhmt_ros.profiling.corrections import AWAY_SPREAD
from crowdhmt_ros.profiling.cost_model import estimate, estimate_all
from crowdhmt_ros.profiling.latency import slowdown, spread, summarise
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    Away,
    CostCorrection,
    EnergyCoefficients,
    LoopState,
    Reading,
    ResourceSnapshot,
)
from crowdhmt_ros.types.fleet import DISPATCH_S

ACCURACY = {'scenes/noon': 0.9, 'scenes/dusk': 0.6, 'photos': 0.8}


def look(**values):
    return ResourceSnapshot(0.0, **{k: Reading(v) for k, v in values.items()})


def test_the_condition_picks_the_accuracy():
    assert accuracy_now(ACCURACY, 'scenes/dusk').mean == 0.6
    assert accuracy_now(ACCURACY, 'scenes/dusk').source == MEASURED


@pytest.mark.parametrize('condition', ['', 'scenes/night'])
def test_photos_stand_for_an_unknown_condition(condition):
    assert accuracy_now(ACCURACY, condition).mean == 0.8
    assert accuracy_now(ACCURACY, condition).source == ESTIMATED


def test_without_photos_the_mean_over_conditions_stands():
    found = accuracy_now({'scenes/noon': 0.9, 'scenes/dusk': 0.6}, 'photos')
    assert (found.mean, found.source) == (pytest.approx(0.75), ESTIMATED)
    with pytest.raises(ConfigError, match='no accuracy'):
        mean_accuracy({})


def test_an_accuracy_that_nobody_counted_is_no_number():
    found = accuracy_now({}, 'photos')
    assert math.isnan(found.mean)
    assert found.source == ESTIMATED


def test_memory_and_latency_come_from_the_table_on_an_idle_machine(entry):
    made = entry(latency_s=0.010, p95_s=0.012)
    found = estimate(made, LoopState(), look())
    assert found.latency_s.mean == 0.010
    assert found.latency_s.p95 == pytest.approx(0.012)
    assert found.latency_s.source == ESTIMATED
    assert found.memory_bytes == made.memory_bytes


def test_preprocessing_of_this_camera_is_added_and_not_scaled(entry):
    made = dataclasses.replace(entry(latency_s=0.010, p95_s=0.010), preprocess_s=0.002)
    ratio = (CostCorrection(made.candidate.candidate_id, 2.0, 1.5, 50),)
    found = estimate(made, LoopState(corrections=ratio, preprocess_s=0.005), look())
    assert found.latency_s.mean == pytest.approx(0.025)
    assert found.latency_s.p95 == pytest.approx(0.0375)


def test_until_the_camera_was_timed_the_usual_preprocessing_counts_slowed_as_the_rest(entry):
    made = dataclasses.replace(entry(latency_s=0.010, p95_s=0.010), preprocess_s=0.002)
    assert estimate(made, LoopState(), look()).latency_s.mean == pytest.approx(0.012)
    busy = estimate(made, LoopState(), look(cpu_others_ratio=0.9))
    assert busy.latency_s.mean == pytest.approx(0.024)


def test_a_big_camera_slows_every_candidate_by_the_same_time(entry):
    quick, slow = entry('a', latency_s=0.001), entry('b', latency_s=0.020)
    small, big = (LoopState(preprocess_s=s) for s in (0.001, 0.009))
    for made in (quick, slow):
        assert estimate(made, big, look()).latency_s.mean - estimate(
            made, small, look()).latency_s.mean == pytest.approx(0.008)


def test_one_core_is_awake_for_preprocessing_whatever_the_threads(entry):
    made = entry(threads=2, energy_j=0.0, latency_s=0.010,
                 coefficients=EnergyCoefficients(1e-9, idle_w=2.0))
    found = estimate(made, LoopState(preprocess_s=0.003), look())
    assert found.energy_j.mean == pytest.approx(2.0 * (2 * 0.010 + 0.003))


def test_a_correction_scales_the_table(entry):
    made = entry()
    state = LoopState(corrections=(
        CostCorrection(made.candidate.candidate_id, 1.5, 2.0, 50),))
    found = estimate(made, state, look(cpu_others_ratio=1.0))
    assert found.latency_s.mean == pytest.approx(0.015)
    assert found.latency_s.p95 == pytest.approx(0.030)
    assert found.latency_s.source == MEASURED


def test_what_never_ran_is_as_slow_as_what_did(entry):
    state = LoopState(corrections=(CostCorrection('another', 3.0, 1.0, 50),))
    assert estimate(entry(), state, look()).latency_s.mean == pytest.approx(0.030)


@pytest.mark.parametrize(('readings', 'factor'), [
    ({}, 1.0),
    ({'cpu_others_ratio': 0.2}, 1.25),
    ({'cpu_others_ratio': 0.9}, 2.0),
    ({'cpu_frequency_ratio': 0.5, 'cpu_load_ratio': 0.9}, 2.0),
    ({'cpu_frequency_ratio': 0.5, 'cpu_load_ratio': 0.1}, 1.0),
    ({'cpu_frequency_ratio': 0.5}, 1.0),
])
def test_before_any_feedback_the_processor_share_counts(readings, factor):
    assert slowdown(look(**readings)) == pytest.approx(factor)


def test_energy_counts_work_and_awake_cores(entry):
    made = entry(threads=2, energy_j=0.001, latency_s=0.010,
                 coefficients=EnergyCoefficients(1e-9, idle_w=2.0))
    found = estimate(made, LoopState(), look())
    assert found.energy_j.mean == pytest.approx(0.001 + 2.0 * 2 * 0.010)
    assert found.energy_j.source == ESTIMATED


def test_a_measured_cache_hit_ratio_replaces_the_model(entry):
    made = entry(macs=1000, words=100, energy_j=7.0, coefficients=EnergyCoefficients(1e-9))
    found = estimate(made, LoopState(), look(cache_hit_ratio=0.5))
    assert found.energy_j.mean == pytest.approx(1e-9 * (1000 + 100 * 103.0))


def test_energy_without_coefficients_is_the_tables(entry):
    assert estimate(entry(energy_j=0.5), LoopState(), look()).energy_j.mean == 0.5


def test_the_whole_front_is_estimated_in_its_order(entry):
    front = tuple(entry(name) for name in 'cab')
    assert [e.candidate.variant_id for e in estimate_all(front, LoopState(), look())] == [
        'c', 'a', 'b']


def test_centre_is_the_median_and_spread_is_bounded():
    found = summarise([0.010] * 9 + [1.0])
    assert found.mean == 0.010
    assert found.p95 > 0.010
    assert spread(0.010, 1.0) == 4.0
    assert spread(0.010, 0.005) == 1.0
    assert spread(0.010, float('nan')) == 1.0


AWAY = Away('drone', 10**7, 1e10, 6000.0, 2000.0, 0.001, 1e6, 0.002)


@pytest.fixture
def helped(entry):
    """Return a candidate whose head takes 10 ms, all else 1 + 10 + 1.5 ms, fallback 0.5."""
    coefficients = EnergyCoefficients(1e-12, idle_w=2.0, joules_per_byte=1e-6)
    return dataclasses.replace(
        entry(accuracy={'photos': 0.9}, latency_s=0.010, p95_s=0.012, energy_j=0.001,
              coefficients=coefficients),
        away=AWAY, fallback_id='lean', fallback_accuracy={'photos': 0.5})


def test_latency_with_a_peer_is_head_packing_link_and_the_peers_time(helped):
    found = estimate(helped, LoopState(), look())
    away_s = 0.001 + 0.002 + 0.008 + DISPATCH_S + 0.001
    assert found.latency_s.mean == pytest.approx(0.010 + away_s)
    assert found.latency_s.p95 == pytest.approx(0.012 + AWAY_SPREAD * away_s)
    assert (found.fallback_id, found.away) == ('lean', AWAY)


def test_what_was_learned_of_a_peer_and_of_the_head_are_apart(helped):
    rows = (CostCorrection(helped.candidate.candidate_id, 2.0, 1.0, 50),
            CostCorrection('peer:drone', 3.0, 1.2, 50))
    found = estimate(helped, LoopState(corrections=rows), look())
    away_s = 0.001 + 0.002 + 0.008 + 3.0 * (DISPATCH_S + 0.001)
    assert found.latency_s.mean == pytest.approx(0.020 + away_s)
    assert found.latency_s.p95 == pytest.approx(0.020 + 1.2 * away_s)
    other = dataclasses.replace(helped, away=dataclasses.replace(AWAY, robot_id='mast'))
    assert estimate(other, LoopState(corrections=rows), look()).latency_s.mean < \
        found.latency_s.mean


def test_what_a_peer_learns_does_not_slow_candidates_down_that_stay_here(entry):
    rows = (CostCorrection('peer:drone', 9.0, 1.2, 500),)
    assert estimate(entry(), LoopState(corrections=rows), look()).latency_s.mean == 0.010


def test_the_share_of_degraded_answers_blends_the_accuracies(helped, entry):
    state = LoopState(condition='photos', degraded_ratio=0.25)
    assert estimate(helped, state, look()).accuracy.mean == pytest.approx(0.8)
    assert estimate(helped, LoopState(condition='photos'), look()).accuracy.mean == 0.9
    assert estimate(entry(), state, look()).accuracy.mean == 0.8


def test_energy_with_a_peer_is_that_of_the_head_the_packing_and_the_bytes(helped):
    joules = estimate(helped, LoopState(), look()).energy_j.mean
    assert joules == pytest.approx(0.001 + 2.0 * (0.010 + 0.001) + 8000.0 * 1e-6)
