# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What asking a peer costs beside what the peer computes."""
from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from benchmarks import timing
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform

CALLS, QUICK_CALLS, QUICK_PROCESSES = 60, 15, 2
PAUSED_CALLS, QUICK_PAUSED_CALLS = 30, 5
SIZES: Tuple[Tuple[str, int, float], ...] = (
    ('offload_overhead_ms', 10_000, 2.0), ('offload_overhead_1mb_ms', 1_000_000, 10.0))
"""Key, payload in bytes, bound in ms."""


def interval_ms(took_s: Sequence[float], *, seed: int = 0) -> Tuple[float, float, float]:
    """Return the median and its 95 % bootstrap interval, ms."""
    taken = 1e3 * np.asarray(took_s)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(taken, (timing.RESAMPLES, len(taken))), axis=1)
    tail = 100 * (1 - timing.CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(np.median(taken)), float(low), float(high)


def figures_of(found: Sequence[Dict[str, Any]]) -> List[Figure]:
    """
    Return the figures of some processes.

    :param found: one a process: 'overhead_s' -> payload bytes as text -> seconds of each call;
        in the same shape 'link_s', what neither robot accounts for, and 'paused_s', the overhead
        of calls at 20 Hz between processes that sleep meanwhile
    """
    figures = []
    for key, payload_bytes, bound in SIZES:
        name = str(payload_bytes)
        took_s = [s for part in found for s in part['overhead_s'][name]]
        link_s = [s for part in found for s in part['link_s'][name]]
        each = ', '.join('%.2f' % (1e3 * float(np.median(part['overhead_s'][name])))
                         for part in found)
        median, low, high = interval_ms(took_s)
        enough = len(took_s) >= timing.PAIRS and len(found) >= timing.PROCESSES
        figures.append(claim(
            key, median, bound, better=LOWER, also=enough and high <= bound,
            how='[%.2f, %.2f] ms, %d calls of %d bytes without a '
            'pause in %d fresh pairs of processes (%s); from submit to the waiter going on, minus '
            'what the peer reports to have run' % (
                low, high, len(took_s), payload_bytes, len(found), each)))
        figures.append(inform(key + '/p95', 1e3 * float(np.percentile(took_s, 95)),
                              how='of the same calls'))
        figures.append(inform(key + '/at_20hz', 1e3 * float(np.median(
            [s for part in found for s in part['paused_s'][name]])), how='the same with pauses '
            'in which both processors fall asleep'))
        figures.append(inform(key + '/link', 1e3 * float(np.median(link_s)),
                              how='without the wait at the peer and the wake-up here'))
    return figures


def overhead_figures(*, quick: bool) -> List[Figure]:
    """Return the overhead of a 10 kB and of a 1 MB feature map over loopback."""
    processes, calls, paused = (QUICK_PROCESSES, QUICK_CALLS, QUICK_PAUSED_CALLS) if quick else (
        timing.PROCESSES, CALLS, PAUSED_CALLS)
    return figures_of([
        timing.in_fresh_process('benchmarks._pair_caller', {
            'calls': calls, 'paused_calls': paused, 'sizes': [size for _, size, _ in SIZES]})
        for _ in range(processes)])
