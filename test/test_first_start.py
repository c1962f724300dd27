# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a bundle to a front in one call."""
from __future__ import annotations

import dataclasses
from pathlib import Path

import onnxruntime
import pytest

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.errors import CalibrationError, ConfigError
from crowdhmt_ros.first_start import Wishes, first_start, typical_crossings
from crowdhmt_ros.loop import rederive, step
from crowdhmt_ros.profiling.tables import crossing_key, save_tables
from crowdhmt_ros.types import ESTIMATED, MEASURED, LoopState, Requirements, ResourceSnapshot

TINY = Path(__file__).resolve().parent / 'bundle' / 'data' / 'tiny'
FEW = {'threads': (1,), 'memory_modes': ('lean',)}


@pytest.fixture(scope='module')
def bundle():
    return open_bundle(TINY)


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


def start(bundle, cache_dir, **wishes):
    return first_start(bundle, make_backend('onnxruntime'), cache_dir,
                       wishes=Wishes(**{**FEW, **wishes}))


def test_first_start_measures_and_the_second_finds_it_done(bundle, cache_dir):
    told = []
    ready = first_start(bundle, make_backend('onnxruntime'), cache_dir, wishes=Wishes(**FEW),
                        progress=lambda part, text: told.append(text))
    assert told
    assert {e.candidate.variant_id for e in ready.front} == set(bundle.manifest.front)
    assert all(e.latency_s.source == MEASURED and e.latency_s.mean > 0.0 for e in ready.front)
    told.clear()
    again = first_start(bundle, make_backend('onnxruntime'), cache_dir, wishes=Wishes(**FEW),
                        progress=lambda part, text: told.append(text))
    assert not told
    assert again == ready


def test_the_front_makes_plans(bundle, cache_dir):
    front = start(bundle, cache_dir, tables='counted').front
    _, plan = step(LoopState(), ResourceSnapshot(0.0), [], Requirements(), front, 0.0)
    assert rederive(plan, front) == plan.chosen.candidate.candidate_id


def test_counted_tables_are_the_same_everywhere(bundle, tmp_path, cache_dir):
    one = start(bundle, tmp_path, tables='counted')
    two = start(bundle, cache_dir, tables='counted')
    assert one.front_sha256 == two.front_sha256
    assert all(e.latency_s.source == ESTIMATED for e in one.front)


def test_tables_from_a_file_are_used_as_they_are(bundle, cache_dir, tmp_path):
    ready = start(bundle, cache_dir, tables='counted')
    save_tables(ready.tables, tmp_path / 't.json')
    assert start(bundle, cache_dir, tables=str(tmp_path / 't.json')).front == ready.front


def test_a_file_of_tables_that_is_missing_or_foreign_is_refused(bundle, cache_dir, tmp_path):
    with pytest.raises(CalibrationError, match='cannot be read'):
        start(bundle, cache_dir, tables=str(tmp_path / 'none.json'))
    tables = start(bundle, cache_dir, tables='counted').tables
    foreign = dataclasses.replace(tables, bundle_sha256='0' * 64)
    save_tables(foreign, tmp_path / 'foreign.json')
    with pytest.raises(CalibrationError, match='measured for another bundle'):
        start(bundle, cache_dir, tables=str(tmp_path / 'foreign.json'))


def test_what_may_be_asked_of_a_peer_comes_with_the_front(cache_dir):
    shipped = open_bundle('campus7')
    ready = start(shipped, cache_dir, tables='counted', memory_modes=('fast', 'lean'))
    assert {o.variant_id for o in ready.remote} == set(shipped.manifest.front)
    for option in ready.remote:
        whole = shipped.macs(option.variant_id)
        assert option.head_macs + option.remote_macs == whole
        assert option.remote_segment_id in ready.segments
        assert option.codec_s > 0.0
    assert start(shipped, cache_dir, tables='counted',
                 memory_modes=('fast', 'lean')).remote == ready.remote


def test_a_bundle_without_cuts_asks_nothing_of_peers(bundle, cache_dir):
    assert start(bundle, cache_dir, tables='counted').remote == ()


def test_every_crossing_of_a_bundle_can_be_timed():
    shipped = open_bundle('campus7')
    crossings = typical_crossings(shipped)
    assert set(crossings) == {crossing_key(c.cut_id, c.codec) for c in shipped.crossings}
    for across in crossings.values():
        across()


def test_tables_name_the_release_of_the_engine(bundle, cache_dir):
    assert f'onnxruntime {onnxruntime.__version__}' in start(bundle, cache_dir).tables.device


def test_tables_of_another_release_of_the_engine_are_measured_anew(bundle, cache_dir,
                                                                   monkeypatch):
    start(bundle, cache_dir)
    monkeypatch.setattr(onnxruntime, '__version__', '99.0')
    assert 'onnxruntime 99.0' in start(bundle, cache_dir).tables.device


def test_an_unknown_energy_profile_is_refused_before_anything_is_measured(bundle, tmp_path):
    with pytest.raises(ConfigError, match='no device'):
        start(bundle, tmp_path, device='toaster')
    assert not list(tmp_path.glob('tables-*'))


def test_a_repeating_backend_has_tables_of_its_own(bundle, cache_dir):
    ready = first_start(bundle, make_backend('onnxruntime', 3), cache_dir,
                        wishes=Wishes(**FEW, repeat=3))
    assert 'repeated 3 times' in ready.tables.device
