# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One frame: what is known to be in it, and what was answered."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from crowdhmt_ros.types.fleet import Crossing


@dataclass(frozen=True)
class FrameTruth:
    """
    Ground truth of a frame where the source knows it (the built-in campus).

    :param label: class name
    :param light_band: 'noon', 'afternoon' or 'dusk'
    :param box: (x0, y0, x1, y1) as ratios of the image, None without an object
    """

    label: str
    light_band: str
    box: Optional[Tuple[float, float, float, float]] = None


@dataclass(frozen=True)
class Inference:
    """
    The executor's answer for one frame.

    :param candidate_id: what computed it
    :param plan_seq: the plan under which it ran
    :param scores: per class, sums to 1
    :param exit_index: which exit answered
    :param preprocess_s: frame to tensor
    :param infer_s: the engine of this robot alone
    :param degraded: True when a fallback answered
    :param fallback_id: which candidate that was, '' unless degraded
    :param crossing: what the way to a peer has cost, None where this robot answered alone
    :param offload_s: crossing and remote time, or what was waited for a peer in vain; None for
        a candidate that stays here
    """

    candidate_id: str
    plan_seq: int
    scores: Tuple[float, ...]
    exit_index: int
    preprocess_s: float
    infer_s: float
    degraded: bool = False
    fallback_id: str = ''
    crossing: Optional[Crossing] = None
    offload_s: Optional[float] = None

    @property
    def best(self) -> int:
        """Index of the highest score; the first of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)
