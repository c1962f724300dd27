# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One measurement of memory or time in a process of its own.

    python -m benchmarks._engine_memory_child '{"what": ..., ...}'

prints one JSON object, and a line for each turn where it runs in turns. Memory is what the process
itself grows by, from the imported engine and made inputs on: anonymous pages (its own), resident
pages (mapped files among them), and their highest point.
"""
from __future__ import annotations

import json
import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from benchmarks import timing
from crowdhmt_ros.engine.backend import make_buffers
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.memory.optimised import optimised_graph
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

PLAIN = 'plain'
"""A session from the path of one file, as a user makes it: everything on, one thread."""
DEFAULT_RUN = 'default_run'
"""ONNX Runtime's default arena and pattern on the mapped graph: its run phase without the load,
whose freed memory would hide it."""
RUNS = 8
Arrays = Tuple[NDArray[Any], ...]
_FIELDS = {'rss': 'VmRSS', 'anon': 'RssAnon', 'peak': 'VmHWM'}


def segment_of(said: Mapping[str, Any]) -> Segment:
    """Return the segment that a request describes."""
    specs = {role: tuple(TensorSpec(n, d, tuple(s)) for n, d, s in said[role])
             for role in ('inputs', 'outputs')}
    return Segment(said['name'], said['sha256'], said['path'], specs['inputs'], specs['outputs'],
                   said['weight_bytes'])


class PlainExecutable:
    """A session as a user makes it, on the caller's input."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> None:
        """Compute and copy."""
        names = [i.name for i in self._session.get_inputs()]
        for buffer, value in zip(outputs, self._session.run(None, dict(zip(names, inputs)))):
            buffer[...] = value


def plain_session(source: Any, *, default_rewrites: bool = True) -> onnxruntime.InferenceSession:
    """Return a session with ONNX Runtime's defaults but one thread, as all here have."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not default_rewrites:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])


def ready(said: Mapping[str, Any], mode: str) -> Any:
    """Return what runs a segment in a memory mode, `PLAIN` or `DEFAULT_RUN`."""
    if mode == PLAIN:
        return PlainExecutable(plain_session(said['plain_path']))
    segment = segment_of(said)
    backend = OnnxRuntimeBackend()
    if mode == DEFAULT_RUN:
        path = optimised_graph(segment, EngineOptions(), backend.version).graph_path
        return PlainExecutable(plain_session(path, default_rewrites=False))
    return backend.compile(segment, EngineOptions(memory_mode=mode))


def memory_mb() -> Dict[str, float]:
    """Return what this process holds now, in millions of bytes."""
    text = Path('/proc/self/status').read_text()
    found = {}
    for key, name in _FIELDS.items():
        match = re.search(name + r':\s+(\d+) kB', text)
        if match is None:
            raise RuntimeError('/proc/self/status has no ' + name)
        found[key] = 1024 * int(match.group(1)) / 1e6
    return found


def buffers_of(said: Mapping[str, Any]) -> Tuple[Arrays, Arrays]:
    """Return inputs of noise and outputs, all touched."""
    segment = segment_of(said)
    rng = np.random.default_rng(0)
    inputs = tuple(rng.standard_normal(s.shape).astype(s.dtype) for s in segment.inputs)
    outputs = make_buffers(segment.outputs)
    for buffer in outputs:
        buffer.fill(0)
    return inputs, outputs


def growth(said: Mapping[str, Any], mode: str, runs: int = RUNS) -> Dict[str, Any]:
    """Return what loading and running takes, and the answer."""
    return _grown(said, mode, runs)[1]


def _grown(said: Mapping[str, Any], mode: str, runs: int
           ) -> Tuple[Callable[[], float], Dict[str, Any]]:
    """Return also what runs once more and tells the seconds."""
    inputs, outputs = buffers_of(said)
    library_mb, before = resident_mb(_state.__file__), memory_mb()
    _highest_point_anew()
    executable = ready(said, mode)
    loaded = memory_mb()
    _highest_point_anew()
    times_s = []
    for _ in range(runs):
        began_s = time.perf_counter()
        executable.run(inputs, outputs)
        times_s.append(time.perf_counter() - began_s)
    after = memory_mb()
    # Code that importing brought and loading gave back is no gain of the segment's.
    given_back_mb = max(0.0, library_mb - resident_mb(_state.__file__))
    return timing.timed(lambda: executable.run(inputs, outputs)), {
            'load_anon_mb': loaded['anon'] - before['anon'],
            'run_anon_mb': after['anon'] - loaded['anon'],
            'anon_mb': after['anon'] - before['anon'],
            'rss_mb': after['rss'] - before['rss'],
            'peak_mb': max(loaded['peak'], after['peak'] + given_back_mb) - before['rss'],
            'min_s': min(times_s), 'median_s': statistics.median(times_s),
            'answer': outputs[0].ravel()[:64].tolist()}


def _highest_point_anew() -> None:
    Path('/proc/self/clear_refs').write_text('5')


def resident_mb(path: str) -> float:
    """Return what of a mapped file is in this process's memory, in millions of bytes."""
    found = 0
    ours = False
    for line in Path('/proc/self/smaps').read_text().splitlines():
        parts = line.split(None, 5)
        if not parts[0].endswith(':'):
            ours = len(parts) == 6 and parts[5] == os.path.realpath(path)
        elif ours and parts[0] == 'Rss:':
            found += int(parts[1])
    return 1024 * found / 1e6


def latencies(said: Mapping[str, Any], modes: Mapping[str, str], count: int) -> Dict[str, Any]:
    """
    Return rounds of seconds of one run in some modes, interleaved.

    :param modes: title -> mode; the same mode twice is a control
    :param count: of rounds
    """
    inputs, outputs = buffers_of(said)

    def run_of(mode: str) -> Callable[[], float]:
        executable = ready(said, mode)
        for _ in range(3):
            executable.run(inputs, outputs)
        return timing.timed(lambda: executable.run(inputs, outputs))
    return {'rounds': timing.in_rounds({t: run_of(mode) for t, mode in modes.items()}, count)}


def in_turns(said: Mapping[str, Any], mode: str, runs: int = RUNS, group: str = '') -> None:
    """
    Say what loading and running takes, then run as often as each line of the input says.

    :param group: folder of a memory group of the kernel that loading and running belong to, ''
        for none; what this process took before does not count there
    """
    if group:
        inputs, _ = buffers_of(said)  # touched before, as a frame is
        del inputs
        Path(group, 'cgroup.procs').write_text(str(os.getpid()))
    once, found = _grown(said, mode, runs)
    print(json.dumps(found), flush=True)
    for line in sys.stdin:
        print(json.dumps([once() for _ in range(int(line))]), flush=True)


TASKS: Mapping[str, Callable[..., Dict[str, Any]]] = {'growth': growth, 'latencies': latencies}


def main(request: Dict[str, Any]) -> None:
    """Do what is asked for, once or in turns."""
    what = request.pop('what')
    if what == 'in_turns':
        in_turns(**request)
    else:
        print(json.dumps(TASKS[what](**request)))


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
