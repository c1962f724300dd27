# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import threading
import time
import weakref

import pytest

from crowdhmt_ros.engine import background
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    NO_READING,
    Placement,
    Reading,
    SegmentPlacement,
    TensorSpec,
)


class FakeExecutable:
    inputs = (TensorSpec('image', 'float32', (1, 3, 64, 64)),)
    outputs = (TensorSpec('logits', 'float32', (1, 4)),)

    def __init__(self, memory_bytes=100):
        self.memory_bytes = memory_bytes
        self.runs = 0

    def run(self, inputs, outputs):
        self.runs += 1


class FakeBackend:
    """Compiles when let, notes what, fails where told."""

    name, warnings = 'onnxruntime', ()

    def __init__(self):
        self.compiled = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.started = threading.Event()
        self.failing = set()
        self.at_once = 0
        self.most_at_once = 0

    def providers(self):
        return ()

    def compile(self, segment, options):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.started.set()
        assert self.may_go.wait(10)
        self.at_once -= 1
        self.compiled.append((segment.segment_id, options.threads, options.memory_mode))
        if segment.segment_id in self.failing:
            raise BackendError('cannot compile %s' % segment.segment_id)
        return FakeExecutable()


class Answers:
    """Collects what the background thread reports."""

    def __init__(self):
        self.items = []
        self.changed = threading.Condition()

    def __call__(self, candidate, executable, error):
        with self.changed:
            self.items.append((candidate.candidate_id, executable, error))
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.items) >= count, 10), self.items
        return self.items


class Seen(list):
    """Collects the types of the errors that end threads."""

    def __call__(self, told):
        self.append(told.exc_type)

    def wait(self, count):
        deadline_s = time.monotonic() + 10
        while len(self) < count and time.monotonic() < deadline_s:
            time.sleep(0.001)
        return self


@pytest.fixture
def seen(monkeypatch):
    found = Seen()
    monkeypatch.setattr(threading, 'excepthook', found)
    return found


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def pool(backend, segments):
    pool = Pool(backend, segments)
    yield pool
    backend.may_go.set()
    pool.close()


@pytest.fixture
def candidates(bundle):
    return bundle.candidates()


def test_nothing_is_resident_before_it_was_prepared(pool, candidates):
    assert pool.get(candidates[0]) is None
    executable = pool.prepare(candidates[0])
    assert pool.get(candidates[0]) is executable
    assert executable.runs >= 1, 'not warmed up'
    assert pool.prepare(candidates[0]) is executable
    assert pool.get(candidates[1]) is None


def test_a_failed_preparation_changes_nothing_and_may_be_tried_again(pool, backend, candidates):
    good = pool.prepare(candidates[0])
    backend.failing.add('narrow/whole')
    narrow = candidates[-1]
    with pytest.raises(BackendError, match='narrow/whole'):
        pool.prepare(narrow)
    assert pool.get(candidates[0]) is good
    assert pool.get(narrow) is None
    backend.failing.clear()
    assert pool.prepare(narrow) is pool.get(narrow)


def test_a_candidate_of_a_segment_that_was_not_prepared_is_refused(backend, segments, candidates):
    pool = Pool(backend, {'narrow/whole': segments['narrow/whole']})
    with pytest.raises(BackendError, match='wide/whole'):
        pool.prepare(candidates[0])


def test_background_preparation_reports_and_does_not_wait(pool, backend, candidates):
    backend.may_go.clear()
    answers = Answers()
    pool.prepare_in_background(candidates[0], answers)
    assert backend.started.wait(10)
    assert answers.items == []
    backend.may_go.set()
    (name, executable, error), = answers.wait(1)
    assert (name, error) == (candidates[0].candidate_id, None)
    assert executable is pool.get(candidates[0])


def test_background_failure_is_reported_and_the_thread_goes_on(pool, backend, candidates):
    backend.failing.add('wide/whole')
    answers = Answers()
    pool.prepare_in_background(candidates[0], answers)
    answers.wait(1)
    pool.prepare_in_background(candidates[-1], answers)
    failed, good = answers.wait(2)
    assert failed[1] is None
    assert isinstance(failed[2], BackendError)
    assert good[1] is pool.get(candidates[-1])
    assert good[2] is None


def test_the_latest_wish_is_served_first_and_equal_wishes_once(pool, backend, candidates):
    backend.may_go.clear()
    answers = Answers()
    pool.prepare_in_background(candidates[0], answers)
    assert backend.started.wait(10)
    for index in (1, 2, 3, 1, 2, 1):
        pool.prepare_in_background(candidates[index], answers)
    backend.may_go.set()
    order = [name for name, _, _ in answers.wait(7)]
    ids = [c.candidate_id for c in candidates]
    assert order == [ids[0], ids[1], ids[1], ids[1], ids[2], ids[2], ids[3]]
    assert len(backend.compiled) == 4


def test_a_resident_candidate_is_reported_without_compiling(pool, backend, candidates):
    pool.prepare(candidates[0])
    answers = Answers()
    pool.prepare_in_background(candidates[0], answers)
    (_, executable, error), = answers.wait(1)
    assert executable is pool.get(candidates[0])
    assert error is None
    assert len(backend.compiled) == 1


def test_a_callback_may_ask_for_more(pool, candidates):
    answers = Answers()

    def again(candidate, executable, error):
        answers(candidate, executable, error)
        pool.prepare_in_background(candidates[1], answers)

    pool.prepare_in_background(candidates[0], again)
    assert len(answers.wait(2)) == 2


def test_a_defect_in_a_callback_is_seen_and_does_not_stop_the_next_wish(
        pool, backend, candidates, seen):
    backend.may_go.clear()
    answers = Answers()

    def defect(candidate, executable, error):
        raise ZeroDivisionError

    pool.prepare_in_background(candidates[0], answers)
    assert backend.started.wait(10)
    pool.prepare_in_background(candidates[2], answers)
    pool.prepare_in_background(candidates[1], defect)
    backend.may_go.set()
    assert {name for name, _, _ in answers.wait(2)} == {
        candidates[0].candidate_id, candidates[2].candidate_id}
    assert seen.wait(1) == [ZeroDivisionError]


def test_many_threads_at_once_compile_each_candidate_once(pool, backend, candidates):
    found = []

    def ask():
        found.extend((c.candidate_id, pool.prepare(c)) for c in candidates)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * len(candidates)
    assert len(set(found)) == len(candidates)
    assert len(backend.compiled) == len(candidates)
    assert backend.most_at_once == 1


def test_eviction_lets_the_least_recently_used_go_and_keeps_what_it_must(pool, candidates):
    first, second, third, fourth = candidates[:4]
    for candidate in (first, second, third, fourth):
        pool.prepare(candidate)
    pool.get(first)
    assert pool.memory_bytes == 400
    gone = pool.evict_to(200, keep=[third.candidate_id])
    assert gone == (second.candidate_id, fourth.candidate_id)
    assert pool.get(first) is not None
    assert pool.memory_bytes == 200
    assert pool.evict_to(0, keep=[third.candidate_id]) == (first.candidate_id,)
    assert pool.evict_to(0, keep=[third.candidate_id]) == ()
    assert [pool.get(c) is not None for c in candidates[:4]] == [False, False, True, False]


def test_eviction_within_the_budget_lets_nothing_go(pool, candidates):
    pool.prepare(candidates[0])
    assert pool.evict_to(100) == ()
    assert pool.evict_to(float('inf')) == ()


def test_an_engine_that_ends_keeps_nobody_waiting_for_the_pool(pool, candidates):
    asked = []

    def end():
        asked.append(pool.memory_bytes)  # would wait for ever if the pool were locked

    weakref.finalize(pool.prepare(candidates[0]), end)
    pool.prepare(candidates[1])
    pool.evict_to(0, keep=[candidates[1].candidate_id])
    assert asked == [100]


def test_what_was_let_go_of_is_given_back_before_more_is_made(
        pool, backend, candidates, monkeypatch):
    told = []
    given_back = threading.Event()

    def note():
        told.append(len(backend.compiled))
        given_back.set()

    monkeypatch.setattr(background, 'trim', note)
    pool.prepare(candidates[0])
    backend.may_go.clear()
    answers = Answers()
    backend.started.clear()
    pool.prepare_in_background(candidates[1], answers)
    assert backend.started.wait(10)
    pool.prepare_in_background(candidates[2], answers)
    pool.evict_to(0)  # while the thread is busy: both wait for it
    backend.may_go.set()
    answers.wait(2)
    assert given_back.wait(10)
    assert told == [2], 'not between the two'
    pool.evict_to(0, keep=[candidates[2].candidate_id])
    pool.let_go()
    assert len(told) > 1, 'the last one stays'


def test_the_table_counts_before_plans_and_both_before_the_own_figure(
        backend, segments, candidates):
    table = {}
    pool = Pool(backend, segments, measured=lambda segment, options: table.get(
        (segment.segment_id, options), NO_READING))
    first, second = candidates[:2]
    pool.prepare(first)
    pool.prepare(second)
    assert pool.memory == Reading(200.0, ESTIMATED)
    pool.predict(first, Reading(7.0, MEASURED))
    assert pool.memory == Reading(107.0, ESTIMATED)
    table[('wide/whole', first.engine)] = Reading(30.0, MEASURED)
    table[('wide/whole', second.engine)] = Reading(20.0, MEASURED)
    assert pool.memory == Reading(50.0, MEASURED)
    assert pool.evict_to(30) == (first.candidate_id,)
    assert pool.memory_bytes == 20


def test_what_is_to_be_prepared_is_known_beforehand(pool, candidates):
    assert pool.missing_bytes(candidates[0]) == 0
    pool.predict(candidates[0], Reading(70.0, ESTIMATED))
    pool.predict(candidates[1], NO_READING)
    assert pool.missing_bytes(candidates[0]) == 70
    pool.prepare(candidates[0])
    assert pool.missing_bytes(candidates[0]) == 0


def placed(candidate, *segments):
    return dataclasses.replace(candidate, placement=Placement(tuple(
        SegmentPlacement('piece', name, device, codec) for name, device, codec in segments)))


def test_one_segment_under_several_placements_is_compiled_and_counted_once(
        pool, backend, candidates):
    whole = candidates[0]
    split = placed(whole, ('wide/whole', 'local', 'none'), ('narrow/whole', 'peer', 'raw'))
    packed = placed(whole, ('wide/whole', 'local', 'none'), ('narrow/whole', 'peer', 'int8'))
    assert len({c.candidate_id for c in (whole, split, packed)}) == 3
    executable = pool.prepare(whole)
    assert pool.get(split) is executable
    assert pool.prepare(packed) is executable
    assert len(backend.compiled) == 1
    assert pool.memory_bytes == 100
    assert pool.evict_to(0, keep=[packed.candidate_id]) == ()
    assert set(pool.evict_to(0)) == {c.candidate_id for c in (whole, split, packed)}
    assert pool.get(split) is None


def test_several_local_segments_are_prepared_together(pool, backend, candidates):
    both = placed(candidates[0], ('wide/whole', 'local', 'none'), ('x', 'peer', 'raw'),
                  ('narrow/whole', 'local', 'raw'))
    assert pool.get_all(both) is None
    wide, narrow = pool.prepare_all(both)
    assert pool.get_all(both) == (wide, narrow)
    assert [name for name, _, _ in backend.compiled] == ['wide/whole', 'narrow/whole']
    assert pool.get(both) is None
    with pytest.raises(BackendError, match='2 segments on this robot'):
        pool.prepare(both)


def test_a_candidate_that_runs_elsewhere_needs_nothing_here(pool, backend, candidates):
    away = placed(candidates[0], ('wide/whole', 'peer', 'jpeg'))
    assert pool.prepare_all(away) == ()
    assert pool.get(away) is None
    with pytest.raises(BackendError, match='0 segments on this robot'):
        pool.prepare(away)
    assert backend.compiled == []


def test_an_unexpected_end_of_a_preparation_is_told_and_seen(
        pool, backend, candidates, seen, monkeypatch):
    answers = Answers()
    with monkeypatch.context() as patch:
        patch.setattr(backend, 'compile', None)
        pool.prepare_in_background(candidates[0], answers)
        (_, executable, error), = answers.wait(1)
    assert executable is None
    assert isinstance(error, BackendError)
    pool.prepare_in_background(candidates[0], answers)
    assert answers.wait(2)[1][1] is pool.get(candidates[0])
    assert seen.wait(1) == [TypeError]


def test_a_defect_in_one_callback_does_not_keep_the_others_waiting(
        pool, backend, candidates, seen):
    backend.may_go.clear()
    answers = Answers()

    def defect(candidate, executable, error):
        raise ZeroDivisionError

    pool.prepare_in_background(candidates[0], defect)
    pool.prepare_in_background(candidates[1], defect)
    pool.prepare_in_background(candidates[1], answers)
    backend.may_go.set()
    assert answers.wait(1)[0][0] == candidates[1].candidate_id
    assert len(seen.wait(2)) == 2


def test_close_drops_wishes_and_refuses_more(backend, segments, candidates):
    pool = Pool(backend, segments)
    backend.may_go.clear()
    answers = Answers()
    pool.prepare_in_background(candidates[0], answers)
    assert backend.started.wait(10)
    pool.prepare_in_background(candidates[1], answers)
    closing = threading.Thread(target=pool.close)
    closing.start()
    time.sleep(0.05)
    backend.may_go.set()
    closing.join(10)
    assert not closing.is_alive()
    assert pool.memory_bytes == 0
    assert len(backend.compiled) == 1
    assert answers.items == []
    for ask in (lambda: pool.prepare(candidates[0]),
                lambda: pool.prepare_in_background(candidates[0], answers)):
        with pytest.raises(BackendError, match='closed'):
            ask()
    pool.close()


def test_real_engine_in_the_background_while_another_runs(segments, candidates):
    from crowdhmt_ros.engine.backend import make_buffers
    pool = Pool(make_backend('onnxruntime'), segments)
    running = pool.prepare(candidates[0])
    inputs, outputs = make_buffers(running.inputs), make_buffers(running.outputs)
    answers = Answers()
    for candidate in candidates[1:]:
        pool.prepare_in_background(candidate, answers)
        running.run(inputs, outputs)
    assert all(error is None for _, _, error in answers.wait(len(candidates) - 1))
    pool.evict_to(0)
    running.run(inputs, outputs)
    assert outputs[0].any()
    pool.close()
