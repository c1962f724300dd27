# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.nodes.switching import PlanSwitcher, switch_percentile_s
from crowdhmt_ros.types import Candidate, EngineOptions, Placement, SegmentPlacement, Variant


def candidate(name):
    return Candidate(name, Variant((), 0), Placement((SegmentPlacement('whole', name),)),
                     EngineOptions())


A, B, C = candidate('a'), candidate('b'), candidate('c')


class FakePool:
    """A pool whose background work happens when the test says so."""

    def __init__(self, *resident):
        self.resident = {c.candidate_id: c.variant_id for c in resident}
        self.waiting = []
        self.kept = None

    def get(self, wanted):
        return self.resident.get(wanted.candidate_id)

    def prepare_in_background(self, wanted, done):
        self.waiting.append((wanted, done))

    def evict_to(self, budget_bytes, keep):
        self.kept = set(keep)
        return ()

    def finish(self, error=None):
        wanted, done = self.waiting.pop(0)
        if error is None:
            self.resident[wanted.candidate_id] = wanted.variant_id
        done(wanted, None if error else wanted.variant_id, error)


class FakeExecutor:

    def __init__(self):
        self.in_force = []

    def switch(self, wanted, executable, plan_seq):
        self.in_force.append((executable, plan_seq))


@pytest.fixture
def made():
    pool, executor = FakePool(A), FakeExecutor()
    return PlanSwitcher(executor, pool), pool, executor


def test_a_resident_candidate_is_in_force_at_once_and_timed(made):
    switcher, _, executor = made
    assert switcher.apply(A, 1, entered_s=0.0)
    assert executor.in_force == [('a', 1)]
    assert len(switcher.resident_switch_s) == 1


def test_another_one_is_prepared_while_the_old_answers(made):
    switcher, pool, executor = made
    switcher.apply(A, 1)
    assert not switcher.apply(B, 2)
    assert executor.in_force == [('a', 1)]
    assert switcher.preparing == B.candidate_id
    pool.finish()
    assert executor.in_force[-1] == ('b', 2)
    assert switcher.preparing == ''
    assert switcher.switches == 2


def test_a_newer_plan_for_the_same_candidate_does_not_prepare_twice(made):
    switcher, pool, executor = made
    switcher.apply(B, 2)
    switcher.apply(B, 3)
    assert len(pool.waiting) == 1
    pool.finish()
    assert executor.in_force == [('b', 3)]


def test_the_latest_wish_wins(made):
    switcher, pool, executor = made
    switcher.apply(B, 2)
    switcher.apply(A, 3)
    pool.finish()
    assert executor.in_force == [('a', 3)]


def test_a_failed_preparation_leaves_the_old_plan_and_says_so(made):
    switcher, pool, executor = made
    switcher.apply(A, 1)
    switcher.apply(B, 2)
    pool.finish(BackendError('no memory'))
    assert executor.in_force == [('a', 1)]
    assert 'no memory' in switcher.failure
    assert 'the plan before it stays' in switcher.failure
    switcher.apply(A, 3)
    assert switcher.failure == ''


def test_what_answers_is_wanted_or_is_being_prepared_is_kept(made):
    switcher, pool, _ = made
    switcher.apply(A, 1)
    switcher.apply(B, 2)
    switcher.keep_within(10.0)
    assert pool.kept == {A.candidate_id, B.candidate_id}
    assert switcher.keep_within(None) == ()


def test_a_change_is_told_and_a_repetition_is_not(made):
    switcher, _, _ = made
    told = []
    switcher.switched = lambda: told.append(1)
    switcher.apply(A, 1)
    switcher.apply(A, 2)
    assert len(told) == 1


def test_the_percentile_is_of_nearest_rank():
    assert switch_percentile_s([]) is None
    assert switch_percentile_s([3.0, 1.0, 2.0], 0.5) == 2.0
    assert switch_percentile_s(range(1000)) == 990
