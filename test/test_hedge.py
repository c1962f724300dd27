# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import threading
import time

import numpy as np
import pytest

from crowdhmt_ros.errors import BackendError, OffloadError
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.types import Crossing, TensorSpec

INPUT = TensorSpec('image', 'float32', (1, 3, 4, 4))
LOGITS = TensorSpec('logits', 'float32', (1, 2))
BUDGET_S = 0.15


class Engine:
    """Writes one number everywhere, after a while."""

    def __init__(self, value, *, takes_s=0.0, outputs=(LOGITS,)):
        self.inputs, self.outputs, self.value, self.takes_s = (INPUT,), outputs, value, takes_s
        self.runs = 0
        self.broken = False

    def run(self, inputs, outputs):
        self.runs += 1
        if self.broken:
            raise BackendError('the engine failed')
        if self.takes_s:
            time.sleep(self.takes_s)
        outputs[0].fill(self.value)


class Asked:

    def __init__(self, remote):
        self.remote, self.ready_s = remote, time.monotonic() + remote.after_s
        self.cancelled = False

    def wait(self, timeout_s):
        if self.remote.breaks:
            raise OffloadError('the peer is gone')
        left_s = self.ready_s - time.monotonic()
        if left_s > max(0.0, timeout_s):
            time.sleep(max(0.0, timeout_s))
            return None
        time.sleep(max(0.0, left_s))
        return (np.full((1, 2), 7.0, np.float32),), Crossing('drone', 0, 0.001, 0, 0.002, 10, 8)

    def cancel(self):
        self.cancelled = True


class Remote:
    robot_id = 'drone'
    takes_image = False
    lost = False

    def __init__(self, after_s=0.0, *, breaks=False, refuses=False):
        self.after_s, self.breaks, self.refuses = after_s, breaks, refuses
        self.asked, self.crossed, self.released = [], [], 0

    def ask(self, arrays, budget_s):
        if self.refuses:
            raise OffloadError('the breaker is open')
        self.crossed.append([np.array(a) for a in arrays])
        self.asked.append(Asked(self))
        return self.asked[-1]

    def release(self):
        self.released += 1


def answer(hedge):
    return hedge.answer(np.zeros(INPUT.shape, np.float32), None, time.monotonic())


def test_a_peer_that_answers_in_time_answers_the_frame():
    fallback = Engine(1.0)
    hedge = Hedge(Remote(), None, fallback, BUDGET_S)
    tried = fallback.runs
    done = answer(hedge)
    assert not done.degraded
    assert done.logits.tolist() == [[7.0, 7.0]]
    assert done.crossing.robot_id == 'drone'
    assert done.offload_s == pytest.approx(done.crossing.offload_s)
    assert fallback.runs == tried


def test_the_head_runs_here_and_its_output_crosses():
    middle = TensorSpec('features', 'float32', (1, 5))
    head, remote = Engine(3.0, outputs=(middle,)), Remote()
    done = answer(Hedge(remote, head, Engine(1.0), BUDGET_S))
    assert remote.crossed[0][0].tolist() == [[3.0] * 5]
    assert not done.degraded


def test_the_fallback_answers_within_the_budget_when_the_peer_is_silent():
    hedge = Hedge(Remote(after_s=9.0), None, Engine(1.0, takes_s=0.02), BUDGET_S)
    started_s = time.monotonic()
    done = answer(hedge)
    assert done.degraded
    assert done.logits.tolist() == [[1.0, 1.0]]
    assert done.crossing is None
    assert 0.08 <= done.offload_s <= BUDGET_S
    assert time.monotonic() - started_s <= BUDGET_S + 0.05
    assert hedge.remote.asked[0].cancelled


def test_a_reply_that_comes_while_the_fallback_runs_is_taken():
    hedge = Hedge(Remote(after_s=0.12), None, Engine(1.0, takes_s=0.06), BUDGET_S)
    done = answer(hedge)
    assert not done.degraded
    assert done.logits.tolist() == [[7.0, 7.0]]


@pytest.mark.parametrize('remote', [Remote(breaks=True), Remote(refuses=True)])
def test_a_peer_that_is_gone_costs_no_waiting(remote):
    hedge = Hedge(remote, None, Engine(1.0), 5.0)
    started_s = time.monotonic()
    assert answer(hedge).degraded
    assert time.monotonic() - started_s < 1.0
    assert hedge.failure


def test_a_slow_run_of_the_fallback_makes_it_start_earlier():
    fallback = Engine(1.0)
    hedge = Hedge(Remote(after_s=9.0), None, fallback, BUDGET_S)
    before_s = hedge.fallback_s
    fallback.takes_s = 0.05
    answer(hedge)
    assert hedge.fallback_s >= 0.05 > before_s
    fallback.takes_s = 0.0
    started_s = time.monotonic()
    answer(hedge)
    assert time.monotonic() - started_s < BUDGET_S - 0.03


def test_the_peer_is_released_once_and_after_the_frame_in_work():
    remote = Remote(after_s=0.1)
    hedge = Hedge(remote, None, Engine(1.0), 5.0)
    at_work = threading.Thread(target=answer, args=(hedge,))
    at_work.start()
    while not remote.asked:
        time.sleep(0.001)
    hedge.retire()
    assert not remote.released
    at_work.join()
    assert remote.released == 1


def test_an_idle_one_is_released_at_once():
    remote = Remote()
    Hedge(remote, None, Engine(1.0), BUDGET_S).retire()
    assert remote.released == 1


def test_who_was_retired_before_the_frame_came_asks_nobody():
    remote = Remote()
    hedge = Hedge(remote, None, Engine(1.0), BUDGET_S)
    hedge.retire()
    assert hedge.retired
    assert answer(hedge).degraded
    assert remote.asked == []


def test_a_head_that_fails_leaves_the_frame_to_the_fallback():
    head, remote = Engine(3.0, outputs=(TensorSpec('features', 'float32', (1, 5)),)), Remote()
    head.broken = True
    hedge = Hedge(remote, head, Engine(1.0), BUDGET_S)
    done = answer(hedge)
    assert done.degraded
    assert done.logits.tolist() == [[1.0, 1.0]]
    assert remote.asked == []
    assert 'the engine failed' in hedge.failure


def test_a_fallback_that_fails_leaves_the_frame_to_a_late_peer():
    fallback, remote = Engine(1.0), Remote(after_s=0.14)
    hedge = Hedge(remote, None, fallback, BUDGET_S)
    hedge._fallback_s = 0.1  # so that the peer is given up before its answer is there
    fallback.broken = True
    done = answer(hedge)
    assert not done.degraded
    assert done.logits.tolist() == [[7.0, 7.0]]


def test_when_all_fail_the_call_is_forgotten_and_the_peer_still_released():
    fallback, remote = Engine(1.0), Remote(after_s=9.0)
    hedge = Hedge(remote, None, fallback, BUDGET_S)
    fallback.broken = True
    with pytest.raises(BackendError, match='the engine failed'):
        answer(hedge)
    assert remote.asked[0].cancelled
    hedge.retire()
    assert remote.released == 1


def test_a_peer_that_fails_at_every_frame_is_logged_once_in_a_while(caplog):
    remote = Remote(refuses=True)
    hedge = Hedge(remote, None, Engine(1.0), BUDGET_S)
    for _ in range(20):
        answer(hedge)
    assert len([r for r in caplog.records if 'does not help' in r.message]) == 1


def test_one_hiccup_of_the_fallback_takes_the_peer_its_time_for_few_frames_only():
    fallback = Engine(1.0)
    hedge = Hedge(Remote(after_s=0.05), None, fallback, BUDGET_S)
    hedge._fallback_s = 2.0 * BUDGET_S
    degraded = 0
    while answer(hedge).degraded:
        degraded += 1
        assert degraded <= 20
    assert degraded >= 1


def test_a_hiccup_while_it_is_tried_does_not_count():
    class Stumbling(Engine):
        def run(self, inputs, outputs):
            self.takes_s = 0.05 if self.runs == 1 else 0.0
            super().run(inputs, outputs)

    assert Hedge(Remote(), None, Stumbling(1.0), BUDGET_S).fallback_s < 0.03
