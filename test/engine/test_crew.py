# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Threads of engines, and the cores that they may use."""
from __future__ import annotations

import os
import threading

import pytest

from crowdhmt_ros.engine.crew import Crew

pytestmark = pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'),
                                reason='this system gives no choice of cores')


class Engine:
    """Starts a thread as a library does, and ends it again."""

    def __init__(self):
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.end.wait, daemon=True)
        self.thread.start()

    @property
    def cores(self):
        return os.sched_getaffinity(self.thread.native_id)


@pytest.fixture
def engine(monkeypatch):
    crew = Crew()
    with crew.gathering():
        made = Engine()
    made.crew = crew
    yield made
    made.end.set()
    crew.place((), pinned=False)


def a_core():
    return min(os.sched_getaffinity(0))


def test_threads_of_an_engine_are_found_and_told_where_to_run(engine):
    assert engine.crew.place((a_core(),), pinned=False) >= 1
    assert engine.cores == {a_core()}
    engine.crew.place((), pinned=False)
    assert engine.cores == engine.crew.allowed


def test_other_threads_stay_where_they_are(engine):
    other = Engine()
    try:
        engine.crew.place((a_core(),), pinned=True)
        assert other.cores == engine.crew.allowed
        assert os.sched_getaffinity(0) == engine.crew.allowed
    finally:
        other.end.set()


def test_pinned_the_caller_has_the_first_core_and_its_helper_the_second(engine):
    cores = sorted(engine.crew.allowed)
    if len(cores) < 2:
        pytest.skip('one core')
    caller = Engine()
    try:
        engine.crew.callers = lambda: (caller.thread.native_id,)
        engine.crew.place((cores[1], cores[0]), pinned=True)
        assert (caller.cores, engine.cores) == ({cores[1]}, {cores[0]})
    finally:
        caller.end.set()


def test_cores_that_the_process_may_not_use_are_left_out(engine):
    engine.crew.place((4096,), pinned=True)
    assert engine.cores == engine.crew.allowed


def test_a_thread_that_has_ended_is_no_obstacle(engine):
    engine.crew.callers = lambda: (2 ** 22 - 1,)
    assert engine.crew.place((a_core(),), pinned=True) >= 1


def test_the_thread_that_makes_an_engine_keeps_its_name(engine):
    def name():
        with open('/proc/thread-self/comm') as file:
            return file.read()
    before = name()
    with engine.crew.gathering():
        assert name() != before
    assert name() == before
