# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether anybody gets something from a robot's peers' doors who has no right to it."""
from __future__ import annotations

from typing import Any, Dict, List

from benchmarks import timing
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform

REQUESTS, QUICK_REQUESTS = 1000, 120
TIMEOUT_S = 600.0


def security_figures(*, quick: bool, bundle_name: str = 'campus7') -> List[Figure]:
    """Return how many forged, replayed, altered and unknown-key requests were granted."""
    count = QUICK_REQUESTS if quick else REQUESTS
    found = timing.in_fresh_process('benchmarks._security_doors', {
        'bundle': bundle_name, 'count': count}, timeout_s=TIMEOUT_S)
    return figures_of(found)


def figures_of(found: Dict[str, Any]) -> List[Figure]:
    """Return the figures of one attack; rightful requests must have been granted throughout."""
    attempts = sum(found['attempts'].values())
    uncounted = sum(found['uncounted'].values())
    how = '%d requests of %d kinds at both doors; %s' % (
        attempts, len(found['attempts']), ', '.join(
            '%s %d' % (kind, number) for kind, number in sorted(found['refused'].items())))
    worst = ', '.join(sorted({**found['accepted'], **found['uncounted']})) or 'none'
    return [
        claim('unauthorized_accepted', float(sum(found['accepted'].values())), 0.0, better=LOWER,
              how=how, also=attempts > 0 and not found['turned_away']),
        claim('unauthorized_uncounted', float(uncounted), 0.0, better=LOWER,
              how='of them not counted in /diagnostics; kinds: %s' % worst),
        inform('rightful_refused', float(found['turned_away']),
               how='times that the rightful robot was refused in between; must be 0 above')]
