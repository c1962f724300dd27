# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The schedule of the engine, looked at and carried out once a second."""
from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from crowdhmt_ros.engine.crew import CREW
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.nodes.engine_schedule import EngineSchedule, workers
from crowdhmt_ros.nodes.serving import WORKER
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import CoreLoad, EngineOptions
from test.nodes.plan_fakes import A, FakeExecutor, FakePool

PAIR = replace(A, engine=EngineOptions(threads=2))


class AskedPool(FakePool):
    """Remembers what it was asked to prepare."""

    def __init__(self, *resident):
        super().__init__(*resident)
        self.asked = []

    def prepare_in_background(self, wanted, done):
        self.asked.append(wanted)
        super().prepare_in_background(wanted, done)


class World:
    """A switcher over a pool that is scheduled."""

    def __init__(self):
        cores = sorted(CREW.allowed)
        if len(cores) < 2:
            pytest.skip('one core')
        self.busy = [CoreLoad(c, 1.0 if c == cores[-1] else 0.0, 0.0) for c in cores]
        self.quiet = [CoreLoad(c, 0.0, 1.0) for c in cores]
        self.loads = self.quiet
        self.schedule = EngineSchedule(
            lambda name, options: None if options.spinning else 0.02 / options.threads,
            lambda: self.loads, callers=lambda: ())
        self.pool, self.executor = AskedPool(PAIR), FakeExecutor()
        self.switcher = PlanSwitcher(self.executor, self.schedule.over(self.pool))

    def look(self):
        self.schedule.look(self.switcher)


@pytest.fixture
def world():
    before = CREW.callers
    yield World()
    CREW.callers = before
    CREW.place((), pinned=False)


def test_before_the_first_plan_there_is_nothing_to_schedule(world):
    world.look()
    assert world.schedule.reason == ''


def test_what_the_schedule_wants_is_prepared_while_the_plan_stays_in_force(world):
    assert world.switcher.apply(PAIR, 1)
    world.look()
    assert world.switcher.preparing == PAIR.candidate_id
    assert [c.engine.spinning for c in world.pool.asked] == [True]
    world.pool.finish()
    assert world.executor.in_force == [('a', 1), ('a', 1)]
    assert world.switcher.switches == 1, 'the plan did not change'
    assert 'spin' in world.schedule.reason


def test_nothing_is_asked_for_again_while_nothing_changes(world):
    world.switcher.apply(PAIR, 1)
    world.look()
    world.pool.finish()
    for _ in range(3):
        world.look()
    assert len(world.pool.asked) == 1


def test_a_change_while_something_is_prepared_is_made_up_for(world):
    world.switcher.apply(PAIR, 1)
    world.loads = world.busy if len(world.busy) == 2 else world.quiet
    world.look()
    world.loads = world.quiet
    world.look()
    if world.pool.waiting:
        world.pool.finish()
    world.look()
    assert world.schedule.scheduler.arranged(PAIR).engine.spinning
    assert world.pool.asked[-1].engine.spinning


def test_what_cannot_be_prepared_leaves_what_answers_and_is_not_tried_again(world):
    world.switcher.apply(PAIR, 1)
    world.look()
    world.pool.finish(BackendError('no memory'))
    assert world.executor.in_force == [('a', 1)]
    world.look()
    world.look()
    assert len(world.pool.asked) <= 2


def test_the_thread_that_has_frames_answered_is_found_by_its_name():
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=WORKER, daemon=True)
    thread.start()
    try:
        assert thread.native_id in workers()
    finally:
        end.set()
