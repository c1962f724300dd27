# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time

import pytest

from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.engine.turns import Turns


def test_a_guest_runs_at_once_while_no_own_frame_is_computed():
    assert Turns().guest(0.0)


def test_a_guest_waits_for_the_own_frame_and_goes_on_right_after_it():
    turns, went = Turns(), []
    guest = threading.Thread(target=lambda: went.append(turns.guest(10.0)))
    with turns.own():
        guest.start()
        while not turns.waiting:
            time.sleep(0.001)
        assert went == []
    guest.join(5.0)
    assert went == [True]
    assert turns.waiting == 0


def test_a_guest_whose_time_is_up_is_sent_away():
    turns = Turns()
    with turns.own():
        assert not turns.guest(0.02)
    assert turns.waiting == 0


def test_an_own_frame_that_fails_gives_its_turn_back():
    turns = Turns()
    with pytest.raises(ValueError, match='broken'), turns.own():
        raise ValueError('broken')
    assert turns.guest(0.0)


def test_no_wake_up_is_missed_however_often_turns_change():
    turns, done = Turns(), []

    def guests():
        for _ in range(2000):
            done.append(turns.guest(5.0))

    guest = threading.Thread(target=guests)
    guest.start()
    while guest.is_alive():
        with turns.own():
            pass
    assert all(done)


def test_what_candidates_run_is_the_robots_own_and_what_guests_hold_is_not(segments, bundle):
    turns = Turns()
    pool = Pool(make_backend('onnxruntime'), segments, turns=turns)
    wide = bundle.candidates()[0]
    own, guest = pool.prepare(wide), pool.hold('wide/whole', wide.engine)
    assert pool.get(wide) is own
    assert own is not guest
    assert (own.inputs, own.outputs) == (guest.inputs, guest.outputs)
    turns.own().__enter__()
    guest.run(make_buffers(guest.inputs), make_buffers(guest.outputs))
    assert turns.busy, 'a guest leaves the turns alone'
    own.run(make_buffers(own.inputs), make_buffers(own.outputs))
    assert not turns.busy
    assert own.memory_bytes == guest.memory_bytes
    pool.close()
