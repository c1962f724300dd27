# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import os
import threading

import pytest

from crowdhmt_ros.nodes import kept_memory
from crowdhmt_ros.nodes.kept_memory import KeptMemory
from crowdhmt_ros.profiling.engine_tables import EngineTables, Trial, save_engine_tables
from crowdhmt_ros.profiling.tables import Row, Tables, row_key, save_tables
from crowdhmt_ros.types import MEASURED, NO_READING, EngineOptions, Estimate, Reading, Segment

SEGMENT = Segment('wide/whole', 'a' * 64, '', (), ())
FAST, LEAN = EngineOptions(), EngineOptions(memory_mode='lean')
SOME = Estimate(0.5, 0.5)


def keep(path, mark, **rows_bytes):
    """Write tables as calibration does, at a time of their own."""
    modes = {'fast': FAST, 'lean': LEAN}
    rows = {row_key(SEGMENT.sha256, modes[mode]): Row(SOME, Estimate(size, size, MEASURED), 9)
            for mode, size in rows_bytes.items()}
    save_tables(Tables('this device', 'b' * 64, SOME, rows), path)
    os.utime(path, ns=(mark, mark))


def test_memory_is_read_as_soon_as_another_process_has_measured_it(tmp_path):
    path = tmp_path / 'tables.json'
    memory = KeptMemory(path, look_every_s=0.0)
    assert memory(SEGMENT, FAST) == NO_READING
    keep(path, 1000, fast=7.0)
    assert memory(SEGMENT, FAST) == Reading(7.0, MEASURED)
    assert memory(SEGMENT, LEAN) == NO_READING
    keep(path, 2000, fast=7.0, lean=3.0)
    assert memory(SEGMENT, LEAN) == Reading(3.0, MEASURED)


def test_what_other_engines_take_is_read_too(tmp_path):
    path, engines = tmp_path / 'tables.json', tmp_path / 'engines.json'
    memory = KeptMemory(path, engines_path=engines, look_every_s=0.0)
    ncnn = EngineOptions('ncnn')
    keep(path, 1000, fast=7.0)
    assert memory(SEGMENT, ncnn) == NO_READING
    beside, key = (row_key(SEGMENT.sha256, options) for options in (FAST, ncnn))
    save_engine_tables(EngineTables('this device', 'b' * 64, {
        key: Trial(ncnn, beside, 0.5, 9, Estimate(4.0, 4.0, MEASURED))}, {beside: key}), engines)
    assert memory(SEGMENT, ncnn) == Reading(4.0, MEASURED)
    assert memory.infer_s(SEGMENT, ncnn) == 0.25
    assert memory(SEGMENT, FAST) == Reading(7.0, MEASURED)
    engines.write_text('cut')
    os.utime(engines, ns=(5000, 5000))
    assert memory(SEGMENT, FAST) == Reading(7.0, MEASURED)


def in_another_thread(ask):
    """Return what a thread of its own is told, which must not have to wait."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(10.0)
    assert found, 'it had to wait'
    return found[0]


def test_who_asks_while_files_are_read_is_told_what_was_known_and_nothing_of_it_stays(
        tmp_path, monkeypatch):
    path, engines = tmp_path / 'tables.json', tmp_path / 'engines.json'
    ncnn = EngineOptions('ncnn')
    beside, key = (row_key(SEGMENT.sha256, options) for options in (FAST, ncnn))
    keep(path, 1000, fast=7.0)
    memory = KeptMemory(path, engines_path=engines, look_every_s=0.0)
    assert memory(SEGMENT, FAST) == Reading(7.0, MEASURED)
    keep(path, 2000, fast=8.0)
    save_engine_tables(EngineTables('this device', 'b' * 64, {
        key: Trial(ncnn, beside, 0.5, 9, Estimate(4.0, 4.0, MEASURED))}, {beside: key}), engines)
    real, told = kept_memory.load_engine_tables, []

    def slowly(where):
        told.extend(in_another_thread(lambda options=options: memory(SEGMENT, options))
                    for options in (FAST, ncnn))
        return real(where)
    monkeypatch.setattr(kept_memory, 'load_engine_tables', slowly)
    assert memory(SEGMENT, FAST) == Reading(8.0, MEASURED)
    assert told == [Reading(7.0, MEASURED), NO_READING]
    assert memory(SEGMENT, ncnn) == Reading(4.0, MEASURED)


@pytest.mark.parametrize('content', [b'', b'{}', b'\xff'])
def test_damaged_tables_are_a_warning_once_and_nothing_is_known(tmp_path, caplog, content):
    path = tmp_path / 'tables.json'
    path.write_bytes(content)
    memory = KeptMemory(path, look_every_s=0.0)
    assert memory(SEGMENT, FAST) == NO_READING
    assert memory(SEGMENT, FAST) == NO_READING
    assert len(caplog.records) == 1
