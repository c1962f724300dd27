# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Switches on the real engine while a worker answers, as camera_inference does."""
import random
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from crowdhmt_ros.engine.backends import make_backend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.nodes.serving import Server
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor

LONGEST_S = 60.0
PERIOD_S = 0.004
IMAGES = tuple(np.random.default_rng(i).integers(0, 256, (48, 64, 3)).astype(np.uint8)
               for i in range(3))


class Served:
    """An executor behind the node's server, a camera, and what became of its frames."""

    def __init__(self, bundle, segments):
        self.candidates = bundle.candidates((1, 2))
        self.pool = Pool(make_backend('onnxruntime'), segments)
        self.executor = Executor(bundle.classes, Preprocessor(bundle.input))
        first = self.candidates[0]
        self.executor.switch(first, self.pool.prepare(first), 0)
        self.switcher = PlanSwitcher(self.executor, self.pool, in_force_id=first.candidate_id)
        self.told, self.said, self.frames = Counter(), set(), 0
        self.server = Server(self.executor, self.answer, self.superseded)
        self.ended = threading.Event()
        self.camera = threading.Thread(target=self.offer)

    def __enter__(self):
        self.server.start()
        self.camera.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.camera.join()
        self.server.stop()
        self.pool.close()

    def offer(self):
        while not self.ended.wait(PERIOD_S):
            self.server.offer(Frame(IMAGES[self.frames % len(IMAGES)], self.frames, 'camera',
                                    time.monotonic()))
            self.frames += 1

    def answer(self, frame, inference, _):
        self.told[frame.stamp_ns] += 1
        self.said.add((inference.candidate_id, frame.stamp_ns % len(IMAGES), inference.scores))

    def superseded(self, stamp_ns):
        self.told[stamp_ns] += 1

    def wait_for(self, true):
        deadline_s = time.monotonic() + LONGEST_S
        while not true():
            assert time.monotonic() < deadline_s
            time.sleep(0.001)

    @property
    def in_force(self):
        return self.executor.active.candidate.candidate_id


def test_no_frame_is_lost_or_answered_wrongly_however_often_plans_change(bundle, segments):
    rng = random.Random(3)
    with Served(bundle, segments) as served:
        for seq in range(1, 60):
            wanted = rng.choice(served.candidates)
            served.switcher.apply(wanted, seq)
            served.wait_for(lambda: served.in_force == wanted.candidate_id)  # noqa: B023
            served.switcher.keep_within(2.0 * served.pool.memory_bytes / 3.0)
    assert served.frames > 0
    assert served.told == Counter(range(served.frames))
    assert not served.server.failed
    known = {c.candidate_id: c for c in served.candidates}
    fresh = Pool(make_backend('onnxruntime'), segments)
    for name, index, scores in served.said:
        served.executor.switch(known[name], fresh.prepare(known[name]), 0)
        assert served.executor.infer(
            Frame(IMAGES[index], 0, 'camera', 0.0)).scores == scores
    fresh.close()


@pytest.fixture
def damaged(segments, tmp_path):
    """A copy of the segments of which one graph is no graph."""
    path = tmp_path / 'broken.onnx'
    path.write_bytes(b'\x00damaged' * 20)
    return {**segments, 'narrow/whole': replace(segments['narrow/whole'], path=str(path))}


def test_a_failed_preparation_leaves_the_old_plan_answering_and_says_so(bundle, damaged, caplog):
    with Served(bundle, damaged) as served:
        before, narrow = served.in_force, served.candidates[-1]
        assert not served.switcher.apply(narrow, 7)
        served.wait_for(lambda: served.switcher.failure)
        answered = sum(served.told.values())
        served.wait_for(lambda: sum(served.told.values()) > answered + 3)
        assert served.in_force == before
    assert served.switcher.failure.startswith(
        'plan 7: %s cannot be prepared' % narrow.candidate_id)
    assert served.switcher.failure.endswith('the plan before it stays')
    assert served.switcher.failure in caplog.text
    assert served.told == Counter(range(served.frames))
    assert {name for name, _, _ in served.said} == {before}
