# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time

import pytest

from crowdhmt_ros.engine import background
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError
from test.engine.pool_fakes import Answers, Seen


@pytest.fixture
def seen(monkeypatch):
    found = Seen()
    monkeypatch.setattr(threading, 'excepthook', found)
    return found


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
