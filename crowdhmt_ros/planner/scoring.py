# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Formula (3) of P III-D2, *reconstructed*: accuracy against energy, weighed by the battery.

    maximise  w_accuracy N(A) - w_energy N(E)
    w_energy = max(0.3, 1 - battery),  w_accuracy = 1 - w_energy

N is the logarithm scaled to 0..1 over the candidates that stay here, so that a peer that comes
or goes changes no score of theirs; with a peer N may leave 0..1. Plain logarithms would always
pick the leanest candidate: ten times the energy outweighs any accuracy.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Mapping, NamedTuple, Sequence, Tuple

from crowdhmt_ros.planner.budgets import NO_EXCESS, Budgets, Excess, excess, has_room
from crowdhmt_ros.types import CostEstimate, Requirements, ResourceSnapshot

ACCURACY, ENERGY = 'accuracy', 'energy'
LOWEST_ENERGY_WEIGHT = 0.3
"""Energy always counts a little; also the weight while the battery is unknown."""
SMALLEST_ACCURACY = 1e-6
SMALLEST_ENERGY_J = 1e-12


class Rated(NamedTuple):
    """
    One candidate under the budgets and weights of this step.

    :param estimate: its figures
    :param candidate_id: its name
    :param score: by formula (3), budgets not counted
    :param excess: by how much it breaks each budget
    :param roomy: whether it keeps its distance from budgets that waver
    :param away: whether a peer takes part
    """

    estimate: CostEstimate
    candidate_id: str
    score: float
    excess: Excess
    roomy: bool
    away: bool = False

    @property
    def allowed(self) -> bool:
        """Whether it breaks no budget."""
        return self.excess == NO_EXCESS


def weights_now(requirements: Requirements, snapshot: ResourceSnapshot) -> Mapping[str, float]:
    """
    Return the weight of each criterion; they sum to 1.

    :param requirements: a fixed accuracy weight wins over the battery
    :param snapshot: holds the battery
    """
    asked, battery = requirements.accuracy_weight, snapshot.battery_ratio.value
    if asked is not None:
        return {ACCURACY: asked, ENERGY: 1.0 - asked}
    energy = LOWEST_ENERGY_WEIGHT
    if battery is not None:
        energy = min(1.0, max(LOWEST_ENERGY_WEIGHT, 1.0 - battery))
    return {ACCURACY: 1.0 - energy, ENERGY: energy}


def log_range(values: Sequence[float]) -> Tuple[float, float]:
    """Return the logarithm of the least of `values` (positive) and the span to the largest."""
    low, high = math.log(min(values)), math.log(max(values))
    return low, high - low


def _scale(values: Sequence[float], away: Sequence[bool]) -> Tuple[float, float]:
    """Return the range over those that stay here; over all where those do not differ."""
    here = [value for value, leaves in zip(values, away) if not leaves]
    low, span = log_range(here or values)
    return (low, span) if span > 0.0 else log_range(values)


@dataclass(frozen=True)
class Rating:
    """
    All candidates of one step, in the order of the front.

    :param items: one a candidate
    :param energy_span: logarithm of the largest energy over the smallest, of those that stay here
    """

    items: Tuple[Rated, ...]
    energy_span: float


def rate(estimates: Sequence[CostEstimate], weights: Mapping[str, float], budgets: Budgets
         ) -> Rating:
    """
    Return every candidate with its score and what it would break.

    :param estimates: at least one
    :param weights: of `weights_now`
    :param budgets: of `budgets_now`
    """
    accuracies = [max(SMALLEST_ACCURACY, e.accuracy.mean) for e in estimates]
    energies = [max(SMALLEST_ENERGY_J, e.energy_j.mean) for e in estimates]
    away = [bool(e.candidate.placement.peers) for e in estimates]
    accuracy_low, accuracy_span = _scale(accuracies, away)
    energy_low, energy_span = _scale(energies, away)
    items: List[Rated] = []
    per_accuracy = weights[ACCURACY] / accuracy_span if accuracy_span > 0.0 else 0.0
    per_energy = weights[ENERGY] / energy_span if energy_span > 0.0 else 0.0
    for estimate, accuracy, energy, leaves in zip(estimates, accuracies, energies, away):
        score = (per_accuracy * (math.log(accuracy) - accuracy_low)
                 - per_energy * (math.log(energy) - energy_low))
        items.append(Rated(estimate, estimate.candidate.candidate_id, score,
                           excess(estimate, budgets), has_room(estimate, budgets), leaves))
    return Rating(tuple(items), energy_span)
