# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The world as a camera: paced, stamped, with its truth, and ending cleanly."""
from __future__ import annotations

import itertools
import math
import threading
import time
from typing import List

import numpy as np
import pytest

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.campus.source import CampusSource
from crowdhmt_ros.campus.world import World
from crowdhmt_ros.errors import SourceError

SCENARIO = load_scenario('campus_minute').compressed(0.5)


def _world() -> World:
    return World(SCENARIO, 'vehicle', 1)


class SlowClock:
    """Advances by a fixed step each time it is read."""

    def __init__(self, step_s: float) -> None:
        self.now_ns = 0
        self._step_ns = int(step_s * 1e9)

    def __call__(self) -> int:
        self.now_ns += self._step_ns
        return self.now_ns


def test_unpaced_source_gives_each_frame_time_once_and_ends() -> None:
    source = CampusSource(_world(), clock=time.monotonic_ns, rate_hz=math.inf)
    source.open()
    frames = list(iter(source.read, None))
    assert len(frames) == 5
    image, truth = _world().frame_at(0.3)
    np.testing.assert_array_equal(frames[3].image, image)
    assert frames[3].truth is not None
    assert (frames[3].truth.label, frames[3].truth.box) == (truth.label, truth.box)
    assert frames[3].domain == 'scenes'
    assert source.read() is None


def test_stamps_lie_on_the_frame_times_of_the_given_start() -> None:
    start_ns = time.monotonic_ns()
    source = CampusSource(_world(), clock=time.monotonic_ns, start_ns=start_ns, rate_hz=50.0)
    source.open()
    frames = list(iter(source.read, None))
    offsets = [frame.stamp_ns - start_ns for frame in frames]
    assert all(offset % 20_000_000 == 0 for offset in offsets)
    assert offsets == sorted(set(offsets))
    assert len(frames) + source.skipped_frames == 25
    assert all(frame.stamp_ns <= time.monotonic_ns() for frame in frames)


def test_frame_times_after_the_last_one_are_not_counted_as_skipped() -> None:
    now_ns = [0]
    source = CampusSource(_world(), clock=lambda: now_ns[0], rate_hz=50.0)
    source.open()
    assert source.read() is not None
    now_ns[0] = 10**12
    assert source.read() is None
    assert source.skipped_frames == 24


def test_frame_times_that_nobody_read_are_left_out_and_counted() -> None:
    now_ns = [0]
    source = CampusSource(_world(), clock=lambda: now_ns[0], rate_hz=10.0)
    source.open()
    assert source.read() is not None
    now_ns[0] = 350_000_000
    frame = source.read()
    assert frame is not None
    assert frame.stamp_ns == 300_000_000
    assert source.skipped_frames == 2


def test_a_clock_that_is_set_back_does_not_stop_the_film() -> None:
    now_ns = [10 ** 12]
    source = CampusSource(_world(), clock=lambda: now_ns[0], rate_hz=10.0)
    source.open()
    assert source.read() is not None
    now_ns[0] = 5 * 10 ** 11
    begun_s = time.monotonic()
    frame = source.read()
    assert frame is not None
    assert frame.stamp_ns <= now_ns[0]
    assert time.monotonic() - begun_s < 5.0


def test_looping_source_begins_anew() -> None:
    source = CampusSource(_world(), clock=time.monotonic_ns, rate_hz=math.inf, loop=True)
    source.open()
    frames = [source.read() for _ in range(7)]
    assert frames[1] is not None
    assert frames[6] is not None
    np.testing.assert_array_equal(frames[1].image, frames[6].image)


def test_close_ends_a_waiting_read() -> None:
    source = CampusSource(_world(), clock=lambda: 0, start_ns=10 ** 15, rate_hz=10.0)
    source.open()
    got: List[object] = []
    thread = threading.Thread(target=lambda: got.append(source.read()))
    thread.start()
    time.sleep(0.05)
    source.close()
    thread.join(5.0)
    assert got == [None]


def test_simulated_clock_paces_the_source() -> None:
    source = CampusSource(_world(), clock=SlowClock(0.01), rate_hz=10.0)
    source.open()
    stamps = [frame.stamp_ns for frame in itertools.islice(iter(source.read, None), 3)]
    assert np.diff(stamps).tolist() == [100_000_000] * 2


def test_description_names_world_and_rate() -> None:
    source = CampusSource(_world(), clock=time.monotonic_ns)
    assert source.description == 'campus campus_minute, vehicle, seed 1, 10 Hz'
    assert source.rate_hz == 10.0


def test_wrong_use_is_one_clear_line() -> None:
    with pytest.raises(SourceError, match='above 0 Hz'):
        CampusSource(_world(), clock=time.monotonic_ns, rate_hz=0.0)
    with pytest.raises(SourceError, match='open'):
        CampusSource(_world(), clock=time.monotonic_ns).read()
