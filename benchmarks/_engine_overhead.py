# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What our layers add to an inference: pool, turns and executable over the bare call of the engine.

The leanest variant of the shipped bundle, where a microsecond counts most. Ours is what the
camera runs; the bare call is the engine's own, on buffers that it knows already.
"""
from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from benchmarks import parts, timing
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
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
    medians = {name: float(np.median(each['extra_us'])) for name, each in found.items()}
    worst = max(medians, key=lambda name: medians[name])
    rows = [inform('engine_overhead_us/' + name, medians[name],
                   how='bare call %.0f us, %d pairs in fresh processes' % (
                       float(np.median(each['bare_us'])), len(each['bare_us'])))
            for name, each in found.items()]
    return [claim('engine_overhead_us', medians[worst], MOST_US, better=LOWER,
                  how='median difference of interleaved pairs, an inference of the leanest '
                  'campus7 variant through pool, turns and executable against the bare call, '
                  '1 thread; the most of %s: %s' % (', '.join(found), worst)), *rows]


def _measured(name: str, quick: bool) -> Dict[str, List[float]]:
    made: Dict[str, List[float]] = {'extra_us': [], 'bare_us': []}
    for _ in range(1 if quick else PROCESSES):
        answer: Dict[str, Any] = timing.in_fresh_process(
            CHILD, {'engine': name, 'pairs': QUICK_PAIRS if quick else PAIRS})
        made['bare_us'] += [1e6 * bare for bare, _ in answer['pairs']]
        made['extra_us'] += [1e6 * (full - bare) for bare, full in answer['pairs']]
    return made
