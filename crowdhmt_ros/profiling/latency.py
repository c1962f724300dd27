# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Latency of one frame: a table measured on this machine, corrected by what runs beside it.

The table replaces the sum over layers of formula (2), P III-D1; its outer factors remain: the
processor is slower by the share that others take and by a lowered clock.
"""
from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from crowdhmt_ros.types import MEASURED, Estimate, ResourceSnapshot

FAIR_SHARE = 0.5
"""A fair scheduler leaves a thread at least this much of a core against one competitor."""
BUSY_RATIO = 0.5
"""Below this load a low clock is the governor's saving, not a limit."""
SPREAD_LIMIT = 4.0
"""A 95th percentile beyond this multiple of the centre is the neighbours', not the candidate's."""


def slowdown(snapshot: ResourceSnapshot) -> float:
    """
    Return the factor on the latency of an idle machine, from resources alone.

    Formula (2), *reconstructed*: the rate scales with the share of the processor that others
    leave and with the clock. It serves only until the first feedback, which knows better.

    :param snapshot: unknown readings count as no slowdown
    :returns: at least 1
    """
    others = snapshot.cpu_others_ratio.value
    factor = 1.0 / max(FAIR_SHARE, 1.0 - others) if others is not None else 1.0
    clock, load = snapshot.cpu_frequency_ratio.value, snapshot.cpu_load_ratio.value
    if clock is not None and load is not None and load >= BUSY_RATIO:
        factor /= min(1.0, max(0.1, clock))
    return max(1.0, factor)


def spread(centre: float, p95: float) -> float:
    """Return the 95th percentile over the centre, within 1 and `SPREAD_LIMIT`."""
    if not (math.isfinite(p95) and centre > 0.0):
        return 1.0
    return min(SPREAD_LIMIT, max(1.0, p95 / centre))


def summarise(samples_s: Sequence[float]) -> Estimate:
    """
    Return the centre and the 95th percentile of measured times.

    The centre is the median: on a shared machine the mean belongs to the neighbours.

    :param samples_s: at least one time
    """
    values = np.asarray(samples_s, dtype=np.float64)
    centre = float(np.median(values))
    return Estimate(centre, max(centre, float(np.percentile(values, 95))), MEASURED)
