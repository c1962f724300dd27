# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The tables of this machine, measured once at its first start (P III-D1, offline calibration).

Whole models are measured under every engine setting to be offered, the heads that a cut leaves
here with one thread. Latencies are measured interleaved - every candidate once a round - so that
a busy moment slows all of them alike and the ranking stands. Memory is measured by a callable
from above, which starts a fresh process for each graph: in this process freed memory would hide
the next one's.
The time is boxed: a slow machine measures fewer rounds, and each memory process gets no more
than the time left. Memory that there was no time for is taken from the same graph with fewer
threads, or else from the engine (the growth of this process, at least the weights), and marked
as estimated.
"""
from __future__ import annotations

import fcntl
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.front import build_front, front_sha256
from crowdhmt_ros.profiling.latency import summarise
from crowdhmt_ros.profiling.seams import (
    Backend,
    CandidateSource,
    Executable,
    local_segments,
    offered_heads,
)
from crowdhmt_ros.profiling.tables import (
    Row,
    Tables,
    load_tables,
    row_key,
    save_tables,
    tables_path,
)
from crowdhmt_ros.types import (
    ESTIMATED,
    MEASURED,
    Candidate,
    EngineOptions,
    Estimate,
    Segment,
)

__all__ = ['Row', 'Tables', 'build_front', 'calibrate', 'front_sha256', 'load_tables',
           'row_key', 'save_tables']

logger = logging.getLogger(__name__)

LONGEST_S = 60.0
LATENCY_SHARE = 0.4
"""Of the time, for latencies; memory has the rest."""
MOST_ROUNDS = 40
FEWEST_ROUNDS = 3
SHORT_RUNS = 50
"""Of preparing a frame, and of each codec."""
LONGEST_MEMORY_S = 30.0
"""For one memory process; a hung one must not take the time of all others."""
SHORTEST_MEMORY_S = 0.5
"""With less time left no process is started: it would only be ended again."""


class MeasureMemory(Protocol):
    """Measures memory in a fresh process."""

    def __call__(self, candidate: Candidate, segment: Segment, *, longest_s: float) -> int:
        """
        Return the bytes that a candidate takes.

        :param longest_s: after so many seconds it must have ended
        :raises CalibrationError: when it failed or took too long
        """


Progress = Callable[[float, str], None]
"""Takes the part done, 0..1, and what is being done."""


@dataclass(frozen=True)
class Settings:
    """
    How to calibrate.

    :param device: see `resources.machine.device_key`; a slowed backend needs a key of its own
    :param threads: thread counts to offer
    :param memory_modes: memory modes to offer
    :param longest_s: for everything together
    """

    device: str
    threads: Tuple[int, ...] = (1, 2)
    memory_modes: Tuple[str, ...] = ('fast', 'lean')
    longest_s: float = LONGEST_S


def calibrate(bundle: CandidateSource, backend: Backend, segments: Mapping[str, Segment],
              cache_dir: Path, *, settings: Settings,
              measure_memory: Optional[MeasureMemory] = None,
              preprocess: Optional[Callable[[], None]] = None,
              codecs: Optional[Mapping[str, Callable[[], None]]] = None,
              progress: Optional[Progress] = None,
              clock: Callable[[], float] = time.perf_counter) -> Tables:
    """
    Return the tables of this machine: those kept from an earlier start, else measured now.

    Two processes that start together measure once: the second waits for the first. A table that
    is damaged or from another machine is measured anew, with a warning. Where the tables cannot
    be kept the loop goes on without keeping them.

    :param bundle: what can run
    :param backend: what runs it
    :param segments: segment_id -> graph on this device
    :param cache_dir: where tables are kept
    :param settings: device, options to offer, time limit
    :param measure_memory: without it the engine's own figure is taken, marked as estimated
    :param preprocess: prepares one typical frame; timed, its time is part of each latency
    :param codecs: `crossing_key` -> packs and unpacks one typical crossing; each is timed
    :param progress: told what happens
    :param clock: seconds
    :raises CalibrationError: when there is nothing to measure
    :raises BackendError: when a graph does not compile or run
    """
    wholes = bundle.candidates(settings.threads, settings.memory_modes)
    if not wholes:
        raise CalibrationError('there is nothing to calibrate: the bundle offers no candidate, '
                               'or no thread count or memory mode is allowed')
    work = _work((*wholes, *offered_heads(bundle, segments, settings.memory_modes)), segments)
    path = tables_path(Path(cache_dir), bundle.sha256, settings.device)
    with one_at_a_time(path):
        kept = _kept(path, bundle.sha256, settings.device, work, codecs or {})
        if kept is not None:
            return kept
        tables = _measure(work, backend, measure_memory, preprocess, bundle.sha256, settings,
                          progress or _silent, clock, codecs or {})
        try:
            save_tables(tables, path)
        except CalibrationError as error:
            logger.warning('%s; this start goes on without keeping them', error)
    return tables


@dataclass(frozen=True)
class Work:
    """One row to be measured."""

    candidate: Candidate
    segment: Segment

    @property
    def options(self) -> EngineOptions:
        """How the engine runs it."""
        return self.candidate.engine

    @property
    def is_head(self) -> bool:
        """Whether it is only the part before a cut."""
        return self.candidate.placement.segments[0].role == 'head'

    @property
    def is_part(self) -> bool:
        """Whether it is not all of a candidate."""
        return self.is_head or self.candidate.placement.is_early

    @property
    def name(self) -> str:
        """For messages."""
        if not self.is_part:
            return self.candidate.candidate_id
        return f'{self.segment.segment_id}/{self.options.threads}t/{self.options.memory_mode}'


def _work(candidates: Sequence[Candidate], segments: Mapping[str, Segment]) -> Dict[str, Work]:
    found: Dict[str, Work] = {}
    for candidate in candidates:
        for name in local_segments(candidate):
            segment = segments[name]
            found.setdefault(row_key(segment.sha256, candidate.engine), Work(candidate, segment))
    return found


def _silent(_part: float, _text: str) -> None:
    return


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock beside `path`; where none can be made, go on: nothing will be kept either."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix('.lock').open('w')
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _kept(path: Path, bundle_sha256: str, device: str, work: Mapping[str, Work],
          codecs: Mapping[str, Callable[[], None]]) -> Optional[Tables]:
    if not path.exists():
        return None
    try:
        tables = load_tables(path)
    except CalibrationError as error:
        logger.warning('%s; measuring now', error)
        return None
    if tables.device != device or tables.bundle_sha256 != bundle_sha256:
        logger.warning('%s was measured on %s for another bundle or device; measuring now',
                       path, tables.device)
        return None
    missing = (set(work) - set(tables.rows)) | (set(codecs) - set(tables.codec_s))
    if missing:
        logger.info('%s lacks %d of %d rows; measuring now', path, len(missing),
                    len(work) + len(codecs))
        return None
    return tables


def _measure(work: Mapping[str, Work], backend: Backend, measure_memory: Optional[MeasureMemory],
             preprocess: Optional[Callable[[], None]], bundle_sha256: str, settings: Settings,
             progress: Progress, clock: Callable[[], float],
             codecs: Mapping[str, Callable[[], None]]) -> Tables:
    began_s = clock()
    preprocess_s = _timed(preprocess, clock)
    codec_s = {key: _timed(codec, clock) for key, codec in codecs.items()}
    latencies, estimated = _latencies(
        work, backend, began_s + LATENCY_SHARE * settings.longest_s, progress, clock)
    memory = _memory(work, estimated, measure_memory, began_s + settings.longest_s, progress,
                     clock)
    rows = {key: Row(summarise(latencies[key]), memory[key], len(latencies[key]))
            for key in work}
    progress(1.0, f'measured {len(rows)} ways to run in {clock() - began_s:.0f} s')
    return Tables(settings.device, bundle_sha256, preprocess_s, rows, codec_s)


def _timed(work: Optional[Callable[[], None]], clock: Callable[[], float]) -> Estimate:
    if work is None:
        return Estimate(0.0, 0.0, ESTIMATED)
    work()
    samples = []
    for _ in range(SHORT_RUNS):
        began_s = clock()
        work()
        samples.append(clock() - began_s)
    return summarise(samples)


class _Bench:
    """One executable with buffers of its own."""

    def __init__(self, executable: Executable) -> None:
        self.executable = executable
        rng = np.random.default_rng(0)
        self._inputs = [rng.random(s.shape).astype(s.dtype) for s in executable.inputs]
        self._outputs = [np.zeros(s.shape, s.dtype) for s in executable.outputs]

    def time(self, clock: Callable[[], float]) -> float:
        """Run once and return the seconds that it took."""
        began_s = clock()
        self.executable.run(self._inputs, self._outputs)
        return clock() - began_s


def _latencies(work: Mapping[str, Work], backend: Backend, until_s: float, progress: Progress,
               clock: Callable[[], float]) -> Tuple[Mapping[str, List[float]], Mapping[str, int]]:
    """Return the times of every row, and what each executable says that it takes."""
    benches: Dict[str, _Bench] = {}
    samples: Dict[str, List[float]] = {}
    for done, (key, item) in enumerate(work.items()):
        progress(0.1 * done / len(work), f'compiling {item.name}')
        benches[key] = _Bench(backend.compile(item.segment, item.options))
        samples[key] = [benches[key].time(clock)]  # warms up; counts only where time is short
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS and clock() >= until_s:
            break
        progress(0.1 + 0.3 * number / MOST_ROUNDS, f'timing, round {number + 1}')
        for key, bench in benches.items():
            if clock() < until_s:
                samples[key].append(bench.time(clock))
    timed = {key: times[1:] or times for key, times in samples.items()}
    return timed, {key: bench.executable.memory_bytes for key, bench in benches.items()}


def _memory(work: Mapping[str, Work], estimated: Mapping[str, int],
            measure_memory: Optional[MeasureMemory], until_s: float, progress: Progress,
            clock: Callable[[], float]) -> Mapping[str, Estimate]:
    """
    Return the memory of every row, few threads first, heads last.

    A further thread adds about 5 %. Where time ran out, the same graph's figure with fewer
    threads serves, marked as estimated; without one the engine's own.
    """
    found: Dict[str, Estimate] = {}
    alike: Dict[str, Estimate] = {}
    order = sorted(work.items(), key=lambda item: (item[1].is_head, item[1].options.threads))
    for done, (key, item) in enumerate(order):
        family = row_key(item.segment.sha256, replace(item.options, threads=1, spinning=False))
        progress(0.4 + 0.6 * done / len(work), f'memory of {item.name}')
        left_s = until_s - clock()
        measured = None if measure_memory is None or left_s < SHORTEST_MEMORY_S \
            else _measured_memory(item, measure_memory, min(LONGEST_MEMORY_S, left_s))
        guess = float(max(estimated[key], item.segment.weight_bytes))
        found[key] = measured or alike.get(family) or Estimate(guess, guess, ESTIMATED)
        alike[family] = replace(found[key], source=ESTIMATED)
    return found


def _measured_memory(item: Work, measure_memory: MeasureMemory, longest_s: float
                     ) -> Optional[Estimate]:
    try:
        taken = float(measure_memory(item.candidate, item.segment, longest_s=longest_s))
    except CalibrationError as error:
        logger.warning('memory of %s is estimated: %s', item.name, error)
        return None
    return Estimate(taken, taken, MEASURED)
