# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

pytest.importorskip('zmq')
from benchmarks import timing
from benchmarks._pair_overhead import SIZES, figures_of


def parts(seconds, *, processes=timing.PROCESSES, calls=60):
    names = [str(size) for _, size, _ in SIZES]
    rows = {name: [seconds] * calls for name in names}
    return [{'overhead_s': rows, 'link_s': rows, 'paused_s': rows} for _ in range(processes)]


def test_the_overhead_holds_below_its_bound_only_over_enough_calls_and_processes():
    holds = {f.key: f.holds for f in figures_of(parts(0.0015)) if f.target is not None}
    assert holds == {'offload_overhead_ms': True, 'offload_overhead_1mb_ms': True}
    slow = {f.key: f.holds for f in figures_of(parts(0.005)) if f.target is not None}
    assert slow == {'offload_overhead_ms': False, 'offload_overhead_1mb_ms': True}
    for few in (parts(0.0015, processes=4), parts(0.0015, calls=10)):
        assert not any(f.holds for f in figures_of(few) if f.target is not None)


def test_one_process_measures_a_real_server_in_another():
    pytest.importorskip('rclpy')
    found = timing.in_fresh_process('benchmarks._pair_caller', {
        'calls': 3, 'paused_calls': 1, 'sizes': [10_000, 1_000_000]}, timeout_s=120.0)
    for size in ('10000', '1000000'):
        assert len(found['overhead_s'][size]) == 3
        assert all(0.0 < seconds < 5.0 for seconds in found['overhead_s'][size])
        assert len(found['paused_s'][size]) == 1
