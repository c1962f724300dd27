# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a timing is stated: the median ratio of interleaved pairs, its interval, and a control.

A pair is one run of A right beside one run of B, in alternating order; what slows the machine
down slows both. Pairs come from several fresh processes. The control is the same with A against
A: its half-width is what the machine itself adds.
"""
from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Sequence, Tuple

import numpy as np

from crowdhmt_ros.cli.processes import ProcessError, ros_environment

PAIRS, PROCESSES = 200, 5
RESAMPLES = 2000
WIDEST_CONTROL = 0.03
CONFIDENCE = 0.95


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


def median_ratio(pairs: Sequence[Tuple[float, float]], *, seed: int = 0) -> Ratio:
    """
    Return the median ratio second / first and its interval.

    :param pairs: (a, b) seconds, both above 0
    :param seed: of the resampling
    :raises ValueError: without pairs
    """
    ratios = np.array([b / a for a, b in pairs])
    if not len(ratios):
        raise ValueError('no pairs were measured')
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def holds_at_most(ratio: Ratio, bound: float, control: Ratio) -> bool:
    """
    Tell whether a ratio keeps an upper bound.

    The worse end of its interval may exceed the bound by the control's half-width; a control
    whose interval is wider than 3 % is inconclusive, which counts as not held.
    """
    if control.high - control.low > WIDEST_CONTROL:
        return False
    return ratio.high <= bound + control.half_width


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
                          timeout=timeout_s, check=False)
    if done.returncode:
        raise ProcessError('%s failed: %s' % (module, ' / '.join(
            done.stderr.strip().splitlines()[-3:])))
    return json.loads(done.stdout.strip().splitlines()[-1])
