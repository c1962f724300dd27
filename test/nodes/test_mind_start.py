# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plans are made at once, and again from more when engines have been compared."""
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.nodes import mind_start
from crowdhmt_ros.nodes.mind_start import MindStart
from crowdhmt_ros.nodes.params import AdaptationPlannerParameters
from crowdhmt_ros.profiling.engine_tables import EngineTables, Trial
from crowdhmt_ros.types import EngineOptions

TINY = Path(__file__).resolve().parents[1] / 'bundle' / 'data' / 'tiny'
ENGINES = ('onnxruntime', 'ncnn')


@pytest.fixture(autouse=True)
def two_engines(monkeypatch):
    monkeypatch.setattr(mind_start, 'to_choose_from', lambda: ENGINES)


@pytest.fixture(autouse=True)
def rewritten(monkeypatch):
    """Note which graphs are to be rewritten, and rewrite none; the real thing is below."""
    found = []

    def keep(graphs, *, check):
        check()
        found.append(tuple(segment.segment_id for segment, _ in graphs))

    monkeypatch.setattr(mind_start, 'keep_graphs', keep)
    return found


def with_ncnn(ready):
    """Return what is chosen from with one more candidate, as if ncnn had won."""
    entry = ready.front[0]
    other = replace(entry, candidate=replace(entry.candidate, engine=EngineOptions('ncnn')))
    trials = {'k': Trial(EngineOptions('openvino'), 'b', None, reason='no rule for Gelu')}
    return replace(ready, front=(*ready.front, other), engines=EngineTables('d', 's', trials))


def started(tmp_path, **changes):
    minds = []
    start = MindStart(AdaptationPlannerParameters(**{
        'bundle': str(TINY), 'cache_dir': str(tmp_path), 'threads': (1,), 'calibrate_s': 1.0,
        **changes}), minds.append)
    start.start()
    start._thread.join(60.0)
    assert not start._thread.is_alive()
    return start, minds


def test_the_first_front_is_there_before_engines_are_compared(tmp_path, monkeypatch):
    seen = []

    def choose(bundle, ready, cache_dir, *, wishes, longest_s, progress):
        seen.append((wishes.engines, longest_s))
        progress(0.5, 'engines of wide')
        return with_ncnn(ready)

    monkeypatch.setattr(mind_start, 'choose_engines', choose)
    start, minds = started(tmp_path, engines_s=7.0)
    assert seen == [(ENGINES, 7.0)]
    assert [any(e.candidate.engine.backend == 'ncnn' for e in m.front) for m in minds] == [
        False, True]
    assert minds[0].identity.front_sha256 != minds[1].identity.front_sha256
    assert minds[0].identity.config_sha256 == minds[1].identity.config_sha256
    assert '1 candidates on ncnn' in start.engines
    assert 'openvino is out: no rule for Gelu' in start.engines


def test_nothing_is_told_twice_where_nothing_is_faster(tmp_path, monkeypatch):
    monkeypatch.setattr(mind_start, 'choose_engines',
                        lambda bundle, ready, cache_dir, **options: ready)
    assert len(started(tmp_path)[1]) == 1


def test_a_comparison_that_fails_leaves_the_plans_as_they_are(tmp_path, monkeypatch, caplog):
    def choose(*args, **options):
        raise CalibrationError('no process can be started')

    monkeypatch.setattr(mind_start, 'choose_engines', choose)
    start, minds = started(tmp_path)
    assert len(minds) == 1
    assert start.failure is None
    assert 'no process can be started' in start.engines
    assert 'no process can be started' in caplog.text


def short_of_memory(ready):
    """Return what is chosen from where the memory of one candidate could not be measured."""
    trials = {'k': Trial(EngineOptions('openvino'), 'b', 0.5, reason='killed', put_off=True)}
    return replace(ready, engines=EngineTables('d', 's', trials))


@pytest.fixture
def waits(monkeypatch):
    """Note for how long is waited for memory, and do not wait."""
    found = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            found.append(timeout)
            return self.is_set()

    made = MindStart.__init__

    def without_waiting(self, *arguments):
        made(self, *arguments)
        self._stop = Stop()

    monkeypatch.setattr(MindStart, '__init__', without_waiting)
    return found


def test_what_there_was_no_memory_for_is_tried_again_after_growing_waits(
        tmp_path, monkeypatch, waits):
    seen = []

    def choose(bundle, ready, cache_dir, *, wishes, longest_s, progress):
        seen.append(longest_s)
        return with_ncnn(ready) if len(seen) == 4 else short_of_memory(ready)

    monkeypatch.setattr(mind_start, 'choose_engines', choose)
    start, minds = started(tmp_path, engines_s=7.0)
    assert seen == [7.0, 0.0, 0.0, 0.0], 'nothing else is compared meanwhile'
    assert waits == [60.0, 120.0, 240.0]
    assert [any(e.candidate.engine.backend == 'ncnn' for e in m.front) for m in minds] == [
        False, True]


def test_a_robot_that_is_to_be_left_alone_tries_nothing_again(tmp_path, monkeypatch, waits):
    seen = []
    monkeypatch.setattr(mind_start, 'choose_engines', lambda bundle, ready, cache_dir, **options:
                        seen.append(options['longest_s']) or short_of_memory(ready))
    started(tmp_path, engines_s=0.0)
    assert (seen, waits) == ([0.0], [])


def test_who_stops_it_does_not_wait_until_there_is_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(mind_start, 'choose_engines', lambda bundle, ready, cache_dir, **options:
                        short_of_memory(ready))
    waiting = threading.Event()
    monkeypatch.setattr(mind_start, 'hold_s', lambda times: waiting.set() or 60.0)
    start = MindStart(AdaptationPlannerParameters(
        bundle=str(TINY), cache_dir=str(tmp_path), threads=(1,), calibrate_s=1.0), lambda m: None)
    start.start()
    assert waiting.wait(60.0)
    start.stop(timeout_s=10.0)
    assert not start._thread.is_alive()


@pytest.mark.parametrize('changes', [{'backend': 'onnxruntime'}, {'pinned_candidate': 'wide'}],
                         ids=str)
def test_a_named_engine_or_a_static_plan_keeps_to_its_engine(tmp_path, monkeypatch, changes):
    wished = []
    monkeypatch.setattr(mind_start, 'choose_engines', lambda bundle, ready, cache_dir, **options:
                        wished.append(options['wishes'].engines) or ready)
    _, minds = started(tmp_path, **changes)
    assert wished == [()]
    assert {e.candidate.engine.backend for e in minds[0].front} == {'onnxruntime'}


def test_who_stops_it_does_not_wait_for_the_comparison(tmp_path, monkeypatch):
    begun = []

    def choose(bundle, ready, cache_dir, *, wishes, longest_s, progress):
        while True:
            begun.append(True)
            progress(0.0, 'engines of wide')
            time.sleep(0.01)

    monkeypatch.setattr(mind_start, 'choose_engines', choose)
    start = MindStart(AdaptationPlannerParameters(
        bundle=str(TINY), cache_dir=str(tmp_path), threads=(1,), calibrate_s=1.0), lambda m: None)
    start.start()
    until_s = time.monotonic() + 60.0
    while not begun and time.monotonic() < until_s:
        time.sleep(0.01)
    start.stop(timeout_s=10.0)
    assert not start._thread.is_alive()
    assert start.engines == '0 % compared: engines of wide'


def test_graphs_are_rewritten_behind_the_first_plans_whatever_the_engine(
        tmp_path, monkeypatch, rewritten):
    monkeypatch.setattr(mind_start, 'choose_engines',
                        lambda bundle, ready, cache_dir, **options: ready)
    _, minds = started(tmp_path, backend='onnxruntime', memory_modes=('fast',))
    here = {s.segment_id for e in minds[0].front for s in e.candidate.placement.segments}
    assert here <= set(rewritten[0])
    started(tmp_path, pinned_candidate='wide', memory_modes=('fast',))
    assert rewritten[1] == ('wide/whole',)


def test_what_the_comparison_has_added_is_rewritten_too(tmp_path, monkeypatch, rewritten):
    monkeypatch.setattr(mind_start, 'choose_engines',
                        lambda bundle, ready, cache_dir, **options: with_ncnn(ready))
    started(tmp_path)
    assert len(rewritten) == 2


def test_who_stops_it_does_not_wait_for_the_graphs(tmp_path, monkeypatch):
    begun = []

    def keep(graphs, *, check):
        while True:
            begun.append(True)
            check()
            time.sleep(0.01)

    monkeypatch.setattr(mind_start, 'keep_graphs', keep)
    start = MindStart(AdaptationPlannerParameters(
        bundle=str(TINY), cache_dir=str(tmp_path), threads=(1,), calibrate_s=1.0), lambda m: None)
    start.start()
    until_s = time.monotonic() + 60.0
    while not begun and time.monotonic() < until_s:
        time.sleep(0.01)
    start.stop(timeout_s=10.0)
    assert not start._thread.is_alive()
    assert start.engines == '', 'stopped: nothing failed'
