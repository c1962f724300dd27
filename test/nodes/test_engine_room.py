# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.errors import BundleError
from crowdhmt_ros.first_start import kept_tables_path
from crowdhmt_ros.nodes.engine_room import open_engine_room
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.profiling.tables import Row, Tables, row_key, save_tables
from crowdhmt_ros.types import ESTIMATED, MEASURED, EngineOptions, Estimate, Reading

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'
NARROW_BYTES, WIDE_BYTES = 10.0, 30.0


@pytest.fixture
def room(tmp_path):
    opened = open_engine_room(CameraInferenceParameters(bundle=str(TINY),
                                                        cache_dir=str(tmp_path)))
    yield opened
    opened.close()


def chosen(room, variant_id, memory_mode='fast'):
    return next(c for c in room.bundle.candidates(threads=(1,), memory_modes=(memory_mode,))
                if c.variant_id == variant_id)


def measure(cache_dir):
    """Write what calibration would, with one size for each variant."""
    bundle, some = open_bundle(TINY), Estimate(0.001, 0.001, MEASURED)
    rows = {}
    for candidate in bundle.candidates():
        segment = bundle.segment(candidate.placement.segments[0].segment_id)
        size = WIDE_BYTES if candidate.variant_id == 'wide' else NARROW_BYTES
        rows[row_key(bundle.file_sha256(segment.file), candidate.engine)] = Row(
            some, Estimate(size, size, MEASURED), 9)
    path = kept_tables_path(bundle, make_backend('onnxruntime'), cache_dir)
    save_tables(Tables('this device', bundle.sha256, some, rows), path)


def test_the_leanest_answers_first_with_a_figure_of_its_own(room):
    assert room.executor.active.candidate == room.fallback == chosen(room, 'narrow')
    assert room.pool.memory.source == ESTIMATED
    room.pool.predict(room.fallback, Reading(12.0, MEASURED))
    assert room.pool.memory == Reading(12.0, MEASURED)


def test_what_is_measured_meanwhile_counts_and_resident_bytes_keep_the_budget(room, tmp_path):
    measure(tmp_path)
    assert room.pool.memory == Reading(NARROW_BYTES, MEASURED)
    wide, lean = chosen(room, 'wide'), chosen(room, 'narrow', 'lean')
    for candidate in (wide, lean):
        room.pool.prepare(candidate)
    assert room.pool.memory_bytes == WIDE_BYTES + 2 * NARROW_BYTES
    room.switcher.keep_within(WIDE_BYTES)
    assert room.pool.memory_bytes == 2 * NARROW_BYTES, 'the wide one was used longest ago'
    room.pool.prepare(wide)
    room.switcher.apply(wide, 1)
    room.switcher.keep_within(WIDE_BYTES)
    assert room.pool.memory_bytes == WIDE_BYTES
    assert room.executor.active.candidate == wide


def test_what_answers_stays_counted_however_small_the_budget(room, tmp_path):
    measure(tmp_path)
    room.switcher.keep_within(1.0)
    assert room.pool.memory == Reading(NARROW_BYTES, MEASURED)


def test_an_accelerator_of_this_engine_is_known_to_its_schedule(room, tmp_path):
    assert not room.schedule.scheduler.work(room.fallback).accelerated
    auto = open_engine_room(CameraInferenceParameters(
        bundle=str(TINY), cache_dir=str(tmp_path), backend='auto'))
    try:
        elsewhere = replace(room.fallback, engine=EngineOptions('onnxruntime_cuda', threads=2))
        assert auto.schedule.scheduler.work(elsewhere).accelerated
        assert auto.schedule.scheduler.arranged(elsewhere).engine.threads == 1
    finally:
        auto.close()


def test_an_unknown_fallback_names_what_there_is(tmp_path):
    with pytest.raises(BundleError, match='wide, narrow'):
        open_engine_room(CameraInferenceParameters(
            bundle=str(TINY), cache_dir=str(tmp_path), fallback='huge'))
