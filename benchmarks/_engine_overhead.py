# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What our layers add to an inference: pool, turns and executable over the bare call of the engine.

The leanest variant of the shipped bundle, where a microsecond counts most. Ours asks the pool and
runs what it has, in turns; the bare call is the engine's own, on buffers that it knows already.
"""
from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from benchmarks import parts, timing
from crowdhmt_ros.cli.figures import LOWER, Figure, inform
from crowdhmt_ros.engine.backends import ENGINES

CHILD = 'benchmarks._engine_overhead_child'
BARE = ('onnxruntime', 'openvino', 'ncnn')
"""Engines whose bare call is known here."""
PAIRS, QUICK_PAIRS, PROCESSES = 1500, 200, 3
MOST_US = 50.0
CLAIMS: parts.Claims = {'engine_overhead_us': (MOST_US, LOWER)}


def figures(quick: bool) -> List[Figure]:
    """Measure every engine that is installed; the worst one decides."""
    found = {name: _measured(name, quick) for name in BARE if ENGINES[name].installed}
    medians = {name: float(np.median(each['ours'])) for name, each in found.items()}
    worst = max(medians, key=lambda name: medians[name])
    rows = [inform('engine_overhead_us/' + name, medians[name],
                   how='bare call %.0f us, once more %+.1f us, %d rounds in fresh processes' % (
                       float(np.median(each['bare'])), float(np.median(each['again'])),
                       len(each['bare']))) for name, each in found.items()]
    return [timing.claim_median(
        'engine_overhead_us', found[worst]['ours'], MOST_US,
        how='median difference of interleaved pairs, an inference of the leanest campus7 variant '
        'through pool, turns and executable against the bare call, 1 thread; the most of %s: %s'
        % (', '.join(found), worst)), *rows]


def _measured(name: str, quick: bool) -> Dict[str, List[float]]:
    """Return microseconds of the bare call, and what it takes again and ours more than it."""
    made: Dict[str, List[float]] = {'bare': [], 'again': [], 'ours': []}
    for _ in range(1 if quick else PROCESSES):
        answer: Dict[str, Any] = timing.in_fresh_process(
            CHILD, {'engine': name, 'rounds': QUICK_PAIRS if quick else PAIRS})
        for one in answer['rounds']:
            made['bare'].append(1e6 * one['bare'])
            made['again'].append(1e6 * (one['bare again'] - one['bare']))
            made['ours'].append(1e6 * (one['ours'] - one['bare']))
    return made
