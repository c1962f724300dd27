# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the cores of this machine are used, core by core."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoreLoad:
    """
    What became of one processor core since the last look.

    :param core: its number
    :param others_ratio: share that processes took which are not this robot's, 0..1
    :param idle_ratio: share that nobody took, 0..1
    """

    core: int
    others_ratio: float
    idle_ratio: float
