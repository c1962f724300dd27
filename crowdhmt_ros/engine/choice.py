# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which engine runs a segment fastest on this device: measured, not guessed (P III-C1).

An entrant runs against the default engine in turns, so that what slows the machine down slows
both; what counts is the ratio of their times. Two executables are in memory at once, no more. An
engine that refuses, does not start or gives another answer is out, with the reason. What wins
must win by a margin: two measurements of the same thing do not change the engine.
"""
from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.engine.backend import Backend, make_buffers
from crowdhmt_ros.engine.memory.room import RoomError
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.types import EngineOptions, Segment

CHOSEN_FROM = ('onnxruntime', 'openvino', 'ncnn', 'tensorrt', 'onnxruntime_cuda',
               'onnxruntime_tensorrt')
"""Engines that are raced. PyTorch interprets and never won; it runs where it is named."""
FULL = 'fp32'
LEAN_MODES = ('mapped', 'streamed')
"""Offered beside the fast modes for what they save, whatever their time."""
MARGIN_RATIO = 0.97
"""Another engine must take at most this share of the time of the one before."""
FEWEST_ROUNDS, MOST_ROUNDS = 5, 60
HOPELESS_RATIO, HOPELESS_ROUNDS = 1.5, 3
"""So much slower after so many rounds it is not looked at any longer."""
WARM_UP_RUNS = 2
TURN_S, MOST_RUNS = 0.002, 20
"""A turn is so many runs as fill this time: single runs of small segments are all noise."""
LONGEST_S = 0.7
TOLERANCES: Mapping[str, float] = {'fp32': 1e-3}
"""Precision -> largest difference of an answer, over the largest value of the default's."""
LOW_TOLERANCE = 0.2
"""Of a precision whose accuracy the bundle states: it only has to be the same network."""
EVENNESS_RATIO = 0.99
"""Of two engines that are both worth it, the later one must be faster by this."""


@dataclass(frozen=True)
class Entrant:
    """A segment, and how an engine is to run it."""

    segment: Segment
    options: EngineOptions


@dataclass(frozen=True)
class Heat:
    """
    What is tried for one segment.

    :param default: what runs it now
    :param others: to be tried on the same segment
    :param fused: forms of the segment by fusion set, tried on the fastest engine
    :param more: forms in lower precisions; they are measured, and chosen by others
    """

    default: Entrant
    others: Tuple[EngineOptions, ...]
    fused: Tuple[Tuple[str, Segment], ...] = ()
    more: Tuple[Entrant, ...] = ()


@dataclass(frozen=True)
class Result:
    """
    How an entrant did.

    :param ratio: of the default's time, None where it did not run
    :param samples: turns that this rests on
    :param reason: why it did not run, '' where it did
    :param put_off: it did not run for want of memory: another time it may
    """

    entrant: Entrant
    ratio: Optional[float]
    samples: int = 0
    reason: str = ''
    put_off: bool = False


def offers(default: EngineOptions, engines: Sequence[str], *,
           precisions: Sequence[str] = ('fp32',), lean_modes: Sequence[str] = LEAN_MODES
           ) -> Tuple[EngineOptions, ...]:
    """
    Return what may run a segment other than its default.

    :param default: threads and spinning are taken from it: the schedule decides on these
    :param engines: installed ones
    :param precisions: in which the bundle states the accuracy
    :param lean_modes: memory modes of the default engine to try where it runs on one thread
    """
    found = [replace(default, backend=engine, precision=precision,
                     spinning=default.spinning and engine == default.backend)
             for engine in engines for precision in precisions]
    if default.threads == 1:
        found += [replace(default, memory_mode=mode) for mode in lean_modes]
    return tuple(options for options in dict.fromkeys(found) if options != default)


class _Lane:
    """One executable with buffers of its own, and how long its turns took."""

    def __init__(self, backend: Backend, entrant: Entrant) -> None:
        self._executable = backend.compile(entrant.segment, entrant.options)
        rng = np.random.default_rng(0)
        self._inputs = tuple(rng.standard_normal(s.shape).astype(s.dtype)
                             for s in self._executable.inputs)
        self.outputs = make_buffers(self._executable.outputs)
        self.runs = 1
        for _ in range(WARM_UP_RUNS):
            self.run()

    def run(self) -> None:
        """Run once."""
        self._executable.run(self._inputs, self.outputs)

    def turn(self, clock: Callable[[], float]) -> float:
        """Return the seconds of a turn."""
        began_s = clock()
        for _ in range(self.runs):
            self.run()
        return clock() - began_s


def race(backend: Backend, heat: Heat, *, longest_s: float = LONGEST_S,
         clock: Callable[[], float] = time.perf_counter,
         starts: Callable[[Entrant], None] = lambda entrant: None) -> Iterator[Result]:
    """
    Yield how each entrant of a heat did, then how the fused forms did on the fastest engine.

    :param backend: hands segments to the engines that options name
    :param longest_s: for the turns of one entrant; the fewest rounds are run in any case
    :param starts: told of each entrant before it is touched: it may end this process
    :raises BackendError: when the default does not run
    """
    starts(heat.default)
    default = _Lane(backend, heat.default)
    single_s = max(default.turn(clock), 1e-9)
    default.runs = max(1, min(MOST_RUNS, int(TURN_S / single_s)))
    best = Result(heat.default, 1.0)
    for options in heat.others:
        result = _duel(backend, default, Entrant(heat.default.segment, options), longest_s, clock,
                       starts)
        yield result
        plain = (options.memory_mode, options.precision) == (
            heat.default.options.memory_mode, heat.default.options.precision)
        if plain and result.ratio is not None and result.ratio < (best.ratio or 1.0):
            best = result
    for name, segment in heat.fused:
        fused = Entrant(segment, replace(best.entrant.options, fusion_set=name))
        yield _duel(backend, default, fused, longest_s, clock, starts)
    for entrant in heat.more:
        yield _duel(backend, default, entrant, longest_s, clock, starts)


def _duel(backend: Backend, default: _Lane, entrant: Entrant, longest_s: float,
          clock: Callable[[], float], starts: Callable[[Entrant], None]) -> Result:
    starts(entrant)
    try:
        refusal = backend.refusal(entrant.segment, entrant.options)
        if refusal:
            return Result(entrant, None, 0, refusal)
        lane = _Lane(backend, entrant)
        difference = _difference(default.outputs, lane.outputs)
        allowed = TOLERANCES.get(entrant.options.precision, LOW_TOLERANCE)
        if not difference <= allowed:
            return Result(entrant, None, 0, 'its answer differs by %.2g of the largest value, '
                          '%.2g is allowed' % (difference, allowed))
        ratios = _turns(default, lane, longest_s, clock)
    except BackendError as error:
        return Result(entrant, None, 0, str(error), isinstance(error, RoomError))
    return Result(entrant, statistics.median(ratios), len(ratios))


def _turns(default: _Lane, lane: _Lane, longest_s: float, clock: Callable[[], float]
           ) -> List[float]:
    """Return the ratio of each pair of turns, who comes first alternating."""
    lane.runs = default.runs
    until_s = clock() + longest_s
    ratios: List[float] = []
    while len(ratios) < MOST_ROUNDS and (len(ratios) < FEWEST_ROUNDS or clock() < until_s):
        if len(ratios) % 2:
            other_s = lane.turn(clock)
            default_s = default.turn(clock)
        else:
            default_s = default.turn(clock)
            other_s = lane.turn(clock)
        ratios.append(other_s / max(default_s, 1e-9))
        if len(ratios) == HOPELESS_ROUNDS and min(ratios) > HOPELESS_RATIO:
            break
    return ratios


def _difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Return the largest difference over the largest value; NaN where one is not finite."""
    worst = 0.0
    for a, b in zip(expected, found):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return math.nan
        largest = float(np.abs(a).max(initial=0.0))
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / max(largest, 1e-30))
    return worst


def fastest(results: Sequence[Result], *, kept: Optional[EngineOptions] = None
            ) -> Optional[EngineOptions]:
    """
    Return what should run a segment in place of its default, None where the default stays.

    :param results: of one heat; what is lean or of another precision is not looked at
    :param kept: chosen when this was measured before: it stays unless another one, or the
        default, wins against it by the margin
    """
    ratios = {r.entrant.options: r.ratio for r in results
              if r.ratio is not None and r.entrant.options.memory_mode not in LEAN_MODES
              and r.entrant.options.precision == FULL}
    best: Optional[EngineOptions] = None
    best_ratio = MARGIN_RATIO
    for options, ratio in ratios.items():
        if ratio <= best_ratio:
            best, best_ratio = options, ratio * EVENNESS_RATIO
    kept_ratio = None if kept is None else ratios.get(kept)
    if kept_ratio is None:
        return best
    least = min([1.0, *ratios.values()])
    return best if least <= MARGIN_RATIO * kept_ratio else kept


def fastest_low(results: Sequence[Result]) -> Tuple[EngineOptions, ...]:
    """Return the fastest way in each lower precision that ran: another answer, another choice."""
    best: Dict[str, Result] = {}
    for result in results:
        precision = result.entrant.options.precision
        if precision == FULL or result.ratio is None:
            continue
        ahead = best.get(precision)
        if ahead is None or result.ratio < EVENNESS_RATIO * (ahead.ratio or 0.0):
            best[precision] = result
    return tuple(result.entrant.options for result in best.values())
