# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a peer."""
from __future__ import annotations

import dataclasses

import pytest

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.front import counted_tables
from crowdhmt_ros.profiling.remote_front import COUNTED_CODEC_BYTES_PER_S, build_remote
from crowdhmt_ros.profiling.tables import Row
from crowdhmt_ros.types import Estimate


def remote(family, coefficients, tables=None, **options):
    segments = family.segments()
    return build_remote(family, tables or counted_tables(family, segments), coefficients,
                        segments=segments, cache_bytes=1e9, **options)


def ways(options):
    return [(o.variant_id, o.head_segment_id, o.codec, o.engine.memory_mode) for o in options]


def with_rows(family, rows):
    """Tables in which the head takes (latency_s, memory_bytes) per memory mode."""
    tables = counted_tables(family, family.segments())
    found = dict(tables.rows)
    for key in found:
        for mode, (latency_s, memory) in rows.items():
            if key.startswith('head/') and key.endswith(mode):
                found[key] = Row(Estimate(latency_s, latency_s), Estimate(memory, memory), 9)
    return dataclasses.replace(tables, rows=found)


def test_frame_and_cut_are_offered_in_the_order_of_the_bundle(cut_family, coefficients):
    tables = with_rows(cut_family, {'fast': (0.001, 3e6), 'lean': (0.002, 2e6)})
    assert ways(remote(cut_family, coefficients, tables)) == [
        ('rich', '', 'jpeg', 'lean'), ('rich', 'rich.head', 'int8', 'fast'),
        ('rich', 'rich.head', 'int8', 'lean'), ('lean', '', 'jpeg', 'lean')]


def test_a_frame_costs_nothing_here_but_its_bytes(cut_family, coefficients):
    option = remote(cut_family, coefficients)[0]
    assert (option.remote_segment_id, option.remote_role) == ('rich.whole', 'whole')
    assert option.head_latency_s.mean == option.head_memory_bytes.mean == 0.0
    assert option.head_macs == option.head_words == option.head_energy_j.mean == 0
    assert option.remote_macs == 2_000_000
    assert (option.sent_bytes, option.received_bytes) == (2000.0, 28.0)
    assert option.accuracy == {'photos': pytest.approx(0.89)}
    assert option.codec_s == 16 / COUNTED_CODEC_BYTES_PER_S


def test_a_cut_shares_the_work(cut_family, coefficients):
    option = remote(cut_family, coefficients)[1]
    assert (option.remote_segment_id, option.remote_role) == ('rich.tail', 'tail')
    assert option.head_macs == option.remote_macs == 1_000_000
    assert option.head_words == 6_200
    assert option.head_energy_j.mean == pytest.approx(1e-9 * (1_000_000 + 6 * 6_200))
    assert option.head_latency_s.mean == pytest.approx(1e6 / 10e9)
    assert (option.sent_bytes, option.received_bytes) == (3000.0, 28.0)
    assert option.codec_s == 200 / COUNTED_CODEC_BYTES_PER_S
    assert option.accuracy == {'photos': pytest.approx(0.899)}


def test_a_codec_that_helped_by_chance_makes_nothing_better(cut_family, coefficients):
    assert remote(cut_family, coefficients)[-1].accuracy == {'photos': 0.7}


def test_a_codec_that_loses_accuracy_does_not_drop_the_larger_one(cut_family, coefficients):
    cut_family.crossings = tuple(
        dataclasses.replace(f, accuracy_drop=0.02) if f.codec == 'int8' else f
        for f in cut_family.crossings)
    assert {o.codec for o in remote(cut_family, coefficients)} == {'jpeg', 'fp16', 'int8'}


def test_a_slow_codec_does_not_drop_the_larger_one(cut_family, coefficients):
    tables = dataclasses.replace(counted_tables(cut_family, cut_family.segments()), codec_s={
        'int8/c1': Estimate(0.004, 0.004), 'fp16/c1': Estimate(0.001, 0.001)})
    options = remote(cut_family, coefficients, tables)
    assert {o.codec: o.codec_s for o in options if o.head_segment_id} == {
        'fp16': 0.001, 'int8': 0.004}


def test_a_way_to_run_the_head_that_another_covers_goes(cut_family, coefficients):
    tables = with_rows(cut_family, {'fast': (0.001, 2e6), 'lean': (0.002, 2e6)})
    heads = [o for o in remote(cut_family, coefficients, tables) if o.head_segment_id]
    assert [o.engine.memory_mode for o in heads] == ['fast']
    assert (heads[0].head_latency_s.mean, heads[0].head_memory_bytes.mean) == (0.001, 2e6)


def test_only_allowed_memory_modes_are_offered(cut_family, coefficients):
    options = remote(cut_family, coefficients, memory_modes=('fast',))
    assert {o.engine.memory_mode for o in options} == {'fast'}


def test_a_head_without_a_row_is_named(cut_family, coefficients):
    tables = counted_tables(cut_family, cut_family.segments(), memory_modes=('fast',))
    with pytest.raises(CalibrationError, match='no row for rich.head with 1 threads, lean'):
        remote(cut_family, coefficients, tables)


def test_a_bundle_without_crossings_offers_nothing(cut_family, coefficients):
    cut_family.crossings = ()
    assert remote(cut_family, coefficients) == ()
