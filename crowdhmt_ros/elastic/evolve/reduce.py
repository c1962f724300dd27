# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Grouping and pre-scoring (E5, AdaScale; P III-A): a large space becomes a small one.

Per stage the combinations of operators are grouped by the operators that they use and by cost.
Cheap scores come first: a combination is expected to lose what its single choices lose together,
which takes one measurement per choice instead of one per combination. The best few of each group
are then measured themselves, one stage at a time, and those that nothing dominates survive.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from crowdhmt_ros.elastic.evolve.combine import Choices, singles
from crowdhmt_ros.elastic.evolve.generate import with_stage
from crowdhmt_ros.elastic.evolve.space import Option, Space
from crowdhmt_ros.elastic.evolve.zero_shot import Measured, Meter
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """
    How much survives.

    :param cost_bins: parts of equal cost ratio into which combinations of the same operators fall
    :param per_group: best of each group that may be measured
    :param measured: of a stage at most so many are measured
    :param kept: of a stage at most so many survive
    """

    cost_bins: int = 3
    per_group: int = 2
    measured: int = 60
    kept: int = 32


@dataclass(frozen=True)
class Scored:
    """
    An option with its scores.

    :param option: of a stage
    :param expected: loss that its single choices have together, in nats; the whole network's is 0
    :param loss: measured zero-shot, in nats
    :param accuracy: measured zero-shot, 0 to 1
    """

    option: Option
    expected: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Reduced:
    """
    A small space, and how it came about.

    :param space: what is left
    :param whole: number of variants before
    :param scores: per stage what was measured, survivors and others
    :param evaluations: forward passes over the held set
    """

    space: Space
    whole: int
    scores: Tuple[Tuple[Scored, ...], ...]
    evaluations: int

    @property
    def ratio(self) -> float:
        """Variants that are left, as a share of the whole space."""
        return self.space.size / self.whole


def reduce_space(space: Space, meter: Meter, limits: Limits = Limits(),  # noqa: B008
                 progress: Progress = lambda done, total: None) -> Reduced:
    """
    Keep the combinations that promise most.

    :param space: the whole one
    :param meter: measures on a small held set
    :param limits: how much survives
    :param progress: is told what is done and how much there is
    """
    counted = _Counted(meter, progress)
    stages, scores = [], []
    losses = [_single_losses(counted, index) for index in range(len(space.stages))]
    chosen = [_promising(options, losses[index], limits)
              for index, options in enumerate(space.stages)]
    counted.total = counted.done + sum(map(len, chosen))
    for index, options in enumerate(chosen):
        measured = tuple(
            Scored(o, expected, *counted(index, o.choices)) for o, expected in options)
        scores.append(measured)
        stages.append(_survivors(measured, limits))
    small = Space(tuple(stages), space.exits, space.finest)
    return Reduced(small, space.size, tuple(scores), counted.done)


class _Counted:
    """Measures the network with one stage changed; keeps count."""

    def __init__(self, meter: Meter, progress: Progress) -> None:
        self._meter, self._progress = meter, progress
        self.net = meter.net
        self.done = 0
        self.total = sum(len(singles(s, self.net.structure.units_of(i)))
                         for i, s in enumerate(self.net.structure.stages))

    def __call__(self, index: int, choices: Choices) -> Measured:
        """Measure one stage's options; the other stages are whole."""
        found = self._meter.measure(with_stage(self.net, index, choices))
        self.done += 1
        self._progress(self.done, self.total)
        return found


def _single_losses(meter: _Counted, index: int) -> Dict[OperatorChoice, float]:
    """Importance of what each single choice removes: how far the answers move."""
    structure = meter.net.structure
    found = {}
    for choice in singles(structure.stages[index], structure.units_of(index)):
        try:
            found[choice] = meter(index, (choice,)).loss
        except ExportError:
            continue
    return found


def _promising(options: Sequence[Option], losses: Mapping[OperatorChoice, float], limits: Limits
               ) -> List[Tuple[Option, float]]:
    """Choose what is measured: the best few of each group, the best ranks of all groups."""
    expected = {o: sum(losses.get(c, 0.0) for c in o.choices) for o in options}
    found: List[Option] = []
    for group in _groups(options, limits.cost_bins).values():
        best = [group[i] for i in _ranked([(expected[o], o.macs, o.words) for o in group])[0]]
        found += sorted(best, key=lambda o: expected[o])[:limits.per_group]
    order = _ranked([(expected[o], o.macs, o.words) for o in found])
    kept = [found[i] for rank in order for i in rank][:limits.measured]
    whole = options[0]
    return [(o, expected[o]) for o in (whole, *(o for o in kept if o != whole))]


def _groups(options: Sequence[Option], bins: int) -> Dict[Tuple[Tuple[str, ...], int],
                                                          List[Option]]:
    """Group by the operators used and by the share of the cost that is left."""
    dear, cheap = max(o.macs for o in options), min(o.macs for o in options)
    found: Dict[Tuple[Tuple[str, ...], int], List[Option]] = {}
    for option in options:
        place = min(bins - 1, bins * (dear - option.macs) // max(1, dear - cheap))
        found.setdefault((option.operators, place), []).append(option)
    return found


def _survivors(measured: Sequence[Scored], limits: Limits) -> Tuple[Option, ...]:
    """
    Keep the best ranks; the whole stage first, then from dear to cheap.

    Answers that stay near the whole network's and right answers are two things, operations and
    weights are two costs: the ranks of each pair are taken in turn.
    """
    views = [[(s.loss, s.option.macs) for s in measured],
             [(1.0 - s.accuracy, s.option.macs) for s in measured],
             [(s.loss, s.option.words) for s in measured]]
    orders = [[i for rank in _ranked(view) for i in rank] for view in views]
    whole = measured[0].option
    kept = [measured[i].option for turn in zip(*orders) for i in turn]
    kept = [o for o in dict.fromkeys(kept) if o != whole][:limits.kept - 1]
    return (whole, *sorted(kept, key=lambda o: (-o.macs, o.stride, o.words)))


def _ranked(rows: Sequence[Tuple[float, ...]]) -> List[List[int]]:
    """Return indices by rank, those that nothing dominates first; within a rank ascending."""
    values = np.array(rows, float)
    return [sorted(map(int, rank)) for rank in NonDominatedSorting().do(values)]
