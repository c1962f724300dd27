# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which candidates are worth choosing from."""
from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.front import (
    LATENCY_NOISE,
    build_front,
    counted_tables,
    front_sha256,
    worth_choosing,
)
from crowdhmt_ros.types import (
    Candidate,
    EngineOptions,
    Estimate,
    FrontEntry,
    Placement,
    SegmentPlacement,
    Variant,
)


def names(front):
    return [e.candidate.candidate_id for e in front]


def test_what_is_beaten_in_everything_goes(entry):
    good = entry('a', threads=1)
    slow = entry('a', threads=2, latency_s=0.020, energy_j=0.002)
    assert worth_choosing([slow, good]) == (good,)


def test_what_is_better_in_one_thing_stays(entry):
    fast = entry('a', threads=2, latency_s=0.005, energy_j=0.002)
    small = entry('a', mode='lean', latency_s=0.020, memory=1e6)
    plain = entry('a')
    assert worth_choosing([plain, fast, small]) == (plain, fast, small)


def test_what_is_better_in_one_condition_stays_though_worse_on_average(entry):
    bright = entry('a', accuracy={'scenes/noon': 0.9, 'scenes/dusk': 0.5})
    dark = entry('b', accuracy={'scenes/noon': 0.6, 'scenes/dusk': 0.6})
    lesser = entry('b', threads=2, accuracy={'scenes/noon': 0.55, 'scenes/dusk': 0.55},
                   energy_j=0.002)
    assert worth_choosing([bright, dark, lesser]) == (bright, dark)
    twin = entry('a', threads=2, accuracy={'scenes/noon': 0.9, 'scenes/dusk': 0.5},
                 latency_s=0.020)
    other = entry('a', threads=2, mode='lean', latency_s=0.020,
                  accuracy={'scenes/noon': 0.5, 'scenes/dusk': 0.51})
    assert worth_choosing([bright, twin, other]) == (bright, other)


def test_noise_in_the_latency_keeps_no_twin(entry):
    plain = entry('a')
    twin = entry('a', threads=2, latency_s=0.0099)
    assert worth_choosing([plain, twin]) == (plain,)
    assert worth_choosing([twin, plain]) == (twin,)


def test_every_variant_stays_once_with_its_most_thrifty_way(entry):
    best = entry('a', accuracy={'photos': 0.9})
    worse = entry('b', latency_s=0.020, p95_s=0.024)
    worst = entry('b', threads=2, latency_s=0.030, energy_j=0.002)
    assert names(worth_choosing([worst, worse, best])) == names([worse, best])


def test_an_empty_list_stays_empty():
    assert worth_choosing([]) == ()


COST = st.floats(0.1, 10.0)


@given(st.lists(st.tuples(COST, COST, COST, COST, st.sampled_from('ab')), min_size=1,
                max_size=25))
def test_whatever_is_dropped_is_covered_by_something_kept(rows):
    entries = [FrontEntry(
        Candidate(name, Variant(((),), 0), Placement((SegmentPlacement('whole', name),)),
                  EngineOptions(threads=i + 1)),
        {'photos': a / 10.0}, Estimate(t, t), Estimate(m, m), Estimate(e, e), 1)
        for i, (a, t, m, e, name) in enumerate(rows)]
    kept = worth_choosing(entries)
    assert {e.candidate.variant_id for e in kept} == {r[4] for r in rows}
    for entry in entries:
        assert any(entry is k or (
            k.accuracy['photos'] >= entry.accuracy['photos']
            and k.latency_s.mean <= entry.latency_s.mean * LATENCY_NOISE
            and k.memory_bytes.mean <= entry.memory_bytes.mean
            and k.energy_j.mean <= entry.energy_j.mean) for k in kept)


def test_a_front_from_counts_has_energy_of_formula_one(family, coefficients):
    segments = family.segments()
    tables = counted_tables(family, segments)
    front = build_front(family, tables, coefficients, segments=segments, cache_bytes=1e9)
    assert {e.candidate.variant_id for e in front} == {'rich', 'lean'}
    rich = next(e for e in front if e.candidate.variant_id == 'rich')
    assert rich.words == 11_200
    assert rich.energy_j.mean == pytest.approx(1e-9 * (2_000_000 + 6 * 11_200))
    assert counted_tables(family, segments) == tables


def test_lean_mode_counts_less_memory_than_fast(family):
    tables = counted_tables(family, family.segments())
    for key, row in tables.rows.items():
        if key.endswith('/lean'):
            assert row.memory_bytes.mean < tables.rows[
                key.replace('/lean', '/fast')].memory_bytes.mean


def test_a_missing_row_is_named(family, coefficients):
    tables = counted_tables(family, family.segments(), threads=(1,))
    with pytest.raises(CalibrationError, match=r'no row for rich.*2t'):
        build_front(family, tables, coefficients, segments=family.segments())


def test_the_digest_changes_with_any_figure(entry):
    front = (entry('a'), entry('b'))
    digest = front_sha256(front)
    assert front_sha256((entry('a'), entry('b'))) == digest
    other = dataclasses.replace(front[1], memory_bytes=Estimate(1.0, 1.0))
    assert front_sha256((front[0], other)) != digest
    assert front_sha256(tuple(reversed(front))) != digest
    assert len(digest) == 64
