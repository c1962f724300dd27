# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured once, kept, and never in the way."""
from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.calibration import (
    FEWEST_ROUNDS,
    LONGEST_MEMORY_S,
    MOST_ROUNDS,
    Settings,
    calibrate,
    load_tables,
    save_tables,
)
from crowdhmt_ros.profiling.tables import from_json, tables_path, to_json
from crowdhmt_ros.types import ESTIMATED, MEASURED

SETTINGS = Settings('test machine')


def measured(family, engine, cache_dir, settings=SETTINGS, **options):
    return calibrate(family, engine, family.segments(), cache_dir, settings=settings,
                     clock=engine.clock, **options)


def test_every_way_to_run_gets_a_row(family, engine, tmp_path):
    tables = measured(family, engine, tmp_path, measure_memory=lambda *_, **__: 3_000_000)
    assert len(tables.rows) == 8
    for key, row in tables.rows.items():
        assert row.infer_s.mean == pytest.approx(0.010 if key.startswith('rich') else 0.001)
        assert row.infer_s.source == MEASURED
        assert row.memory_bytes.mean == 3_000_000
        assert row.memory_bytes.source == MEASURED
        assert row.samples == MOST_ROUNDS


def test_heads_are_measured_with_one_thread_after_the_whole_models(cut_family, engine, tmp_path):
    asked = []

    def memory(candidate, segment, *, longest_s):
        asked.append((segment.segment_id, candidate.engine.threads))
        return 1_000_000

    tables = measured(cut_family, engine, tmp_path, measure_memory=memory)
    heads = [key for key in tables.rows if key.startswith('head/')]
    assert len(tables.rows) == 10
    assert [key.split('/')[2] for key in heads] == ['1t', '1t']
    assert {key.split('/')[-1] for key in heads} == {'fast', 'lean'}
    assert all(tables.rows[key].memory_bytes.mean == 1_000_000 for key in heads)
    assert asked[-2:] == [('rich.head', 1)] * 2
    assert 'rich.head' not in [name for name, _ in asked[:-2]]


def test_a_head_of_few_weights_is_not_measured_in_lean_mode(engine, tmp_path, cut_family):
    cut_family.weight_bytes = 1000
    tables = measured(cut_family, engine, tmp_path)
    assert [key.split('/')[-1] for key in tables.rows if key.startswith('head/')] == ['fast']


def test_codecs_are_timed_when_given_and_kept(family, engine, tmp_path):
    def codec():
        engine.now_s += 0.002

    first = measured(family, engine, tmp_path, codecs={'int8/c1': codec})
    assert first.codec_s['int8/c1'].mean == pytest.approx(0.002)
    assert first.codec_s['int8/c1'].source == MEASURED
    assert measured(family, engine, tmp_path, codecs={'int8/c1': codec}) == first
    assert from_json(to_json(first), origin='here') == first
    more = measured(family, engine, tmp_path, codecs={'int8/c1': codec, 'jpeg/': codec})
    assert set(more.codec_s) == {'int8/c1', 'jpeg/'}


def test_the_second_start_measures_nothing(family, engine, tmp_path):
    first = measured(family, engine, tmp_path)
    runs = engine.runs
    assert measured(family, engine, tmp_path) == first
    assert engine.runs == runs


def test_memory_of_few_threads_is_measured_first_and_serves_when_time_runs_out(
        family, engine, tmp_path):
    asked = []

    def memory(candidate, segment, *, longest_s):
        asked.append(candidate.engine.threads)
        engine.now_s += 15.0
        return 1_000

    tables = measured(family, engine, tmp_path, measure_memory=memory)
    assert asked == [1, 1, 1, 1]
    rows = tables.rows.items()
    assert {r.memory_bytes.mean for _, r in rows} == {1_000.0}
    assert {r.memory_bytes.source for key, r in rows if '/1t/' in key} == {MEASURED}
    assert {r.memory_bytes.source for key, r in rows if '/2t/' in key} == {ESTIMATED}


def test_memory_that_cannot_be_measured_is_the_engines_and_estimated(family, engine, tmp_path,
                                                                    caplog):
    def memory(candidate, segment, *, longest_s):
        raise CalibrationError('no process')

    tables = measured(family, engine, tmp_path, measure_memory=memory)
    assert {r.memory_bytes.source for r in tables.rows.values()} == {ESTIMATED}
    assert {r.memory_bytes.mean for r in tables.rows.values()} == {7_000_000.0}
    assert 'no process' in caplog.text


def test_a_slow_machine_keeps_to_its_time_with_fewer_rounds(family, engine, tmp_path):
    engine.seconds = {'rich': 1.0, 'lean': 0.5}

    def memory(candidate, segment, *, longest_s):
        engine.now_s += min(4.0, longest_s)
        if longest_s < 4.0:
            raise CalibrationError('did not end')
        return 5

    tables = measured(family, engine, tmp_path, Settings('slow', longest_s=30.0),
                      measure_memory=memory)
    assert engine.now_s <= 30.0
    assert {r.memory_bytes.source for r in tables.rows.values()} == {MEASURED, ESTIMATED}
    assert all(1 <= row.samples < MOST_ROUNDS for row in tables.rows.values())


def test_a_memory_process_that_hangs_leaves_time_for_the_others(family, engine, tmp_path):
    given = []

    def memory(candidate, segment, *, longest_s):
        given.append(longest_s)
        engine.now_s += longest_s
        raise CalibrationError('did not end')

    tables = measured(family, engine, tmp_path, measure_memory=memory)
    assert engine.now_s <= SETTINGS.longest_s + 1e-6
    assert given[0] == LONGEST_MEMORY_S
    assert len(given) > 1
    assert given[-1] < LONGEST_MEMORY_S
    assert {r.memory_bytes.source for r in tables.rows.values()} == {ESTIMATED}


def test_a_hopelessly_slow_machine_still_gets_one_sample_each(family, engine, tmp_path):
    engine.seconds = {'rich': 100.0, 'lean': 50.0}
    tables = measured(family, engine, tmp_path, Settings('slow', longest_s=10.0),
                      measure_memory=lambda *_, **__: 5)
    assert [row.samples for row in tables.rows.values()] == [1] * 8
    assert {r.memory_bytes.source for r in tables.rows.values()} == {ESTIMATED}
    assert FEWEST_ROUNDS > 1


def test_preprocessing_is_timed_when_given(family, engine, tmp_path):
    def preprocess():
        engine.now_s += 0.002

    assert measured(family, engine, tmp_path, preprocess=preprocess
                    ).preprocess_s.mean == pytest.approx(0.002)


def test_progress_goes_from_nothing_to_all(family, engine, tmp_path):
    told = []
    measured(family, engine, tmp_path, progress=lambda part, text: told.append(part))
    assert told == sorted(told)
    assert told[0] == 0.0
    assert told[-1] == 1.0


@pytest.mark.parametrize('damage', [
    lambda text: text[:100],
    lambda text: text.replace('"samples": 40', '"samples": 41', 1),
    lambda text: '{}',
    lambda text: '[1, 2]',
    lambda text: 'null',
    lambda text: '',
    lambda text: text.replace('"format_version": 1', '"format_version": 2'),
])
def test_damaged_tables_are_measured_anew_with_a_warning(family, engine, tmp_path, caplog,
                                                         damage):
    first = measured(family, engine, tmp_path)
    path = tables_path(tmp_path, family.sha256, SETTINGS.device)
    path.write_text(damage(path.read_text()))
    runs = engine.runs
    again = measured(family, engine, tmp_path)
    assert engine.runs > runs
    assert set(again.rows) == set(first.rows)
    assert 'measuring now' in caplog.text
    assert load_tables(path) == again


def test_tables_of_another_device_are_not_used(family, engine, tmp_path, caplog):
    tables = measured(family, engine, tmp_path)
    path = tables_path(tmp_path, family.sha256, 'new processor')
    save_tables(tables, path)
    again = measured(family, engine, tmp_path, Settings('new processor'))
    assert again.device == 'new processor'
    assert 'measuring now' in caplog.text


def test_tables_that_lack_a_row_are_measured_anew(family, engine, tmp_path):
    measured(family, engine, tmp_path, Settings('test machine', threads=(1,)))
    tables = measured(family, engine, tmp_path)
    assert len(tables.rows) == 8


def test_a_full_disk_costs_only_the_keeping(family, engine, tmp_path, caplog, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    tables = measured(family, engine, tmp_path)
    assert len(tables.rows) == 8
    assert 'No space left on device' in caplog.text
    assert 'CROWDHMT_CACHE' in caplog.text
    assert not list(tmp_path.glob('*.json*'))


def test_a_folder_that_cannot_be_made_costs_only_the_keeping(family, engine, tmp_path, caplog):
    (tmp_path / 'file').write_text('')
    tables = measured(family, engine, tmp_path / 'file' / 'cache')
    assert len(tables.rows) == 8
    assert 'goes on without keeping' in caplog.text


def test_writing_is_whole_or_not_at_all(family, engine, tmp_path, monkeypatch):
    tables = measured(family, engine, tmp_path)
    path = tables_path(tmp_path, family.sha256, SETTINGS.device)
    before = path.read_text()

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(CalibrationError, match='No space left'):
        save_tables(tables, path)
    assert path.read_text() == before


def test_two_starts_at_once_measure_once(family, engine, tmp_path):
    found = []
    workers = [threading.Thread(target=lambda: found.append(measured(family, engine, tmp_path)))
               for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found[0] == found[1]
    assert len(engine.compiled) == 8


def test_nothing_to_measure_is_said(family, engine, tmp_path):
    with pytest.raises(CalibrationError, match='nothing to calibrate'):
        measured(family, engine, tmp_path, Settings('test machine', threads=()))


def test_tables_survive_json_exactly(family, engine, tmp_path):
    tables = measured(family, engine, tmp_path, preprocess=lambda: None)
    assert from_json(to_json(tables), origin='here') == tables
    assert json.loads(to_json(tables))['format'] == 'crowdhmt-tables'
