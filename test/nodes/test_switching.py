# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.nodes.switching import PlanSwitcher, switch_percentile_s
from test.nodes.plan_fakes import A, B, FakeExecutor, FakePool, Scripted


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
    assert pool.budget_bytes == 6.0, 'no room for what is being prepared'
    assert switcher.keep_within(None) == ()


def test_what_answers_from_the_start_is_kept():
    pool = FakePool(A)
    switcher = PlanSwitcher(FakeExecutor(), pool, in_force_id=A.candidate_id)
    switcher.apply(B, 1)
    switcher.keep_within(1.0)
    assert pool.kept == {A.candidate_id, B.candidate_id}


class Clock:
    """Goes on when the test says so."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


def test_what_cannot_be_prepared_is_tried_again_after_waits_that_grow():
    pool, clock, tries = FakePool(A), Clock(), []
    switcher = PlanSwitcher(FakeExecutor(), pool, monotonic=clock)
    for second in range(200):
        clock.now_s = 100.0 + second
        switcher.apply(B, second)
        if pool.waiting:
            tries.append(second)
            pool.finish(BackendError('disk full'))
        assert switcher.failure.startswith(
            f'plan {second}: {B.candidate_id} cannot be prepared (disk full)')
        assert switcher.preparing == ''
    assert tries == [0, 2, 6, 14, 30, 62, 122, 182]


def test_another_plan_and_what_is_resident_wait_for_no_failure():
    pool, clock = FakePool(A), Clock()
    executor = FakeExecutor()
    switcher = PlanSwitcher(executor, pool, monotonic=clock)
    switcher.apply(B, 1)
    pool.finish(BackendError('disk full'))
    assert switcher.apply(A, 2)
    pool.resident[B.candidate_id] = 'b'
    assert switcher.apply(B, 3)
    assert switcher.failure == ''
    assert executor.in_force == [('a', 2), ('b', 3)]


def test_what_was_prepared_after_all_starts_anew():
    pool, clock = FakePool(A), Clock()
    switcher = PlanSwitcher(FakeExecutor(), pool, monotonic=clock)
    for error in (BackendError('disk full'), BackendError('disk full'), None):
        switcher.apply(B, 1)
        pool.finish(error)
        clock.now_s += 4.0
    switcher.apply(A, 2)
    pool.resident.clear()
    switcher.apply(B, 3)
    pool.finish(BackendError('disk full'))
    clock.now_s += 2.0
    switcher.apply(B, 4)
    assert len(pool.waiting) == 1


def test_every_plan_that_changes_nothing_is_told():
    pool, clock, told = FakePool(A), Clock(), []
    switcher = PlanSwitcher(FakeExecutor(), pool, monotonic=clock)
    switcher.failed = lambda *words: told.append(words)
    switcher.apply(A, 1)
    switcher.apply(B, 2)
    pool.finish(BackendError('disk full'))
    switcher.apply(B, 3)
    assert told == [(B.candidate_id, 2), (B.candidate_id, 3)]


def test_what_answers_already_is_not_told_to_have_failed():
    pool, clock, told = FakePool(A), Clock(), []
    switcher = PlanSwitcher(FakeExecutor(), pool, monotonic=clock)
    switcher.failed = lambda *words: told.append(words)
    switcher.apply(A, 1)
    pool.resident.clear()  # as when the engine is scheduled otherwise
    assert not switcher.again()
    pool.finish(BackendError('disk full'))
    assert 'disk full' in switcher.failure
    assert told == []


class Interrupted(FakePool):
    """A pool in which something else happens right after one lookup."""

    def __init__(self, *resident, then):
        super().__init__(*resident)
        self.then = then

    def get(self, wanted):
        found, then, self.then = super().get(wanted), self.then, None
        if then is not None:
            then()
        return found


def test_a_plan_that_comes_between_preparing_and_switching_stays(made):
    switcher, pool, executor = made
    switcher.apply(B, 2)
    # B is ready and still wanted; plan 3 is in force before B can take its place.
    switcher._lock = Scripted(switcher._lock, 2, lambda: switcher.apply(A, 3))
    pool.finish()
    assert executor.in_force == [('a', 3)]
    assert switcher.keep_within(0.0) == ()
    assert pool.kept == {A.candidate_id, ''}


def test_a_plan_that_comes_between_lookup_and_switching_stays():
    executor = FakeExecutor()
    pool = Interrupted(A, B, then=lambda: switcher.apply(B, 2))
    switcher = PlanSwitcher(executor, pool)
    assert not switcher.apply(A, 1)
    assert executor.in_force == [('b', 2)]


def test_a_preparation_that_ends_between_lookup_and_asking_is_not_lost():
    executor, clock = FakeExecutor(), Clock()
    pool = Interrupted(A, then=None)
    switcher = PlanSwitcher(executor, pool, monotonic=clock)
    switcher.apply(B, 1)

    def fails_long_ago():
        pool.finish(BackendError('no memory'))
        clock.now_s += 2.0

    pool.then = fails_long_ago
    assert not switcher.apply(B, 2)
    assert len(pool.waiting) == 1, 'B was given up'
    pool.finish()
    assert executor.in_force == [('b', 2)]


def test_a_change_that_took_time_is_told_one_at_once_is_known(made):
    switcher, pool, _ = made
    told = []
    switcher.switched = lambda: told.append(1)
    assert switcher.apply(A, 1)
    assert not told
    assert not switcher.apply(B, 2)
    pool.finish()
    assert len(told) == 1
    assert switcher.apply(B, 3)
    assert len(told) == 1


def test_the_percentile_is_of_nearest_rank():
    assert switch_percentile_s([]) is None
    assert switch_percentile_s([3.0, 1.0, 2.0], 0.5) == 2.0
    assert switch_percentile_s(range(1000)) == 990
