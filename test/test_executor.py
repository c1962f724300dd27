# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import math
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from crowdhmt_ros.bundle.materialise import materialise
from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.errors import BackendError, FrameError, OffloadError
from crowdhmt_ros.executor import Executor, softmax
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.types import (
    Candidate,
    Crossing,
    Placement,
    SegmentPlacement,
    TensorSpec,
)
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor

TINY = Path(__file__).parent / 'bundle' / 'data' / 'tiny'


@pytest.fixture(scope='module')
def bundle():
    return open_bundle(TINY)


@pytest.fixture(scope='module')
def pool(bundle, tmp_path_factory):
    pool = Pool(make_backend('onnxruntime'),
                materialise(bundle, tmp_path_factory.mktemp('cache')))
    for candidate in bundle.candidates():
        pool.prepare(candidate)
    yield pool
    pool.close()


@pytest.fixture
def switch(pool):
    def bring_into_force(executor, candidate, plan_seq=1):
        executor.switch(candidate, pool.get(candidate), plan_seq)
    return bring_into_force


@pytest.fixture
def executor(bundle):
    return Executor(bundle.classes, Preprocessor(bundle.input))


def make_frame(seed=0, shape=(144, 192, 3)):
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Frame(image, 0, 'camera', 0.0)


def test_no_plan_means_no_answer(executor):
    assert executor.active is None
    with pytest.raises(BackendError, match='no plan'):
        executor.infer(make_frame())


def test_every_candidate_answers_with_what_ran_and_how_long(executor, bundle, switch):
    frame = make_frame()
    for number, candidate in enumerate(bundle.candidates()):
        switch(executor, candidate, number)
        found = executor.infer(frame)
        assert found.candidate_id == candidate.candidate_id
        assert found.plan_seq == number
        assert found.exit_index == candidate.variant.exit_index
        assert sum(found.scores) == pytest.approx(1.0)
        assert len(found.scores) == len(bundle.classes)
        assert 0.0 < found.infer_s < 1.0
        assert 0.0 < found.preprocess_s < 1.0


def test_threads_and_memory_modes_agree_and_variants_differ(executor, bundle, switch):
    frame, scores = make_frame(), {}
    for candidate in bundle.candidates():
        switch(executor, candidate)
        scores.setdefault(candidate.variant_id, []).append(executor.infer(frame).scores)
    for same in scores.values():
        np.testing.assert_allclose(same, [same[0]] * 4, atol=1e-5)
    assert not np.allclose(scores['wide'][0], scores['narrow'][0], atol=1e-3)


def test_frames_of_any_size_and_kind_are_answered_and_bad_ones_lose_nothing(
        executor, bundle, switch):
    switch(executor, bundle.candidates()[0])
    good = executor.infer(make_frame()).scores
    executor.infer(make_frame(1, (50, 60)))
    with pytest.raises(FrameError):
        executor.infer(Frame(np.zeros((4, 4, 2), np.uint8), 0, 'camera', 0.0))
    assert executor.infer(make_frame()).scores == good


def test_brightness_of_the_last_frame_is_known(executor, bundle, switch):
    switch(executor, bundle.candidates()[0])
    assert executor.luminance() is None
    executor.infer(Frame(np.full((9, 9), 51, np.uint8), 0, 'camera', 0.0))
    assert executor.luminance() == pytest.approx(0.2)


def test_switching_at_any_time_mixes_nothing(executor, bundle, switch):
    candidates = bundle.candidates(threads=(1,), memory_modes=('fast',))
    frame, expected = make_frame(), {}
    for number, candidate in enumerate(candidates):
        switch(executor, candidate, number)
        expected[candidate.candidate_id] = (number, executor.infer(frame).scores)
    stop = threading.Event()

    def keep_switching():
        while not stop.is_set():
            for number, candidate in enumerate(candidates):
                switch(executor, candidate, number)

    thread = threading.Thread(target=keep_switching)
    thread.start()
    seen = set()
    try:
        for _ in range(2000):
            found = executor.infer(frame)
            seen.add(found.candidate_id)
            assert (found.plan_seq, found.scores) == expected[found.candidate_id]
    finally:
        stop.set()
        thread.join()
    assert seen == set(expected)


def test_nine_of_ten_resident_switches_take_at_most_200_us(executor, bundle, pool):
    candidates = bundle.candidates()
    taken = []
    for number in range(1000):
        candidate = candidates[number % len(candidates)]
        start = time.perf_counter()
        executor.switch(candidate, pool.get(candidate), number)
        taken.append(time.perf_counter() - start)
    assert executor.active.plan_seq == 999
    # The benchmark holds p99 on a machine of its own; here others may take the processor away.
    assert sorted(taken)[900] <= 200e-6


class Odd:
    """An executable with a chosen shape and answer."""

    memory_bytes = 1

    def __init__(self, classes=4, side=64, value=0.0):
        self.inputs = (TensorSpec('image', 'float32', (1, 3, side, side)),)
        self.outputs = (TensorSpec('logits', 'float32', (1, classes)),)
        self.value = value

    def run(self, inputs, outputs):
        outputs[0][...] = self.value


@pytest.mark.parametrize('odd', [Odd(classes=7), Odd(side=32)])
def test_a_model_of_other_shape_is_refused_and_the_plan_stays(executor, bundle, switch, odd):
    good, other = bundle.candidates()[:2]
    switch(executor, good, 3)
    with pytest.raises(BackendError, match='classes'):
        executor.switch(other, odd, 4)
    assert executor.active.plan_seq == 3
    executor.infer(make_frame())


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(executor, bundle, value):
    executor.switch(bundle.candidates()[0], Odd(value=value), 1)
    with np.errstate(invalid='ignore'), pytest.raises(BackendError, match='no finite'):
        executor.infer(make_frame())


def test_a_model_may_give_more_than_its_scores(executor, bundle):
    odd = Odd(value=1.0)
    odd.outputs += (TensorSpec('features', 'float16', (1, 8)),)
    executor.switch(bundle.candidates()[0], odd, 1)
    assert executor.infer(make_frame()).scores == (0.25,) * 4


def test_softmax_is_exact_for_large_scores():
    assert softmax(np.array([[1000.0, 1000.0, -1000.0]], np.float32)) == (0.5, 0.5, 0.0)
    expected = np.exp([1.0, 2.0, 3.0]) / np.exp([1.0, 2.0, 3.0]).sum()
    assert softmax(np.array([[1.0, 2.0, 3.0]], np.float32)) == pytest.approx(tuple(expected))


def test_an_answer_costs_little_over_engine_and_preprocessing(executor, bundle, switch):
    switch(executor, bundle.candidates()[0])
    frame, overheads = make_frame(), []
    for _ in range(300):
        start = time.perf_counter()
        found = executor.infer(frame)
        overheads.append(time.perf_counter() - start - found.infer_s - found.preprocess_s)
    assert statistics.median(overheads) <= 100e-6


class Drone:
    """A peer's part that answers at once with the first class, or refuses."""

    robot_id = 'drone'
    lost = False

    def __init__(self, classes, *, takes_image=False, refuses=False):
        self.logits = np.zeros((1, classes), np.float32)
        self.logits[0, 0] = 9.0
        self.takes_image, self.refuses = takes_image, refuses
        self.asked, self.released = [], 0

    def ask(self, arrays, budget_s):
        if self.refuses:
            raise OffloadError('the breaker is open')
        self.asked.append([np.array(a) for a in arrays])
        return self

    def wait(self, timeout_s):
        return (self.logits,), Crossing('drone', 0.001, 0.002, 0.0, 0.003, 100, 20)

    def cancel(self):
        pass

    def release(self):
        self.released += 1


@pytest.fixture
def hedged(bundle, pool, executor):
    """Bring a candidate with a peer into force; narrow in one thread is the fallback."""
    def bring_into_force(drone, plan_seq=7):
        whole, fallback = bundle.candidates()[0], bundle.candidates()[-1]
        segment_id = whole.placement.segments[0].segment_id
        helped = Candidate('wide', whole.variant, Placement((
            SegmentPlacement('whole', segment_id, 'drone', 'jpeg'),)), whole.engine)
        hedge = Hedge(drone, None, pool.get(fallback), 0.2)
        executor.switch_hedged(helped, hedge, fallback, pool.get(fallback), plan_seq)
        return helped, fallback, hedge
    return bring_into_force


def now_frame(shape=(144, 192, 3)):
    frame = make_frame(0, shape)
    return Frame(frame.image, 0, 'camera', time.monotonic())


def test_an_answer_of_a_peer_bears_its_candidate_and_what_the_crossing_took(
        executor, bundle, hedged):
    helped, _, _ = hedged(Drone(len(bundle.classes)))
    found = executor.infer(now_frame())
    assert (found.candidate_id, found.plan_seq) == (helped.candidate_id, 7)
    assert (found.degraded, found.fallback_id) == (False, '')
    assert found.scores.index(max(found.scores)) == 0
    assert found.crossing.robot_id == 'drone'
    assert found.offload_s == pytest.approx(found.crossing.offload_s)
    assert found.exit_index == helped.variant.exit_index


def test_an_answer_of_the_fallback_says_so_and_who_answered(executor, bundle, hedged, switch):
    helped, fallback, _ = hedged(Drone(len(bundle.classes), refuses=True))
    frame = now_frame()
    found = executor.infer(frame)
    assert (found.candidate_id, found.degraded) == (helped.candidate_id, True)
    assert found.fallback_id == fallback.candidate_id
    assert found.exit_index == fallback.variant.exit_index
    assert found.crossing is None
    switch(executor, fallback)
    alone = executor.infer(frame)
    assert alone.scores == found.scores
    assert (alone.degraded, alone.offload_s) == (False, None)


@pytest.mark.parametrize('shape', [(144, 192, 3), (144, 192), (144, 192, 1)])
def test_a_peer_that_takes_images_gets_colour_in_the_size_of_the_model(
        executor, bundle, hedged, shape):
    drone = Drone(len(bundle.classes), takes_image=True)
    hedged(drone)
    assert not executor.infer(now_frame(shape)).degraded
    _, _, height, width = bundle.input.shape
    assert drone.asked[0][0].shape == (height, width, 3)
    assert drone.asked[0][0].dtype == np.uint8


def test_a_plan_that_comes_while_a_frame_is_prepared_answers_it_alone(
        executor, bundle, pool, hedged):
    drone = Drone(len(bundle.classes))
    _, fallback, hedge = hedged(drone)
    prepare = executor._preprocessor.into

    def switch_meanwhile(image, out):
        prepare(image, out)
        executor.switch(fallback, pool.get(fallback), 8)
        hedge.retire()

    executor._preprocessor.into = switch_meanwhile
    found = executor.infer(now_frame())
    assert (found.plan_seq, found.degraded) == (8, False)
    assert drone.asked == [], 'the lease is given back already'
    assert drone.released == 1


def test_switching_between_home_and_a_peer_at_any_time_mixes_nothing(
        executor, bundle, pool, hedged):
    fallback = bundle.candidates()[-1]
    executor.switch(fallback, pool.get(fallback), 1)
    frame = now_frame()
    alone = executor.infer(frame).scores
    stop, drones = threading.Event(), []

    def keep_switching():
        while not stop.is_set():
            drones.append(Drone(len(bundle.classes)))
            _, _, hedge = hedged(drones[-1])
            executor.switch(fallback, pool.get(fallback), 1)
            hedge.retire()

    thread = threading.Thread(target=keep_switching)
    thread.start()
    try:
        for _ in range(300):
            found = executor.infer(now_frame())
            if found.plan_seq == 1 or found.degraded:
                assert found.scores == alone
            else:
                assert found.scores[0] > 0.9
    finally:
        stop.set()
        thread.join()
    assert all(drone.released for drone in drones)
