# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trials of other engines become rows, and rows become candidates."""
from dataclasses import replace

import pytest

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.engine_tables import (
    EngineTables,
    Trial,
    load_engine_tables,
    more_candidates,
    save_engine_tables,
    ways_of,
    with_engines,
)
from crowdhmt_ros.profiling.tables import Row, Tables, row_key
from crowdhmt_ros.types import (
    MEASURED,
    EngineOptions,
    Estimate,
    Placement,
    Segment,
    SegmentPlacement,
)

DEFAULT, NCNN = EngineOptions(), EngineOptions('ncnn')
LEAN = EngineOptions(memory_mode='mapped')
BESIDE, KEY = row_key('sha', DEFAULT), row_key('sha', NCNN)
MEMORY = Estimate(9e6, 9e6, MEASURED)
TABLES = Tables('device', 'ab' * 32, Estimate(0.001, 0.001), {
    BESIDE: Row(Estimate(0.010, 0.012, MEASURED), Estimate(5e6, 5e6, MEASURED), 20)})
TRIALS = {
    KEY: Trial(NCNN, BESIDE, 0.5, 30, MEMORY),
    row_key('sha', LEAN): Trial(LEAN, BESIDE, 1.4, 9, reason='it was killed', put_off=True),
    row_key('sha', EngineOptions('openvino')): Trial(EngineOptions('openvino'), BESIDE, 1.2, 3),
    row_key('sha', EngineOptions('tensorrt')): Trial(
        EngineOptions('tensorrt'), BESIDE, None, reason='it is not installed')}
ENGINES = EngineTables('device', 'ab' * 32, TRIALS, {BESIDE: KEY})


def test_trials_come_back_as_they_were_kept(tmp_path):
    save_engine_tables(ENGINES, tmp_path / 'e.json')
    assert load_engine_tables(tmp_path / 'e.json') == ENGINES


def test_what_waits_for_memory_is_not_offered():
    assert set(ENGINES.put_off()) == {row_key('sha', LEAN)}
    assert set(ENGINES.offered()) == {KEY}


@pytest.mark.parametrize('change', [
    ('0.5', '0.4'), ('crowdhmt-engines', 'crowdhmt-tables'), ('"ratio"', '"ration"')])
def test_a_changed_file_is_refused_with_the_mend(tmp_path, change):
    path = tmp_path / 'e.json'
    save_engine_tables(ENGINES, path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(CalibrationError, match='delete it and they are measured anew'):
        load_engine_tables(path)


def test_a_row_is_the_default_times_the_ratio_with_memory_of_its_own():
    row = with_engines(TABLES, ENGINES).rows[KEY]
    assert row.infer_s == Estimate(0.005, 0.006, MEASURED)
    assert (row.memory_bytes, row.samples) == (MEMORY, 30)


def test_what_did_not_run_or_was_not_worth_it_is_not_offered():
    assert set(with_engines(TABLES, ENGINES).rows) == {BESIDE, KEY}
    assert ways_of(ENGINES) == (NCNN,)


def test_a_trial_beside_a_default_that_has_no_row_is_left_out():
    assert with_engines(replace(TABLES, rows={}), ENGINES).rows == {}


def test_a_graph_in_whole_numbers_is_run_by_ways_in_whole_numbers_alone(entry):
    plain = entry('one').candidate
    low = replace(plain, engine=EngineOptions(precision='int8'),
                  placement=Placement((SegmentPlacement('whole', 'one.int8'),)))
    ways = (NCNN, EngineOptions('openvino', precision='int8'),
            EngineOptions('openvino', precision='bf16'))
    segments = {'one.whole': Segment('one.whole', 'sha', '', (), ()),
                'one.int8': Segment('one.int8', 'sha8', '', (), ())}
    row = TABLES.rows[BESIDE]
    rows = {row_key(sha, way): row for sha in ('sha', 'sha8') for way in ways}
    found = more_candidates((plain, low), ways, replace(TABLES, rows=rows), segments)
    assert {(c.engine, c.placement.segments[0].segment_id) for c in found} == {
        (ways[0], 'one.whole'), (ways[1], 'one.int8'), (ways[2], 'one.whole')}


def test_candidates_on_other_engines_need_all_of_their_rows(entry):
    one, two = entry('one').candidate, entry('two', threads=2).candidate
    segments = {'one.whole': Segment('one.whole', 'sha', '', (), ()),
                'two.whole': Segment('two.whole', 'other', '', (), ())}
    found = more_candidates((one, two), (NCNN, replace(NCNN, threads=2)),
                            with_engines(TABLES, ENGINES), segments)
    assert [c.candidate_id for c in found] == ['one/local/ncnn/1t/fast']
    assert found[0].placement == one.placement
