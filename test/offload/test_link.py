# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.offload.link import (
    BANDWIDTH_MAX_BYTES_PER_S,
    KEPT,
    MAX_AGE_S,
    PROBE_BYTES,
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


def test_a_link_on_which_payloads_take_no_time_has_a_finite_bandwidth():
    meter = LinkMeter()
    for size in (0, PROBE_BYTES, 0, PROBE_BYTES):
        meter.note(size, 0.001, 0.0)
    assert meter.bandwidth_bytes_per_s(0.0) == pytest.approx(BANDWIDTH_MAX_BYTES_PER_S)


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
