# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Plans switched while a camera is served, with the objects of camera_inference but without ROS.

    python -m benchmarks._engine_switching_serve '{"what": ..., ...}'

prints one JSON object. A thread offers frames at 30 Hz to the node's server, its worker answers,
and this thread enters plans as the node's callback does: plan entered, figures noted, budget kept.
"""
from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np
import onnxruntime

from benchmarks._engine_memory_child import memory_mb
from crowdhmt_ros.campus.scene import independent_scene
from crowdhmt_ros.engine.backends.kept import keep_rewritten
from crowdhmt_ros.executor import Executor
from crowdhmt_ros.nodes.engine_room import open_engine_room
from crowdhmt_ros.nodes.params import CameraInferenceParameters
from crowdhmt_ros.nodes.plan_door import PlanDoor
from crowdhmt_ros.nodes.plan_figures import PlanFigures
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.nodes.serving import Server
from crowdhmt_ros.types import Candidate, EngineOptions, Inference
from crowdhmt_ros.vision.frame import Frame
from crowdhmt_ros.vision.preprocess import Preprocessor

BUNDLE, CAMERA_HZ, IMAGES = 'campus7', 30.0, 4
MOST_FRAMES = 100000
"""Places for what is noted of each, written to beforehand: notes are no growth of memory."""
MODES = ('fast', 'lean', 'mapped')
LONGEST_PAUSE_S, LONGEST_SWITCH_S, POLL_S = 0.04, 30.0, 0.0005
SETTLE_S = 0.1
"""In which what was let go of goes back to the system."""
IN_A_ROW = 10
RESIDENT_SHARE = 1 / 3
"""Of what all candidates take: what may be resident, so that most plans find some gone."""
CHECK_EVERY = 25
"""Switches between two looks at memory, each with nothing but the same candidate resident."""
UNSET = float('nan')


def message_of(plan_seq: int, bundle_sha256: str, candidate_id: str) -> SimpleNamespace:
    """Return a plan as it comes from the topic, as far as the camera reads it."""
    choice = SimpleNamespace(candidate_id=candidate_id, fallback_id='', energy_j=0.01,
                             memory_bytes=UNSET, memory_source='unknown')
    return SimpleNamespace(
        plan_seq=plan_seq, boot_id='bench', bundle_sha256=bundle_sha256, choice=choice,
        runner_up=choice, requirements=SimpleNamespace(latency_budget_s=UNSET,
                                                       memory_budget_bytes=UNSET),
        snapshot=SimpleNamespace(memory_allotted_bytes=UNSET, memory_available_bytes=UNSET))


class Camera:
    """Offers pictures at 30 Hz, and notes how late it was."""

    def __init__(self, offer: Callable[[Frame], None], images: Sequence[np.ndarray]) -> None:
        self._offer = offer
        self._images = images
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera')
        self.frames = 0
        self.late_s = np.full(MOST_FRAMES, 0.0)

    def start(self) -> None:
        """Start offering."""
        self._thread.start()

    def stop(self) -> None:
        """Offer no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        start_s = time.monotonic()
        while not self._ended.wait(max(0.0, start_s + self.frames / CAMERA_HZ
                                       - time.monotonic())):
            now_s = time.monotonic()
            self.late_s[self.frames] = now_s - start_s - self.frames / CAMERA_HZ
            image = self._images[self.frames % len(self._images)]
            self._offer(Frame(image, self.frames, 'camera', now_s, 'scenes'))
            self.frames += 1


class Rig:
    """
    What camera_inference is made of, opened on a bundle.

    :param cache_dir: where graphs are kept
    :param keep: how many of the front's segments have their rewritten graphs kept
    """

    def __init__(self, cache_dir: str, *, keep: int) -> None:
        self.room = open_engine_room(CameraInferenceParameters(bundle=BUNDLE,
                                                               cache_dir=cache_dir))
        self.bundle, self.pool = self.room.bundle, self.room.pool
        self.candidates: Dict[str, Candidate] = {
            c.candidate_id: c for c in self.bundle.candidates((1,), MODES)}
        wholes = [self.room.engine.segments[self.bundle.segment_for(v)]
                  for v in self.bundle.manifest.front]
        keep_rewritten(wholes[:keep], EngineOptions(), str(onnxruntime.__version__))
        self.figures = PlanFigures()
        self.door = PlanDoor(self.bundle, self.room.switcher,
                             lambda choice: self.candidates[choice.candidate_id])
        self.answers = np.full(MOST_FRAMES, 0, np.int16)
        self.superseded = self.answers.copy()
        self.said: Set[Tuple[str, int, str]] = set()
        self.replaced_s = 0.0
        self.budget_bytes = float('inf')
        self.plan_seq = 0
        self.room.switcher.switched = self.keep_budget
        self._note_switches()
        images = [independent_scene(1, i, 'noon')[0] for i in range(IMAGES)]
        self.server = Server(self.room.executor, self._answer, self._superseded)
        self.camera = Camera(self.server.offer, images)

    def _note_switches(self) -> None:
        switch = self.room.executor.switch

        def noted(*rest: Any) -> None:
            switch(*rest)
            self.replaced_s = time.perf_counter()
        self.room.executor.switch = noted  # type: ignore[assignment,method-assign]

    def _answer(self, frame: Frame, inference: Inference, _: float) -> None:
        self.answers[frame.stamp_ns] += 1
        scores = hashlib.sha256(np.array(inference.scores).tobytes()).hexdigest()[:16]
        self.said.add((inference.candidate_id, frame.stamp_ns % IMAGES, scores))

    def _superseded(self, stamp_ns: int) -> None:
        self.superseded[stamp_ns] += 1

    def keep_budget(self) -> None:
        """Let go of what the budget has no room for, as the node does."""
        if self.budget_bytes < float('inf'):
            self.room.switcher.keep_within(self.budget_bytes)

    def enter(self, candidate_id: str) -> float:
        """Take a plan in as the node's callback does; returns the moment of entry."""
        self.plan_seq += 1
        message = message_of(self.plan_seq, self.bundle.sha256, candidate_id)
        entered_s = time.perf_counter()
        self.door.enter(message)
        self.figures.note(message)
        self.keep_budget()
        if self.door.problem:
            raise RuntimeError(self.door.problem)
        return entered_s

    def switch(self, candidate_id: str) -> float:
        """Take a plan in and wait until it is in force; returns the seconds that it took."""
        self.replaced_s = 0.0
        entered_s = self.enter(candidate_id)
        deadline_s = time.monotonic() + LONGEST_SWITCH_S
        while self.in_force() != candidate_id:
            if time.monotonic() > deadline_s or self.room.switcher.failure:
                raise RuntimeError('plan %d is not in force: %s' % (
                    self.plan_seq, self.room.switcher.failure or 'it took too long'))
            time.sleep(POLL_S)
        return self.replaced_s - entered_s

    def in_force(self) -> str:
        """Return the candidate that answers now."""
        active = self.room.executor.active
        return active.candidate.candidate_id if active else ''

    def start(self) -> None:
        """Serve."""
        self.server.start()
        self.camera.start()

    def stop(self) -> None:
        """End; afterwards every frame must have been told."""
        self.camera.stop()
        self.server.stop()

    def lost(self) -> int:
        """Return the frames that were told not exactly once, and those that failed."""
        told = (self.answers + self.superseded)[:self.camera.frames]
        return int((told != 1).sum()) + self.server.failed


def resident(cache_dir: str, count: int) -> Dict[str, Any]:
    """
    Return the seconds of switches among resident candidates, at every moment of a frame.

    Plans come several in a row; before the first of each row this thread rested, so that its
    code and data have left the processor's caches: those are returned apart as well.
    """
    rig, rng = Rig(cache_dir, keep=0), random.Random(1)
    names = list(rig.candidates)
    for candidate in rig.candidates.values():
        rig.pool.prepare(candidate)
    rig.start()
    times_s = []
    last = ''
    for index in range(count):
        if index % IN_A_ROW == 0:
            time.sleep(rng.uniform(0.0, LONGEST_PAUSE_S))
        last = rng.choice([name for name in names if name != last])
        times_s.append(rig.switch(last))
    rig.stop()
    found = {'times_s': times_s, 'rested_s': times_s[::IN_A_ROW], 'frames': rig.camera.frames,
             'lost': rig.lost(), 'answers': int(rig.answers.sum()), 'candidates': len(names)}
    rig.room.close()
    return found


def serve(cache_dir: str, count: int) -> Dict[str, Any]:
    """Return what became of frames, answers and memory over many random switches."""
    rig, rng = Rig(cache_dir, keep=3), random.Random(2)
    names = list(rig.candidates)
    total = sum(rig.pool.prepare(c).memory_bytes for c in rig.candidates.values())
    rig.budget_bytes = RESIDENT_SHARE * total
    rig.start()
    times_s: Dict[str, List[float]] = {'resident': [], 'prepared': []}
    memory: List[Tuple[int, float]] = []
    for number in range(count):
        if number % CHECK_EVERY == 0:
            memory.append((number, _memory_at_rest(rig)))
        time.sleep(rng.uniform(0.0, LONGEST_PAUSE_S))
        name = rng.choice([name for name in names if name != rig.in_force()])
        kind = 'resident' if rig.pool.get(rig.candidates[name]) else 'prepared'
        times_s[kind].append(rig.switch(name))
    memory.append((count, _memory_at_rest(rig)))
    rig.stop()
    late_s = rig.camera.late_s[:rig.camera.frames]
    found = {'times_s': times_s, 'frames': rig.camera.frames, 'lost': rig.lost(),
             'answers': int(rig.answers.sum()), 'superseded': int(rig.superseded.sum()),
             'memory': memory, 'said': sorted(rig.said),
             'latest_s': float(late_s.max()), 'typical_late_s': float(np.median(late_s))}
    rig.room.close()
    return found


def _memory_at_rest(rig: Rig) -> float:
    """Return the private memory in MB with nothing resident but what answered at first."""
    budget_bytes, rig.budget_bytes = rig.budget_bytes, 0.0
    rig.switch(rig.room.fallback.candidate_id)
    rig.keep_budget()
    time.sleep(SETTLE_S)
    rig.budget_bytes = budget_bytes
    return memory_mb()['anon']


def fresh(cache_dir: str) -> Dict[str, Any]:
    """Return what each candidate says to each picture, each loaded anew in this process."""
    room = open_engine_room(CameraInferenceParameters(bundle=BUNDLE, cache_dir=cache_dir))
    executor = Executor(room.bundle.classes, Preprocessor(room.bundle.input))
    found = []
    for candidate in room.bundle.candidates((1,), MODES):
        executor.switch(candidate, room.pool.prepare(candidate), 0)
        for index in range(IMAGES):
            image = independent_scene(1, index, 'noon')[0]
            scores = executor.infer(Frame(image, index, 'camera', 0.0, 'scenes')).scores
            found.append((candidate.candidate_id, index,
                          hashlib.sha256(np.array(scores).tobytes()).hexdigest()[:16]))
    room.close()
    return {'said': found}


TASKS: Mapping[str, Callable[..., Dict[str, Any]]] = {
    'resident': resident, 'serve': serve, 'fresh': fresh}


if __name__ == '__main__':
    sys.setswitchinterval(THREAD_TURN_S)  # as the node's own process
    request = json.loads(sys.argv[1])
    print(json.dumps(TASKS[request.pop('what')](**request)))
