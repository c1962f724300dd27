# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a timing is stated: the median ratio of interleaved pairs, its interval, and a control.

A pair is one run of A right beside one run of B, in alternating order; what slows the machine
down slows both. Pairs come from several fresh processes. The control is the same with A against
A: its half-width is what the machine itself adds. How many processes are run is decided by the
control alone, never by how the ratio turns out.
"""
from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, TypeVar

import numpy as np

from crowdhmt_ros.cli.figures import LOWER, Figure, claim
from crowdhmt_ros.cli.processes import ProcessError, ros_environment

PAIRS, PROCESSES = 200, 5
RESAMPLES = 2000
WIDEST_CONTROL = 0.03
CONFIDENCE = 0.95
TOLD = 6
T = TypeVar('T')
Rounds = Sequence[Mapping[str, float]]
"""What ran in turns -> its seconds, by round."""


@dataclass(frozen=True)
class Ratio:
    """
    The median paired ratio with its bootstrap interval.

    :param value: median of b / a
    :param low: lower end of the 95 % interval
    :param high: upper end
    :param pairs: number of pairs
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def text(self) -> str:
        """Short form for people."""
        return '%.4f [%.4f, %.4f], %d pairs' % (self.value, self.low, self.high, self.pairs)


def median_interval(values: Sequence[float], *, seed: int = 0) -> Tuple[float, float, float]:
    """
    Return the median of values and the ends of its bootstrap interval.

    :param seed: of the resampling
    :raises ValueError: without values
    """
    if not len(values):
        raise ValueError('nothing was measured')
    found, rng = np.asarray(values), np.random.default_rng(seed)
    medians = np.median(rng.choice(found, (RESAMPLES, len(found))), axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(np.median(found)), float(low), float(high)


def median_ratio(pairs: Sequence[Tuple[float, float]], *, seed: int = 0) -> Ratio:
    """
    Return the median ratio second / first and its interval.

    :param pairs: (a, b) seconds, both above 0
    :param seed: of the resampling
    :raises ValueError: without pairs
    """
    return Ratio(*median_interval([b / a for a, b in pairs], seed=seed), len(pairs))


class Compared(NamedTuple):
    """
    A ratio and its control, of the same run.

    :param ratio: B over A
    :param control: A over A
    """

    ratio: Ratio
    control: Ratio

    @property
    def conclusive(self) -> bool:
        """Whether the control is narrow enough for anything to be said."""
        return self.control.high - self.control.low <= WIDEST_CONTROL

    @property
    def text(self) -> str:
        """Short form for people."""
        return '%s, control %s%s' % (
            self.ratio.text, self.control.text,
            '' if self.conclusive else ', which is too wide: inconclusive')

    def keeps(self, bound: float, better: str) -> bool:
        """
        Tell whether the ratio keeps a bound.

        The worse end of its interval may be beyond the bound by the control's half-width; a
        control whose interval is wider than 3 % is inconclusive, which counts as not held.

        :param better: 'lower' or 'higher'
        """
        if not self.conclusive:
            return False
        if better == LOWER:
            return self.ratio.high <= bound + self.control.half_width
        return self.ratio.low >= bound - self.control.half_width


def holds_at_most(ratio: Ratio, bound: float, control: Ratio) -> bool:
    """Tell whether a ratio keeps an upper bound, see `Compared.keeps`."""
    return Compared(ratio, control).keeps(bound, LOWER)


def compared(rounds: Rounds, first: str, again: str, second: str) -> Compared:
    """Return second over first beside again over first, by rounds in which all three ran."""
    return Compared(*(median_ratio([(r[first], r[name]) for r in rounds])
                      for name in (second, again)))


def claim_ratio(key: str, found: Mapping[str, Compared], target: float, *, better: str, how: str,
                also: bool = True) -> Figure:
    """
    Return the claim that each of some ratios keeps a bound: the only way to claim a ratio.

    :param found: name, '' where there is one, -> ratio and control; the worst is the value
    :param how: what was measured; the ratios follow, of many only the worst and what falls short
    :param also: a further condition for it to hold
    """
    worst = (max if better == LOWER else min)(found.values(), key=lambda c: c.ratio.value)
    told = found if len(found) <= TOLD else {
        name: c for name, c in found.items() if c is worst or not c.keeps(target, better)}
    each = '; '.join((name + ' ' if name else '') + c.text for name, c in told.items())
    return claim(key, worst.ratio.value, target, better=better, how='%s: %s' % (how, each),
                 also=also and all(c.keeps(target, better) for c in found.values()))


def claim_median(key: str, values: Sequence[float], target: float, *, how: str,
                 also: bool = True) -> Figure:
    """Return the claim that a median is at most a bound; the upper end of its interval decides."""
    value, low, high = median_interval(values)
    return claim(key, value, target, better=LOWER, also=also and high <= target,
                 how='%s; interval of the median %.1f to %.1f' % (how, low, high))


def gathered(measure: Callable[[], Sequence[T]], control: Callable[[Sequence[T]], Ratio], *,
             least: int, most: int) -> List[T]:
    """
    Measure as often as it takes until the control is narrow; the ratio has no say in it.

    :param measure: runs a fresh process and returns what it measured
    :param control: of all that was measured
    :param least: so many processes in any case
    :param most: so many at most
    """
    found: List[T] = []
    for number in range(most):
        found += measure()
        if number + 1 >= least:
            ratio = control(found)
            if ratio.high - ratio.low <= WIDEST_CONTROL:
                break
    return found


def in_rounds(runs: Mapping[str, Callable[[], float]], count: int) -> List[Dict[str, float]]:
    """
    Measure several in turns; each comes behind each other equally often.

    :param runs: name -> runs once and returns its seconds
    :param count: of rounds
    """
    return [{name: runs[name]() for name in order(list(runs), number)}
            for number in range(count)]


def order(names: Sequence[T], number: int) -> List[T]:
    """Return the order of a round: every other one backwards, and the first one moves on."""
    first = number // 2 % len(names)
    moved = [*names[first:], *names[:first]]
    return moved[::-1] if number % 2 else moved


def interleave(a: Callable[[], float], b: Callable[[], float], pairs: int
               ) -> List[Tuple[float, float]]:
    """
    Measure pairs in alternating order.

    :param a: runs once and returns its seconds
    :param b: the same
    :param pairs: how many
    """
    found = []
    for i in range(pairs):
        if i % 2:
            second = b()
            found.append((a(), second))
        else:
            first = a()
            found.append((first, b()))
    return found


def timed(action: Callable[[], Any]) -> Callable[[], float]:
    """Return a function that runs the action once and returns its seconds."""
    def measure() -> float:
        start_s = time.perf_counter()
        action()
        return time.perf_counter() - start_s
    return measure


def in_fresh_process(module: str, options: Mapping[str, Any], *, timeout_s: float = 600.0) -> Any:
    """
    Run `python -m MODULE JSON` and return the JSON that its last line of output holds.

    ROS in it finds this machine alone, as the robot's processes do.

    :raises ProcessError: when it fails, with the end of what it said
    """
    done = subprocess.run([sys.executable, '-m', module, json.dumps(dict(options))],
                          env=ros_environment(), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout_s, check=False)
    if done.returncode:
        raise ProcessError('%s failed: %s' % (module, ' / '.join(
            done.stderr.strip().splitlines()[-3:])))
    return json.loads(done.stdout.strip().splitlines()[-1])
