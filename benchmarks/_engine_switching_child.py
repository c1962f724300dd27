# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One measurement of making segments ready, in a process of its own.

    python -m benchmarks._engine_switching_child '{"what": ..., ...}'

prints one JSON object. Networks are described as in `_engine_memory.network`.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from benchmarks import timing
from benchmarks._engine_memory_child import (
    PLAIN,
    Arrays,
    PlainExecutable,
    buffers_of,
    memory_mb,
    plain_session,
    ready,
    segment_of,
)
from crowdhmt_ros.engine.backends.kept import keep_rewritten
from crowdhmt_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from crowdhmt_ros.engine.pool import Pool
from crowdhmt_ros.nodes.process import THREAD_TURN_S
from crowdhmt_ros.types import (
    Candidate,
    EngineOptions,
    Placement,
    Segment,
    SegmentPlacement,
    Variant,
)

FAST, MAPPED, AGAIN = 'fast', 'mapped', 'plain again'
PAUSE_S, TICK_S = 0.02, 0.0005
STEADY_RUNS, SWITCHES = 7, 12


def segments_of(saids: Sequence[Mapping[str, Any]]) -> Dict[str, Segment]:
    """Return segments whose rewritten graphs are kept."""
    found = [segment_of(said) for said in saids]
    backend = OnnxRuntimeBackend()
    lacking = keep_rewritten(found, EngineOptions(), backend.version)
    if lacking:
        raise RuntimeError('%s could not be kept' % ', '.join(lacking))
    return {segment.segment_id: segment for segment in found}


def candidate_of(segment: Segment, mode: str = FAST) -> Candidate:
    """Return what places a segment here as a whole."""
    return Candidate(segment.segment_id, Variant((), 0),
                     Placement((SegmentPlacement('whole', segment.segment_id),)),
                     EngineOptions(memory_mode=mode))


def digest(outputs: Arrays) -> str:
    """Return what stands for an answer, bit by bit."""
    return hashlib.sha256(b''.join(o.tobytes() for o in outputs)).hexdigest()[:16]


def cold(said: Mapping[str, Any], rounds: int) -> Dict[str, Any]:
    """
    Return rounds of seconds until a session is ready: plain from bytes twice, fast, mapped.

    The last one of each is ended outside the time that counts; the page cache is warm.
    """
    content = Path(said['plain_path']).read_bytes()
    segment = segments_of([said])[said['name']]
    backend = OnnxRuntimeBackend()
    ways: Dict[str, Callable[[], Any]] = {
        PLAIN: lambda: plain_session(content),
        FAST: lambda: backend.compile(segment, EngineOptions()),
        AGAIN: lambda: plain_session(content),  # not beside plain, whose freed pages are at hand
        MAPPED: lambda: backend.compile(segment, EngineOptions(memory_mode=MAPPED))}
    found = timing.in_rounds({way: partial(_made_s, make) for way, make in ways.items()}, rounds)
    return {'rounds': found}


def _made_s(make: Callable[[], Any]) -> float:
    start_s = time.perf_counter()
    made = make()
    taken_s = time.perf_counter() - start_s
    del made
    return taken_s


def answered(said: Mapping[str, Any], rounds: int) -> Dict[str, Any]:
    """
    Return rounds of seconds until a first answer is there, and digests of those answers.

    Plain is from bytes, as in `cold`.
    """
    segments_of([said])
    content = Path(said['plain_path']).read_bytes()
    inputs, outputs = buffers_of(said)
    order, found, digests = [PLAIN, FAST, MAPPED], [], {}
    for _ in range(rounds):
        times_s = {}
        for way in order:
            start_s = time.perf_counter()
            executable = (PlainExecutable(plain_session(content)) if way == PLAIN
                          else ready(said, way))
            executable.run(inputs, outputs)
            times_s[way] = time.perf_counter() - start_s
            digests[way] = digest(outputs)
            del executable
        found.append(times_s)
        order = order[1:] + order[:1]
    return {'rounds': found, 'digests': digests}


def pool_switches(saids: Sequence[Mapping[str, Any]], mode: str) -> Dict[str, Any]:
    """
    Return the first runs and the steady runs behind switches through the pool.

    By turns each segment is resident and was let go of: 'resident' and 'prepared' runs. A
    first run is compared with the median of those that follow it at once; the last of these
    likewise with the others, for the control.

    :returns: rounds of first, steady, last and the others' median, seconds of preparing, and
        how many digests there are and how many do not agree
    """
    segments = segments_of(saids)
    candidates = [candidate_of(segment, mode) for segment in segments.values()]
    buffers = {said['name']: buffers_of(said) for said in saids}
    pool = Pool(OnnxRuntimeBackend(), segments)
    rounds: Dict[str, List[Any]] = {'resident': [], 'prepared': []}
    prepare_s: List[float] = []
    digests: Dict[str, List[str]] = {name: [] for name in segments}
    for index in range(SWITCHES * len(candidates)):
        candidate = candidates[index % len(candidates)]
        cold = (index // len(candidates)) % 2 == 0
        if cold:
            pool.evict_to(-1.0, [c.candidate_id for c in candidates if c is not candidate])
            start_s = time.perf_counter()
            pool.prepare(candidate)
            prepare_s.append(time.perf_counter() - start_s)
        executable = pool.get(candidate)
        assert executable is not None
        inputs, outputs = buffers[candidate.variant_id]
        times_s = [_run_s(executable, inputs, outputs) for _ in range(1 + STEADY_RUNS)]
        digests[candidate.variant_id].append(digest(outputs))
        if index >= len(candidates):  # the first round is everybody's first
            rounds['prepared' if cold else 'resident'].append({
                'first': times_s[0], 'steady': statistics.median(times_s[1:]),
                'last': times_s[-1], 'before': statistics.median(times_s[1:-1])})
    pool.close()
    fresh = {said['name']: _fresh_digest(said, mode, buffers[said['name']]) for said in saids}
    return {'rounds': rounds, 'prepare_s': prepare_s, 'answers': sum(map(len, digests.values())),
            'other': sum(d != fresh[name] for name, found in digests.items() for d in found)}


def _fresh_digest(said: Mapping[str, Any], mode: str, buffers: Tuple[Arrays, Arrays]) -> str:
    """Return the answer of a segment loaded anew; for 'fast' from a copy that was never kept."""
    segment = segment_of(said)
    if mode == FAST:
        segment = dataclasses.replace(segment, sha256='f' * 64)  # no kept graph has this key
    executable = OnnxRuntimeBackend().compile(segment, EngineOptions(memory_mode=mode))
    executable.run(*buffers)
    return digest(buffers[1])


def _run_s(executable: Any, inputs: Arrays, outputs: Arrays) -> float:
    start_s = time.perf_counter()
    executable.run(inputs, outputs)
    return time.perf_counter() - start_s


def blocking(said: Mapping[str, Any], rounds: int) -> Dict[str, Any]:
    """Return how late at worst the main thread runs while another makes sessions, seconds."""
    sys.setswitchinterval(THREAD_TURN_S)
    content = Path(said['plain_path']).read_bytes()
    segment = segments_of([said])[said['name']]
    backend = OnnxRuntimeBackend()
    beside = dataclasses.replace(segment, sha256='f' * 64)
    return {PLAIN: _latest_s(lambda: plain_session(content), rounds),
            'not kept': _latest_s(lambda: backend.compile(beside, EngineOptions()), rounds),
            FAST: _latest_s(lambda: backend.compile(segment, EngineOptions()), rounds)}


def _latest_s(make: Callable[[], Any], rounds: int) -> float:
    ended = threading.Event()

    def work() -> None:
        for _ in range(rounds):
            made = make()
            time.sleep(PAUSE_S)
            del made
            time.sleep(PAUSE_S)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    worst_s, last_s = 0.0, time.perf_counter()
    while not ended.is_set():
        time.sleep(TICK_S)
        now_s = time.perf_counter()
        worst_s, last_s = max(worst_s, now_s - last_s - TICK_S), now_s
    thread.join()
    return worst_s


def several(saids: Sequence[Mapping[str, Any]], mode: str) -> Dict[str, Any]:
    """Return what several segments take together, all resident and each run."""
    before = memory_mb()
    kept = []
    for said in saids:
        executable = ready(said, mode)
        kept.append(executable)
        for _ in range(2):
            executable.run(*buffers_of(said))
    after = memory_mb()
    return {'anon_mb': after['anon'] - before['anon'], 'rss_mb': after['rss'] - before['rss'],
            'count': len(kept)}


TASKS: Mapping[str, Callable[..., Dict[str, Any]]] = {
    'cold': cold, 'answered': answered, 'pool_switches': pool_switches, 'blocking': blocking,
    'several': several}


if __name__ == '__main__':
    request = json.loads(sys.argv[1])
    print(json.dumps(TASKS[request.pop('what')](**request)))
