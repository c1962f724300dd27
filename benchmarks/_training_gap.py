# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: what sharing costs in accuracy, and what it saves in time.

Each listed variant is trained alone from scratch - own tensors, labels only, as many epochs, same
data, loader, batches and precision - and once as a member of the family, by all variants together.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from benchmarks._training_shelf import Plan, Shelf, evaluated, is_done, log_of
from crowdhmt_ros.cli.figures import LOWER, Figure, claim, inform
from crowdhmt_ros.tasks.members import read_members

TASK, SEEDS = 'cifar100_quarter', (1, 2)
MEAN, MOST, COST = 'recycle_gap_mean_pt', 'recycle_gap_max_pt', 'training_cost_ratio'
CLAIMS = {MEAN: (0.5, LOWER), MOST: (1.5, LOWER), COST: (0.40, LOWER)}
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
    :param threads: of each of these trainings
    """

    seed: int
    alone: Mapping[str, float]
    inside: Mapping[str, float]
    alone_s: Mapping[str, Tuple[float, float]]
    family_s: Tuple[float, float]
    threads: Tuple[int, ...]

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


def gap_figures(shelf: Shelf, say: Callable[[str], None]) -> List[Figure]:
    """
    Measure all variants anew, alone and inside, and compare.

    :raises DataError: no seed's trainings are all there
    """
    whole = [seed for seed in SEEDS if all(
        is_done(plan, shelf) for plan in _flat(plans_of(seed, shelf)))]
    return figures_of([compare(plans_of(seed, shelf), shelf, say)
                       for seed in whole or SEEDS[:1]])


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
    alone, seconds, threads = {}, {}, [int(opened.log['threads'])]
    for name, plan in singles.items():
        alone.update(evaluated(plan, shelf)[1])
        log = log_of(plan, shelf)
        seconds[name] = _seconds(log)
        threads.append(int(log['threads']))
        say('seed %d, %s: alone %.2f %%, inside %.2f %%' % (
            seed, name, 100 * alone[name], 100 * inside[name]))
    return Compared(seed, alone, inside, seconds, _seconds(opened.log), tuple(threads))


def _seconds(log: Mapping[str, Any]) -> Tuple[float, float]:
    return float(log['cpu_s']), float(log['wall_s'])


def figures_of(compared: Sequence[Compared]) -> List[Figure]:
    """Return the figures of what was compared, one entry per seed."""
    names = list(compared[0].alone)
    gaps = {n: float(np.mean([c.gaps_pt()[n] for c in compared])) for n in names}
    worst = max(gaps, key=lambda n: gaps[n])
    enough = len({c.seed for c in compared}) >= len(SEEDS)
    seeds = 'seeds %s' % ', '.join(str(c.seed) for c in compared)
    if not enough:
        seeds += ', at least %d are needed' % len(SEEDS)
    alike = len({t for c in compared for t in c.threads}) == 1
    few = names[::max(1, len(names) // FEW)]
    ratios = {(kind, len(listed)): float(np.mean([c.cost_ratio(kind, listed) for c in compared]))
              for kind in (0, 1) for listed in (names, few)}
    return [
        claim(MEAN, float(np.mean(list(gaps.values()))), CLAIMS[MEAN][0], better=LOWER,
              also=enough, how='points that %d variants lose inside the family, mean over them '
              'and %s: %s' % (len(names), seeds, '; '.join(
                  '%s %+.2f' % (n, g) for n, g in gaps.items()))),
        claim(MOST, gaps[worst], CLAIMS[MOST][0], better=LOWER, also=enough,
              how='%s, mean over %s; its seeds: %s' % (worst, seeds, ', '.join(
                  '%+.2f' % c.gaps_pt()[worst] for c in compared))),
        claim(COST, ratios[0, len(names)], CLAIMS[COST][0], better=LOWER, also=enough and alike,
              how='CPU seconds of the one training, backbone phase and recalibration included, '
              'over those of %d trainings alone (%.3f by the wall); %s' % (
                  len(names), ratios[1, len(names)],
                  '; '.join(_spent(c) for c in compared))),
        inform(COST + '_%d' % FEW, ratios[0, len(few)],
               how='the same one training over %d of these alone: %s' % (
                   len(few), ', '.join(few)))]


def _spent(compared: Compared) -> str:
    return 'seed %d: %.0f s against %.0f s' % (
        compared.seed, compared.family_s[0], sum(s[0] for s in compared.alone_s.values()))
