# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Every reader of what comes from another robot, under wrong input.

CROWDHMT_FUZZ_INPUTS sets how many inputs all readers get together; `crowdhmt bench pair` takes
100000.
"""
import os

import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks import _pair_fuzz
from benchmarks._fuzz_targets import Target, fuzz, plain, targets

INPUTS = int(os.environ.get('CROWDHMT_FUZZ_INPUTS', '10000'))
TARGETS = targets()


@pytest.mark.parametrize('target', TARGETS, ids=lambda t: t.name)
def test_no_input_crashes_a_reader_or_makes_it_allocate_more_than_declared(target):
    count = -(-INPUTS // len(TARGETS))
    outcome = fuzz(target, count, seed=1)
    assert outcome.crashes == []
    assert outcome.peak_bytes <= outcome.cap_bytes
    assert outcome.inputs == outcome.accepted + outcome.refused >= count
    assert outcome.refused > 0.1 * count
    assert outcome.accepted > 0.005 * count


def careless(size):
    if size == 3:
        raise KeyError(size)
    return np.zeros(size * 1000, np.uint8)


def test_the_fuzzer_sees_a_crash_and_a_large_allocation():
    target = Target('careless', 5000, st.integers(0, 9), 0, plain(careless))
    outcome = fuzz(target, 10, seed=1)
    assert len(outcome.crashes) == 1
    assert outcome.crashes[0].startswith('KeyError')
    assert outcome.cap_bytes < 9000 <= outcome.peak_bytes


def test_a_process_that_dies_counts_as_a_crash():
    outcome = _pair_fuzz.one_outcome('no such reader', 10, 5)
    figures = {f.key: f for f in _pair_fuzz.figures_of([outcome], 0)}
    assert figures['fuzz_crashes'].holds is False
    assert figures['fuzz_allocation_cap_ratio'].holds is False
    assert 'StopIteration' in figures['fuzz_crashes'].how


def test_a_reader_apart_tells_what_it_did():
    outcome = _pair_fuzz.one_outcome('key', 1, 50)
    figures = {f.key: f for f in _pair_fuzz.figures_of([outcome], 50)}
    assert figures['fuzz_crashes'].holds is True
    assert figures['fuzz_allocation_cap_ratio'].holds is True
    assert outcome['inputs'] >= 50


def test_fewer_inputs_than_asked_for_hold_nothing():
    outcome = {'name': 'x', 'inputs': 5, 'accepted': 1, 'crash_count': 0, 'crashes': [],
               'peak_bytes': 1, 'cap_bytes': 2, 'grown_bytes': 0}
    assert [f.holds for f in _pair_fuzz.figures_of([outcome], 6)[:2]] == [False, False]
    assert [f.holds for f in _pair_fuzz.figures_of([outcome], 5)[:2]] == [True, True]
