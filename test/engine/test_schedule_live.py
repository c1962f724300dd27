# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The schedule changes again and again on the real engine while a worker answers."""
from __future__ import annotations

import os
from collections import Counter

import pytest

from crowdhmt_ros.engine.crew import CREW
from crowdhmt_ros.nodes.engine_schedule import EngineSchedule, workers
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.types import CoreLoad
from test.engine.test_switching_live import Served

CHANGES = 12


@pytest.fixture
def cores():
    found = sorted(CREW.allowed)[:2]
    if len(found) < 2:
        pytest.skip('one core')
    before = CREW.callers
    yield found
    CREW.callers = before
    CREW.place((), pinned=False)


def test_no_frame_is_lost_however_often_neighbours_come_and_go(bundle, segments, cores):
    loads = {'quiet': [CoreLoad(c, 0.0, 1.0) for c in cores],
             'first': [CoreLoad(cores[0], 1.0, 0.0), CoreLoad(cores[1], 0.0, 0.5)],
             'second': [CoreLoad(cores[0], 0.0, 0.5), CoreLoad(cores[1], 1.0, 0.0)]}
    now = loads['quiet']
    with Served(bundle, segments) as served:
        pair = next(c for c in served.candidates if c.engine.threads == 2)
        schedule = EngineSchedule(
            lambda name, options: None if options.spinning else 0.02 / options.threads,
            lambda: now)
        switcher = PlanSwitcher(served.executor, schedule.over(served.pool))
        switcher.apply(pair, 1)
        served.wait_for(lambda: served.in_force == pair.candidate_id)
        executables = set()
        for change in range(CHANGES):
            name = ('first', 'quiet', 'second')[change % 3]
            now = loads[name]
            schedule.look(switcher)
            served.wait_for(lambda: not switcher.preparing)
            answered = sum(served.told.values())
            served.wait_for(lambda: sum(served.told.values()) > answered + 2)  # noqa: B023
            executables.add(id(served.executor.active.executable))
            caller, = workers()
            alone = {'first': {cores[1]}, 'second': {cores[0]}}
            assert os.sched_getaffinity(caller) == alone.get(name, CREW.allowed)
        assert len(executables) == 2, 'one that spins and one that sleeps'
        assert served.in_force == pair.candidate_id
    assert served.told == Counter(range(served.frames))
    assert not served.server.failed
    said = {(index, scores) for name, index, scores in served.said if name == pair.candidate_id}
    assert len(said) == len({index for index, _ in said})
