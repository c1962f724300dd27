# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.offload.link import (
    KEPT,
    MAX_AGE_S,
    PROBE_BYTES,
    RESOLUTION_RATIO,
    LinkMeter,
)


def feed(meter, count, *, round_trip_s=0.02, bandwidth=250e3, sizes=(0, PROBE_BYTES),
         start_s=0.0, gap_s=0.05):
    """Give it samples of an ideal link; returns the time after the last one."""
    now_s = start_s
    for number in range(count):
        size = sizes[number % len(sizes)]
        meter.note(size, round_trip_s + size / bandwidth, now_s)
        now_s += gap_s
    return now_s


def test_a_link_without_samples_is_unknown():
    meter = LinkMeter()
    assert meter.round_trip_s(0.0) is None
    assert meter.bandwidth_bytes_per_s(0.0) is None


def test_two_pings_tell_round_trip_and_bandwidth():
    meter = LinkMeter()
    now_s = feed(meter, 2)
    assert meter.round_trip_s(now_s) == pytest.approx(0.02)
    assert meter.bandwidth_bytes_per_s(now_s) == pytest.approx(250e3)


def test_a_ping_without_payload_says_nothing_of_bandwidth():
    meter = LinkMeter()
    now_s = feed(meter, 3, sizes=(0,))
    assert meter.round_trip_s(now_s) == pytest.approx(0.02)
    assert meter.bandwidth_bytes_per_s(now_s) is None


def test_lost_packets_do_not_count_as_the_link():
    meter = LinkMeter()
    now_s = feed(meter, 20)
    for size in (0, PROBE_BYTES, 0, PROBE_BYTES):
        meter.note(size, 0.4, now_s)
    assert meter.round_trip_s(now_s) == pytest.approx(0.02)
    assert meter.bandwidth_bytes_per_s(now_s) == pytest.approx(250e3)


def test_what_a_narrower_link_costs_is_seen_from_real_transfers_alone():
    meter = LinkMeter()
    now_s = feed(meter, 6, bandwidth=100e6)
    now_s = feed(meter, KEPT, bandwidth=250e3, sizes=(10000,), start_s=now_s)
    told = meter.round_trip_s(now_s) + 10000 / meter.bandwidth_bytes_per_s(now_s)
    assert told == pytest.approx(0.02 + 10000 / 250e3, rel=0.05)


def test_a_quicker_transfer_lowers_a_round_trip_that_was_measured_on_a_worse_link():
    meter = LinkMeter()
    now_s = feed(meter, 6, round_trip_s=0.05)
    feed(meter, 6, round_trip_s=0.002, bandwidth=100e6, sizes=(10000,), start_s=now_s)
    assert meter.round_trip_s(now_s) < 0.003


def predicted_s(meter, payload_bytes, now_s):
    """What the planner expects of a transfer."""
    return meter.round_trip_s(now_s) + payload_bytes / meter.bandwidth_bytes_per_s(now_s)


def test_payloads_that_take_no_time_tell_the_least_bandwidth_that_fits():
    meter = LinkMeter()
    for size in (0, PROBE_BYTES, 0, PROBE_BYTES):
        meter.note(size, 0.001, 0.0)
    assert predicted_s(meter, PROBE_BYTES, 0.0) == pytest.approx(0.001 * (1 + RESOLUTION_RATIO))


def test_payloads_quicker_than_pings_do_not_tell_an_endless_bandwidth():
    meter = LinkMeter()
    for size, link_s in ((0, 0.003), (PROBE_BYTES, 0.001)):
        meter.note(size, link_s, 0.0)
    assert 0.001 < predicted_s(meter, PROBE_BYTES, 0.0) <= 0.0031


def test_small_calls_that_wait_for_a_processor_do_not_narrow_the_link():
    meter = LinkMeter()
    now_s = feed(meter, 10, round_trip_s=0.001, bandwidth=20e6)
    idle_s = predicted_s(meter, 10000, now_s)
    for _ in range(400):
        now_s += 0.05
        meter.note(2300, 0.0056, now_s)
    assert predicted_s(meter, 2300, now_s) == pytest.approx(0.0056, rel=RESOLUTION_RATIO)
    assert meter.bandwidth_bytes_per_s(now_s) > 5e6
    assert predicted_s(meter, 10000, now_s) < 0.0056 + 2 * idle_s


def test_small_calls_beside_pings_leave_the_bandwidth_of_the_pings():
    meter = LinkMeter()
    now_s = feed(meter, 10, round_trip_s=0.02, bandwidth=250e3)
    for _ in range(20):
        meter.note(2300, 0.02 + 2300 / 250e3 + 0.002, now_s)
    assert meter.bandwidth_bytes_per_s(now_s) == pytest.approx(250e3, rel=0.15)


def test_large_payloads_alone_tell_a_narrower_link():
    meter = LinkMeter()
    now_s = feed(meter, 6, bandwidth=100e6)
    now_s = feed(meter, KEPT, bandwidth=250e3, sizes=(200000,), start_s=now_s)
    assert meter.bandwidth_bytes_per_s(now_s) == pytest.approx(250e3, rel=0.05)


ROUND_TRIPS_S = st.floats(1e-4, 0.5)
BANDWIDTHS = st.floats(1e4, 1e9)
SAMPLES = st.lists(
    st.tuples(st.integers(0, 2_000_000), st.floats(1e-6, 10.0), st.floats(0.0, 0.5)),
    min_size=1, max_size=80)


@given(ROUND_TRIPS_S, BANDWIDTHS,
       st.lists(st.integers(0, 1_000_000), min_size=1, max_size=40))
def test_an_ideal_link_is_told_as_it_is_within_the_resolution(round_trip_s, bandwidth, sizes):
    meter = LinkMeter()
    now_s = feed(meter, len(sizes) + 2, round_trip_s=round_trip_s, bandwidth=bandwidth,
                 sizes=(0, PROBE_BYTES, *sizes), gap_s=0.01)
    for size in (0, PROBE_BYTES, max(sizes)):
        told_s, true_s = predicted_s(meter, size, now_s), round_trip_s + size / bandwidth
        assert 0.999 * true_s <= told_s <= (1.001 + 2 * RESOLUTION_RATIO) * true_s


@given(SAMPLES)
def test_whatever_comes_the_figures_are_positive_and_no_transfer_seems_free(samples):
    meter, now_s = LinkMeter(), 0.0
    for payload_bytes, link_s, gap_s in samples:
        now_s += gap_s
        meter.note(payload_bytes, link_s, now_s)
    round_trip_s, bandwidth = meter.round_trip_s(now_s), meter.bandwidth_bytes_per_s(now_s)
    assert 0.0 < round_trip_s <= 10.0
    if bandwidth is not None:
        largest = max(PROBE_BYTES, max(size for size, _, _ in samples))
        assert 0.0 < bandwidth <= largest / (RESOLUTION_RATIO * round_trip_s) * 1.001


@given(st.integers(1, 8000), st.lists(st.floats(0.001, 0.05), min_size=KEPT, max_size=KEPT))
def test_small_payloads_of_one_size_are_told_at_what_they_took(size, seconds):
    meter = LinkMeter()
    now_s = feed(meter, 4, round_trip_s=0.002, bandwidth=10e6)
    for link_s in seconds:
        now_s += 0.05
        meter.note(size, link_s, now_s)
    told_s = predicted_s(meter, size, now_s)
    assert 0.99 * min(seconds) <= told_s <= (1 + RESOLUTION_RATIO) * max(seconds)


@given(st.lists(st.floats(0.9, 1.1), min_size=80, max_size=80), st.integers(200, 8000))
def test_jitter_moves_what_is_predicted_no_more_than_it_moves_the_samples(jitter, size):
    """From idle to frames and back the forecast of another payload stays near."""
    meter, now_s, told_s = LinkMeter(), 0.0, []
    for number, factor in enumerate(jitter):
        now_s += 0.05
        payload = (0, PROBE_BYTES)[number % 2] if number % 40 < 12 else size
        meter.note(payload, factor * (0.004 + payload / 10e6), now_s)
        if number > 2:
            told_s.append(predicted_s(meter, 10000, now_s))
    assert min(told_s) > 0.7 * 0.005
    assert max(told_s) < 1.4 * 0.005


def test_what_was_known_ages_out():
    meter = LinkMeter()
    now_s = feed(meter, 6)
    assert meter.round_trip_s(now_s + 0.9 * MAX_AGE_S) is not None
    assert meter.round_trip_s(now_s + 1.1 * MAX_AGE_S) is None
    assert meter.bandwidth_bytes_per_s(now_s + 1.1 * MAX_AGE_S) is None


def test_while_frames_flow_the_round_trip_of_the_last_pings_stays():
    meter = LinkMeter()
    now_s = feed(meter, 6)
    now_s = feed(meter, 400, sizes=(10000,), start_s=now_s)
    assert now_s > 2 * MAX_AGE_S
    assert meter.round_trip_s(now_s) == pytest.approx(0.02)
    assert meter.bandwidth_bytes_per_s(now_s) == pytest.approx(250e3)


def test_a_link_that_was_away_is_unknown_again():
    meter = LinkMeter()
    now_s = feed(meter, 6)
    meter.forget()
    assert meter.round_trip_s(now_s) is None


@pytest.mark.parametrize('link_s', [0.0, -0.1, float('nan'), float('inf')])
def test_seconds_that_cannot_be_are_left_out(link_s):
    meter = LinkMeter()
    meter.note(0, link_s, 0.0)
    meter.note(1000, link_s, 0.0)
    assert meter.round_trip_s(0.0) is None
