# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What one training costs over those of its variants alone: steps of all of them in turn, counted up.

Trainings take hours, and how fast a machine computes meanwhile hangs on what else it does. So the
logs' seconds only inform; here each phase of the family and each variant alone takes a few steps,
one after the other, round by round, with the trainings' own loader, step and precision.
"""
from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import torch

from crowdhmt_ros.elastic.lone import lone
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.trainer import Progress, Trainer
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.tasks.alone import alone_recipe
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.training import calibrated, untrained
from crowdhmt_ros.types import Variant

STEPS, WARM, ROUNDS = 12, 2, 3
"""Steps of a turn; those before that do not count; turns of each training."""
FAMILY = 'family'


@dataclass(frozen=True)
class Leg:
    """
    A part of a training in which all steps are alike.

    :param of: whose training: `FAMILY`, or the name of a variant alone
    :param recipe: of nothing but this part
    :param epochs: that it has
    :param enters: whether its phase begins with it
    """

    of: str
    recipe: Recipe
    epochs: int
    enters: bool


class _EnoughError(Exception):
    """Ends a training after the steps that are timed."""


def legs_of(of: str, recipe: Recipe) -> List[Leg]:
    """Return the parts of a training: a phase, divided where the edge of its images changes."""
    found = []
    for plan in recipe.phases:
        edges = [plan.edge_at(epoch) for epoch in range(plan.epochs)]
        for edge in dict.fromkeys(edges):
            found.append(Leg(of, replace(recipe, phases=(_only(plan, edge),)), edges.count(edge),
                             edge == edges[0]))
    return found


def _only(plan: PhaseRecipe, edge: int) -> PhaseRecipe:
    return replace(plan, epochs=1, edges=((0.0, edge),) if edge else ())


def timed(trainer: Trainer, steps: int = STEPS) -> Tuple[float, float]:
    """
    Do the first steps of a training.

    :returns: seconds before the first step, and of one step
    :raises DataError: an epoch has a single step
    """
    begun, ends = time.perf_counter(), []

    def note(progress: Progress) -> None:
        ends.append(time.perf_counter())
        if len(ends) == WARM + steps:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        trainer.run(note)
    if len(ends) < 2:
        raise DataError('an epoch has a single step: too few data to time a training by')
    warm = min(WARM, len(ends) - 1)
    step_s = (ends[-1] - ends[warm - 1]) / (len(ends) - warm)
    return max(0.0, ends[0] - begun - step_s), step_s


def seconds(task: Task, material: Material, variants: Mapping[str, Variant], *,
            rounds: int = ROUNDS, steps: int = STEPS, say: Callable[[str], None]
            ) -> Dict[str, float]:
    """
    Return what each training takes, calibration included, on this machine at this time.

    :param variants: that the family trains, and that are trained alone
    :param rounds: turns of each; the median counts
    :returns: `FAMILY` and names of variants -> seconds
    :raises DataError: too few data to time a training by
    """
    recipe, family = named_recipe(task.recipe), untrained(task, 0)
    nets: Dict[str, Supernet] = {FAMILY: family}
    members: Dict[str, Sequence[Variant]] = {FAMILY: tuple(variants.values())}
    legs = legs_of(FAMILY, recipe)
    for name, variant in variants.items():
        nets[name], members[name] = lone(family, variant, seed=0), ()
        legs += legs_of(name, alone_recipe(recipe))
    turns: List[List[Tuple[float, float]]] = [[] for _ in legs]
    calibrations: Dict[str, List[float]] = {name: [] for name in nets}
    for number in range(rounds):
        say('cost of training: round %d of %d' % (number + 1, rounds))
        for turn, leg in zip(turns, legs):
            turn.append(timed(Trainer(nets[leg.of], leg.recipe, material.train,
                                      members=members[leg.of]), steps))
        for name, net in nets.items():
            calibrations[name].append(_calibration_s(net, material, members[name]))
    taken = {name: statistics.median(found) for name, found in calibrations.items()}
    for turn, leg in zip(turns, legs):
        entering_s, step_s = (statistics.median(column) for column in zip(*turn))
        count = leg.epochs * material.train.steps(recipe.batch_size)
        taken[leg.of] += count * step_s + (entering_s if leg.enters else 0.0)
    return taken


def _calibration_s(net: Supernet, material: Material, members: Sequence[Variant]) -> float:
    begun = time.perf_counter()
    with torch.no_grad():
        calibrated(net, material.train, [net.whole(), *members])
    return time.perf_counter() - begun
