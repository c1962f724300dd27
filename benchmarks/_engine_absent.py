# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Without OpenVINO, ncnn and torch: does a robot still run, and does doctor say what they gain?

A fresh process in which they cannot be imported goes from the bundle to answered frames by the
parts of the robot's nodes.
"""
from __future__ import annotations

from typing import Any, Dict, List

from benchmarks import parts, timing
from crowdhmt_ros.cli.figures import HIGHER, Figure, claim

CHILD = 'benchmarks._engine_absent_child'
BLOCKED = ('openvino', 'ncnn', 'torch')
CLAIMS: parts.Claims = {'runs_without_extras': (1.0, HIGHER),
                        'doctor_says_what_is_gained': (1.0, HIGHER)}


def figures(quick: bool) -> List[Figure]:
    """Run a robot without them; nothing of it takes long."""
    answer: Dict[str, Any] = timing.in_fresh_process(
        CHILD, {'blocked': list(BLOCKED), 'frames': 10 if quick else 100})
    return [
        claim('runs_without_extras', answer['answered'] / answer['frames'], 1.0, better=HIGHER,
              how='share of %d frames that are answered in a process in which %s cannot be '
              'imported: bundle, tables, plan, switch, and a candidate that asks for each of them '
              'is refused in words; %d candidates to choose from, on %s' % (
                  answer['frames'], ', '.join(BLOCKED), answer['candidates'],
                  ', '.join(answer['engines']))),
        claim('doctor_says_what_is_gained', len(answer['gains']) / len(BLOCKED), 1.0,
              better=HIGHER, how='share of them of which crowdhmt doctor says what installing '
              'them gains: %s' % '; '.join(answer['gains']))]
