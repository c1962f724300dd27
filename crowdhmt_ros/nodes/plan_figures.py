# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the camera remembers of plans: predicted energy and memory, the budget in force."""
from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional

from crowdhmt_ros.planner.budgets import AVAILABLE_SHARE
from crowdhmt_ros.types import Reading


class PlanFigures:
    """Figures of the candidates that plans have named; free of ROS but for the message's shape."""

    def __init__(self) -> None:
        self._energy_j: Dict[str, float] = {}
        self._memory: Dict[str, Reading] = {}
        self.budget_bytes: Optional[float] = None
        self.boot_id = ''

    def note(self, plan: Any) -> None:
        """Take the figures of a `plan` message."""
        self.boot_id = plan.boot_id
        for choice in (plan.choice, plan.runner_up):
            if choice.candidate_id:
                self._keep(choice)
        budgets = [value for value in (plan.requirements.memory_budget_bytes,
                                       plan.snapshot.memory_allotted_bytes)
                   if not math.isnan(value)]
        available = plan.snapshot.memory_available_bytes
        if not budgets and not math.isnan(available):
            budgets.append(AVAILABLE_SHARE * available)
        self.budget_bytes = min(budgets) if budgets else None

    def energy_j(self, candidate_id: str) -> Optional[float]:
        """Return the predicted energy of one frame, None where no plan has told it."""
        return self._energy_j.get(candidate_id)

    @property
    def memory(self) -> Mapping[str, Reading]:
        """candidate_id -> predicted bytes, as far as plans have told them."""
        return self._memory

    def _keep(self, choice: Any) -> None:
        if not math.isnan(choice.energy_j):
            self._energy_j[choice.candidate_id] = choice.energy_j
        if not math.isnan(choice.memory_bytes):
            self._memory[choice.candidate_id] = Reading(choice.memory_bytes,
                                                        choice.memory_source)
