# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A plan's candidate, run as the moment demands."""
from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.schedule import Setting
from crowdhmt_ros.engine.scheduled import ScheduledPool, Scheduler
from crowdhmt_ros.types import (
    HERE,
    Candidate,
    CoreLoad,
    EngineOptions,
    Placement,
    Segment,
    SegmentPlacement,
    TensorSpec,
    Variant,
)

SPECS = (TensorSpec('x', 'float32', (1,)),)
CANDIDATE = Candidate('full', Variant((), 0),
                      Placement((SegmentPlacement('whole', 'full'),)), EngineOptions(threads=2))
QUIET = (CoreLoad(0, 0.0, 1.0), CoreLoad(1, 0.0, 1.0))
BUSY = (CoreLoad(0, 0.0, 0.5), CoreLoad(1, 1.0, 0.0))


class FakeExecutable:
    """Remembers its options."""

    memory_bytes = 10

    def __init__(self, options):
        self.options = options
        self.inputs = self.outputs = SPECS

    def run(self, inputs, outputs):
        """Do nothing."""


class FakeBackend:
    """Compiles at once."""

    name = 'onnxruntime'

    def compile(self, segment, options):
        return FakeExecutable(options)


class FakeCrew:
    """Notes where threads were told to run."""

    allowed = frozenset((0, 1))

    def __init__(self):
        self.told = []

    def place(self, cores, *, pinned):
        self.told.append((tuple(cores), pinned))


class World:
    """A pool, a scheduler and a load that can be set."""

    def __init__(self):
        self.loads, self.crew = QUIET, FakeCrew()
        self.providers = {'onnxruntime_cuda': ('CUDAExecutionProvider', 'CPUExecutionProvider')}
        self.scheduler = Scheduler(
            lambda: self.loads, crew=self.crew, elsewhere=lambda engine: self.providers.get(
                engine, ('CPU',))[0] == 'CUDAExecutionProvider')
        segments = {'full': Segment('full', 'ab', '/nowhere', SPECS, SPECS, 0)}
        self.inner = Pool(FakeBackend(), segments)
        self.active = None
        self.pool = ScheduledPool(self.inner, self.scheduler, answering=lambda: self.active)

    def look(self, loads, candidate=CANDIDATE):
        self.loads = loads
        return self.scheduler.look(candidate)

    def prepared(self, candidate=CANDIDATE):
        done, told = threading.Event(), []

        def note(*words):
            told.append(words)
            done.set()
        self.pool.prepare_in_background(candidate, note)
        assert done.wait(5.0)
        return told[0]


@pytest.fixture
def world():
    made = World()
    yield made
    made.inner.close()


def test_before_the_first_look_the_plans_own_options_run(world):
    assert world.prepared()[1].options == CANDIDATE.engine


def test_a_quiet_machine_gets_spinning_threads_under_the_plans_name(world):
    assert world.look(QUIET)
    candidate, executable, error = world.prepared()
    assert candidate is CANDIDATE
    assert error is None
    assert executable.options == replace(CANDIDATE.engine, spinning=True)
    assert world.pool.get(CANDIDATE) is executable


def test_a_neighbour_asks_for_another_executable_and_moves_threads_at_once(world):
    world.look(QUIET)
    world.prepared()
    assert world.look(BUSY)
    assert world.crew.told[-1] == ((0, 1), True)
    assert world.pool.get(CANDIDATE) is None  # until it is prepared, the old one answers
    assert not world.prepared()[1].options.spinning
    assert world.pool.get(CANDIDATE).options == CANDIDATE.engine


def test_the_same_load_again_asks_for_nothing(world):
    world.look(QUIET)
    assert not world.look(QUIET)
    assert world.crew.told == []


def test_threads_are_set_free_when_the_neighbour_has_gone(world):
    world.look(BUSY)
    world.look(QUIET)
    assert world.crew.told[-1] == ((), False)


def test_both_settings_stay_resident_until_room_is_needed(world):
    world.look(QUIET)
    world.prepared()
    world.look(BUSY)
    world.prepared()
    world.look(QUIET)
    assert world.pool.get(CANDIDATE).options.spinning
    world.pool.evict_to(0, keep=(CANDIDATE.candidate_id,))
    assert world.pool.get(CANDIDATE) is not None
    assert world.pool.missing_bytes(CANDIDATE) == 0


def test_what_answers_as_an_earlier_schedule_wanted_it_is_kept_until_it_answers_no_more(world):
    world.look(QUIET)
    world.active = world.prepared()[1]
    world.look(BUSY)
    assert world.pool.get(CANDIDATE) is None, 'not ready as the schedule wants it now'
    world.pool.evict_to(0, keep=(CANDIDATE.candidate_id,))
    assert world.inner.memory_bytes == world.active.memory_bytes
    world.active = world.prepared()[1]
    world.pool.evict_to(0, keep=(CANDIDATE.candidate_id,))
    assert world.inner.memory_bytes == world.active.memory_bytes, 'the other one has gone'
    world.look(QUIET)
    assert world.pool.get(CANDIDATE) is None


def test_who_runs_as_the_schedule_wants_keeps_no_other_way(world):
    world.look(QUIET)
    world.prepared()
    world.look(BUSY)
    world.active = world.prepared()[1]
    other = replace(CANDIDATE, variant_id='other')
    world.pool.evict_to(0, keep=(CANDIDATE.candidate_id, other.candidate_id))
    assert world.inner.memory_bytes == world.active.memory_bytes


def test_an_engine_without_a_choice_keeps_the_plans_options(world):
    world.look(QUIET)
    other = replace(CANDIDATE, engine=EngineOptions(backend='ncnn', threads=2))
    assert world.scheduler.arranged(other) is other
    single = replace(CANDIDATE, engine=EngineOptions(threads=1))
    assert world.scheduler.arranged(single) is single
    away = replace(CANDIDATE, placement=Placement((
        SegmentPlacement('head', 'full'), SegmentPlacement('tail', 'full', 'drone', 'int8'))))
    assert world.scheduler.arranged(away) is away


CUDA = replace(CANDIDATE, engine=EngineOptions('onnxruntime_cuda', threads=2))


def test_an_accelerator_is_fed_by_one_thread_from_the_first_executable_on(world):
    """As its two threads and its one are the same work, plans for either share it."""
    single = replace(CUDA, engine=replace(CUDA.engine, threads=1))
    candidate, executable, error = world.prepared(CUDA)
    assert candidate is CUDA
    assert error is None
    assert executable.options == single.engine
    assert world.pool.get(single) is executable
    world.look(BUSY, CUDA)
    assert world.pool.get(CUDA) is executable
    assert 'one thread feeds it' in world.scheduler.schedule.reason


def test_threads_of_an_accelerator_are_kept_to_no_core(world):
    world.look(BUSY)
    assert world.crew.told[-1] == ((0, 1), True)
    assert world.look(BUSY, CUDA)
    assert world.crew.told[-1] == ((), False)


@pytest.mark.parametrize('loads', [QUIET, BUSY, ()], ids=['quiet', 'busy', 'unknown'])
def test_a_provider_that_does_not_start_gives_the_plan_its_threads_back(world, loads):
    world.look(loads, CANDIDATE)
    assert world.prepared(CUDA)[1].options.threads == 1
    world.look(loads, CUDA)
    world.providers['onnxruntime_cuda'] = ('CPUExecutionProvider',)
    assert world.look(loads, CUDA)
    assert world.scheduler.arranged(CUDA) is CUDA
    assert world.prepared(CUDA)[1].options == CUDA.engine
    assert not world.look(loads, CUDA)


def test_cores_that_the_process_may_not_use_are_not_counted_upon(world):
    world.crew.allowed = frozenset((1,))
    world.look(BUSY)
    assert world.scheduler.schedule.setting.threads == 1


def test_measured_times_of_all_segments_here_are_the_candidates():
    found = Scheduler(lambda: QUIET, infer_s=lambda name, options: 0.01 * options.threads
                      if not options.spinning else None, crew=FakeCrew())
    assert found.work(CANDIDATE).latency_s == {Setting(1): 0.01, Setting(2): 0.02}
    assert CANDIDATE.placement.segments[0].device == HERE


def test_a_candidate_is_arranged_once_for_each_schedule(world):
    assert world.scheduler.arranged(CANDIDATE) is CANDIDATE
    world.look(QUIET)
    spinning = world.scheduler.arranged(CANDIDATE)
    assert spinning.engine.spinning
    assert world.scheduler.arranged(CANDIDATE) is spinning
    world.look(BUSY)
    assert not world.scheduler.arranged(CANDIDATE).engine.spinning


def test_a_plan_with_more_threads_is_arranged_by_its_own_work(world):
    single = replace(CANDIDATE, engine=EngineOptions(threads=1))
    world.loads = QUIET
    world.scheduler.look(single)
    assert world.scheduler.schedule.setting == Setting(1)
    assert world.scheduler.arranged(CANDIDATE).engine == EngineOptions(threads=2, spinning=True)


def test_without_readings_nothing_changes(world):
    assert not world.look(())
    assert world.scheduler.schedule is None
