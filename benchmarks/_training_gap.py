# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: what sharing costs in accuracy, and what it saves in time.

Each listed variant is trained alone from scratch - own tensors, labels only, as many epochs, same
data, loader, batches and precision - and once as a member of the family, by all variants together.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import torch

from benchmarks._training_claims import held
from benchmarks._training_cost import FAMILY, seconds
from benchmarks._training_interference import interference_figures
from benchmarks._training_shelf import (
    Plan,
    Shelf,
    evaluated,
    is_done,
    log_of,
    material_of,
    opened,
)
from crowdhmt_ros.cli.figures import Figure, inform
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.members import read_members
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task_file import read_task

TASK, SEEDS = 'cifar100_quarter', (1, 2)
MEAN, MOST, COST = 'recycle_gap_mean_pt', 'recycle_gap_max_pt', 'training_cost_ratio'
FEW = 8
"""Variants for which the ratio of times is told as well."""


@dataclass(frozen=True)
class Compared:
    """
    One seed's trainings.

    :param seed: of them
    :param alone: name -> accuracy of the variant trained alone, ratio
    :param inside: name -> its accuracy inside the family
    :param alone_s: name -> (CPU seconds, seconds by the wall) of its training
    :param family_s: of the family's training, recalibration included
    """

    seed: int
    alone: Mapping[str, float]
    inside: Mapping[str, float]
    alone_s: Mapping[str, Tuple[float, float]]
    family_s: Tuple[float, float]

    def gaps_pt(self) -> Dict[str, float]:
        """Return the points that each variant loses inside the family."""
        return {n: 100.0 * (a - self.inside[n]) for n, a in self.alone.items()}

    def cost_ratio(self, kind: int, names: Sequence[str]) -> float:
        """
        Return the family's time over that of these variants alone.

        :param kind: 0 for CPU seconds, 1 for the wall
        """
        return self.family_s[kind] / sum(self.alone_s[name][kind] for name in names)


def plans_of(seed: int, shelf: Shelf, task: str = TASK) -> Tuple[Plan, Dict[str, Plan]]:
    """Return the family's training of a seed, and name -> that of each variant alone."""
    names = [m.name for m in read_members(shelf.listed).members]
    stem = Path(task).stem
    return (Plan('%s-family-%d' % (stem, seed), task, seed, listed=True),
            {name: Plan('%s-alone-%s-%d' % (stem, name, seed), task, seed, alone=name)
             for name in names})


def plans(shelf: Shelf) -> List[Plan]:
    """List every training that the part rests on, in the order in which they are useful."""
    found = []
    for seed in SEEDS:
        family, alone = plans_of(seed, shelf)
        found += [family, *alone.values()]
    return found


def gap_figures(shelf: Shelf, say: Callable[[str], None], *, quick: bool = False) -> List[Figure]:
    """
    Measure all variants anew, alone and inside, and compare; then what their trainings take.

    :raises DataError: no seed's trainings are all there
    """
    whole = [seed for seed in SEEDS if all(
        is_done(plan, shelf) for plan in _flat(plans_of(seed, shelf)))]
    found = [compare(plans_of(seed, shelf), shelf, say) for seed in whole or SEEDS[:1]]
    family = plans_of(SEEDS[0], shelf)[0]
    task, material = read_task(TASK), material_of(family, shelf)[1]
    with hold_machine(), one_thread():
        taken_s = seconds(task, material, shelf.variants(task), say=say,
                          **{'rounds': 1, 'steps': 3} if quick else {})
        shared = interference_figures(
            opened(family, shelf).net, named_recipe(task.recipe), shelf.variants(task), material)
    return [*figures_of(found, taken_s), *shared]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, as trainings do; what comes later has its own again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _flat(found: Tuple[Plan, Dict[str, Plan]]) -> List[Plan]:
    return [found[0], *found[1].values()]


def compare(plans: Tuple[Plan, Dict[str, Plan]], shelf: Shelf, say: Callable[[str], None]
            ) -> Compared:
    """
    Measure one seed's trainings.

    :param plans: as `plans_of` gives them
    :raises DataError: one is missing or damaged
    """
    (family, singles), seed = plans, plans[0].seed
    opened, inside = evaluated(family, shelf)
    alone, alone_s = {}, {}
    for name, plan in singles.items():
        alone.update(evaluated(plan, shelf)[1])
        alone_s[name] = _logged_s(log_of(plan, shelf))
        say('seed %d, %s: alone %.2f %%, inside %.2f %%' % (
            seed, name, 100 * alone[name], 100 * inside[name]))
    return Compared(seed, alone, inside, alone_s, _logged_s(opened.log))


def _logged_s(log: Mapping[str, Any]) -> Tuple[float, float]:
    return float(log['cpu_s']), float(log['wall_s'])


def figures_of(compared: Sequence[Compared], taken_s: Mapping[str, float]) -> List[Figure]:
    """
    Return the figures of what was compared, one entry per seed.

    :param taken_s: what each training takes, as `_training_cost.seconds` measures it
    """
    names = list(compared[0].alone)
    gaps = {n: float(np.mean([c.gaps_pt()[n] for c in compared])) for n in names}
    worst = max(gaps, key=lambda n: gaps[n])
    enough = len({c.seed for c in compared}) >= len(SEEDS)
    seeds = 'seeds %s' % ', '.join(str(c.seed) for c in compared)
    if not enough:
        seeds += ', at least %d are needed' % len(SEEDS)
    return [
        held(MEAN, float(np.mean(list(gaps.values()))), also=enough,
             how='points that %d variants lose inside the family, mean over them and %s: %s' % (
                 len(names), seeds, '; '.join('%s %+.2f' % (n, g) for n, g in gaps.items()))),
        held(MOST, gaps[worst], also=enough, how='%s, mean over %s; its seeds: %s' % (
            worst, seeds, ', '.join('%+.2f' % c.gaps_pt()[worst] for c in compared))),
        *cost_figures(compared, taken_s)]


def cost_figures(compared: Sequence[Compared], taken_s: Mapping[str, float]) -> List[Figure]:
    """Return what the one training takes over those of its variants; see `figures_of`."""
    names = list(compared[0].alone)
    few = names[::max(1, len(names) // FEW)]
    ratios = [taken_s[FAMILY] / sum(taken_s[n] for n in listed) for listed in (names, few)]
    logged = float(np.mean([c.cost_ratio(0, names) for c in compared]))
    return [
        held(COST, ratios[0],
             how='%.0f s of the one training, backbone phase and recalibration included, over '
             '%.0f s of %d trainings alone; steps of all in turn, counted up' % (
                 taken_s[FAMILY], sum(taken_s[n] for n in names), len(names))),
        inform(COST + '_%d' % len(few), ratios[1],
               how='the same one training over %d of these alone: %s' % (
                   len(few), ', '.join(few))),
        inform(COST + '_logged', logged, how='CPU seconds that the trainings themselves took, '
               'beside unlike other work; ' + '; '.join(_spent(c) for c in compared))]


def _spent(compared: Compared) -> str:
    return 'seed %d: %.0f s against %.0f s' % (
        compared.seed, compared.family_s[0], sum(s[0] for s in compared.alone_s.values()))
