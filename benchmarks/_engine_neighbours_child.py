# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
An engine that runs when it is told to, in a process of its own.

    python -m benchmarks._engine_neighbours_child '{"how": "ours", "said": ..., "times_s": ...}'

reads one JSON request a line and answers with one. 'theirs' is ONNX Runtime with two threads and
everything else at its default. 'ours' is what an engine process of the robot does, with its
objects: two threads allowed, the cores looked at twice a second while it runs, the rest decided.
"""
from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

import onnxruntime

from benchmarks._engine_memory_child import buffers_of, segment_of
from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.hedge import Hedge
from crowdhmt_ros.nodes.engine_schedule import EngineSchedule
from crowdhmt_ros.nodes.switching import PlanSwitcher
from crowdhmt_ros.resources.cores import CoreLoads
from crowdhmt_ros.types import (
    Candidate,
    EngineOptions,
    Placement,
    SegmentPlacement,
    Variant,
)

THREADS, WARM_UP_RUNS = 2, 3
LOOK_S, MOST_LOOKS, SETTLED_LOOKS = 0.5, 10, 3
"""Looks until so many in a row have changed nothing."""
READY_S = 30.0


class Answerer:
    """Keeps what answers; brought in between two runs, as in the executor."""

    def __init__(self) -> None:
        self.executable: Optional[Executable] = None

    def switch(self, candidate: Candidate, executable: Executable, plan_seq: int) -> None:
        """Let another executable answer from the next run on."""
        self.executable = executable

    def switch_hedged(self, candidate: Candidate, hedge: Hedge, fallback: Candidate,
                      executable: Executable, plan_seq: int) -> None:
        """Take no part in that."""
        raise NotImplementedError('nobody else answers here')


class Theirs:
    """A session as a user makes it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = THREADS
        self._session = onnxruntime.InferenceSession(said['plain_path'], options,
                                                     providers=['CPUExecutionProvider'])
        self._feed = dict(zip([i.name for i in self._session.get_inputs()],
                              buffers_of(said)[0]))

    def run(self) -> None:
        """Answer once."""
        self._session.run(None, self._feed)

    def adapt(self) -> Dict[str, Any]:
        """Do what it does: nothing."""
        return {}


class Ours:
    """The scheduled engine."""

    def __init__(self, said: Mapping[str, Any], times_s: Mapping[str, float]) -> None:
        segment = segment_of(said)
        self._inputs, self._outputs = buffers_of(said)
        self._candidate = Candidate(
            said['name'], Variant((), 0),
            Placement((SegmentPlacement('whole', segment.segment_id),)),
            EngineOptions(threads=THREADS))
        self._loads = CoreLoads()
        self._schedule = EngineSchedule(
            lambda _, options: None if options.spinning else times_s.get(str(options.threads)),
            self._loads.sample, callers=lambda: (threading.get_native_id(),))
        self._answerer = Answerer()
        pool = Pool(OnnxRuntimeBackend(), {segment.segment_id: segment})
        self._switcher = PlanSwitcher(self._answerer, self._schedule.over(pool))
        self._switcher.apply(self._candidate, 1)
        self._await(lambda: self._answerer.executable is not None)

    def run(self) -> None:
        """Answer once with what is in force."""
        executable = self._answerer.executable
        assert executable is not None
        executable.run(self._inputs, self._outputs)

    def adapt(self) -> Dict[str, Any]:
        """Run and look at the cores, until looking changes nothing any more."""
        settled, looks, before = 0, 0, None
        while settled < SETTLED_LOOKS and looks < MOST_LOOKS:
            self._loads.sample()  # what others did while this process waited is not now
            end_s = time.perf_counter() + LOOK_S
            while time.perf_counter() < end_s:
                self.run()
            self._schedule.look(self._switcher)
            self._await(lambda: not self._switcher.preparing)
            looks += 1
            schedule = self._schedule.scheduler.schedule
            now = None if schedule is None else (schedule.setting, schedule.cores)
            settled, before = settled + 1 if now == before else 0, now
        return {'looks': looks, 'reason': self._schedule.reason}

    def _await(self, ready: Callable[[], bool]) -> None:
        end_s = time.monotonic() + READY_S
        while not ready():
            if time.monotonic() > end_s:
                raise RuntimeError('nothing got ready: ' + self._switcher.failure)
            time.sleep(0.005)


def alone(said: Mapping[str, Any], runs: int) -> Dict[str, float]:
    """Return threads -> seconds with threads that sleep, as calibration measures them."""
    backend, found = OnnxRuntimeBackend(), {}
    inputs, outputs = buffers_of(said)
    for threads in range(1, THREADS + 1):
        executable = backend.compile(segment_of(said), EngineOptions(threads=threads))
        times_s: List[float] = []
        for _ in range(WARM_UP_RUNS + runs):
            began_s = time.perf_counter()
            executable.run(inputs, outputs)
            times_s.append(time.perf_counter() - began_s)
        found[str(threads)] = sorted(times_s[WARM_UP_RUNS:])[runs // 2]
    return found


def obey(engine: Any, request: Mapping[str, Any]) -> Any:
    """Do what one line asks for."""
    if request['do'] == 'adapt':
        return engine.adapt()
    times_s = []
    for _ in range(request['runs']):
        began_s = time.perf_counter()
        engine.run()
        times_s.append(time.perf_counter() - began_s)
    return times_s


def main(request: Mapping[str, Any]) -> None:
    """Answer line by line until there are no more."""
    if request['how'] == 'alone':
        print(json.dumps(alone(request['said'], request['runs'])))
        return
    engine: Any = (Theirs(request['said']) if request['how'] == 'theirs'
                   else Ours(request['said'], request['times_s']))
    for _ in range(WARM_UP_RUNS):
        engine.run()
    print(json.dumps('ready'), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(engine, json.loads(line))), flush=True)


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
