# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast a plan comes into force when its candidate is resident."""
from __future__ import annotations

from typing import Any, Dict, List

from benchmarks import timing
from crowdhmt_ros.cli.figures import LOWER, Figure, claim
from crowdhmt_ros.nodes.switching import switch_percentile_s

SWITCHES, QUICK_SWITCHES = 1000, 100
SWITCH_BOUND_US = 200.0


def switch_figures(bundle_name: str, *, quick: bool) -> List[Figure]:
    """
    Return the 99th percentile of the switch to a resident plan.

    :raises ProcessError: when the node did not take a plan
    """
    found: Dict[str, Any] = timing.in_fresh_process('benchmarks._node_switch', {
        'bundle': bundle_name, 'count': QUICK_SWITCHES if quick else SWITCHES})
    times_s = found['times_s']
    p99_s = switch_percentile_s(times_s)
    return [claim('switch_resident_us', None if p99_s is None else 1e6 * p99_s, SWITCH_BOUND_US,
                  better=LOWER, how="p99 of %d plans, the node's plan callback entered to "
                  'executor reference replaced, while its worker answered %d frames without '
                  'a pause; median %.1f us, longest %.1f us; nothing pinned, nothing niced' % (
                      len(times_s), found['answers'], 1e6 * sorted(times_s)[len(times_s) // 2],
                      1e6 * max(times_s)))]
