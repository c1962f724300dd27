# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
When an obstacle is near: the summed probability of the watched classes, with hysteresis.

A classifier says what the picture shows, not where. How well this agrees with what really fills
the view was measured; see docs/decisions/0010-obstacle-near.md.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence


@dataclass(frozen=True)
class Change:
    """
    What a frame has changed.

    :param near: false when the view is free again
    :param label: class of the obstacle that came, or that is gone
    :param score: summed probability of the watched classes in this frame
    """

    near: bool
    label: str
    score: float


class NearRule:
    """
    Whether an obstacle is near, from the scores of one frame after the other.

    A single frame above the upper score is enough: a missed obstacle costs more than an early
    warning. To be free again takes several frames below the lower score. Another class is another
    obstacle once it has led for as many frames.

    :param labels: classes of the model, in the order of its scores
    :param watched: classes that are obstacles; those that the model lacks are passed over
    :param score: near from this summed probability on
    :param free_score: free below this one, at most `score`
    :param free_frames: consecutive frames that it takes to be free, or to be another class
    """

    def __init__(self, labels: Sequence[str], *, watched: Sequence[str], score: float,
                 free_score: float, free_frames: int) -> None:
        self._labels = tuple(labels)
        self._indices = tuple(i for i, label in enumerate(labels) if label in watched)
        self._score, self._free_score = score, min(free_score, score)
        self._free_frames = free_frames
        self._below = self._other = 0
        self.near = ''

    def look(self, scores: Sequence[float]) -> Optional[Change]:
        """Take one frame's probabilities; None when nothing has changed."""
        if not self._indices:
            return None
        total = sum(scores[i] for i in self._indices)
        leading = self._labels[max(self._indices, key=lambda i: scores[i])]
        if not self.near:
            return self._came(leading, total) if total >= self._score else None
        self._below = self._below + 1 if total < self._free_score else 0
        self._other = self._other + 1 if leading != self.near and total >= self._score else 0
        if self._below >= self._free_frames:
            gone, self.near = self.near, ''
            self._below = self._other = 0
            return Change(False, gone, total)
        return self._came(leading, total) if self._other >= self._free_frames else None

    def _came(self, label: str, total: float) -> Change:
        self.near = label
        self._below = self._other = 0
        return Change(True, label, total)
