# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The Pareto front of a family, found offline by an evolutionary search (L4, P III-D2).

NSGA-II (Deb et al. 2002, as in pymoo) over discrete genomes; no objective has a weight. Each
genome is evaluated once, and the same seed gives the same search: what was evaluated before can
be handed in, so that an interrupted search goes on where it was.
"""
from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.ux import UX
from pymoo.problems.static import StaticProblem
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

Genome = Tuple[int, ...]
Objectives = Tuple[float, ...]
"""What is to be small, each in its own unit."""
Evaluate = Callable[[Sequence[Genome]], Sequence[Objectives]]
Starmap = Callable[[Callable[..., Objectives], Iterable[Tuple[Genome]]], Iterable[Objectives]]
IDLE_GENERATIONS = 50
"""A search ends when so many generations brought no genome that is new."""


class Genomes(Protocol):
    """A space of discrete descriptions."""

    @property
    def extents(self) -> Tuple[int, ...]:
        """Per gene the number of its values, 0 to extent - 1."""

    def random(self, rng: np.random.Generator) -> Genome:
        """Draw a valid genome."""

    def repaired(self, genome: Genome) -> Genome:
        """Return the valid genome that a mixture of valid ones stands for; itself if it is."""


@dataclass(frozen=True)
class Front:
    """
    What a search found.

    :param genomes: of which none dominates another
    :param objectives: of each of them
    :param evaluations: genomes that were evaluated, those known before included
    """

    genomes: Tuple[Genome, ...]
    objectives: Tuple[Objectives, ...]
    evaluations: int


def one_by_one(evaluate: Callable[[Genome], Objectives], *, starmap: Starmap = starmap
               ) -> Evaluate:
    """
    Make an evaluator of many genomes from one of a single genome.

    :param starmap: as `itertools.starmap`; that of a process pool evaluates in parallel
    """
    return lambda genomes: list(starmap(evaluate, [(g,) for g in genomes]))


def search(space: Genomes, evaluate: Evaluate, *, budget: int, population: int = 32,
           seed: int = 0, starts: Sequence[Genome] = (),
           known: Optional[Mapping[Genome, Objectives]] = None,
           progress: Callable[[int, int], None] = lambda done, total: None) -> Front:
    """
    Search for the genomes that no other one beats in every objective.

    :param space: what may be tried
    :param evaluate: genomes -> objectives; called with genomes that are new, in a batch
    :param budget: distinct genomes to evaluate, those that are `known` included
    :param population: genomes per generation
    :param seed: the same gives the same search
    :param starts: genomes to begin with; random ones fill the first generation up
    :param known: objectives from an interrupted search of the same seed
    :param progress: is told how many of the budget are evaluated
    :returns: the front of all that was evaluated
    :raises ValueError: budget or population is below 2
    """
    if budget < 2 or population < 2:
        raise ValueError('budget %d and population %d: give at least 2' % (budget, population))
    memo = _Memo(evaluate, known or {}, budget, progress)
    problem = Problem(n_var=len(space.extents), n_obj=1, xl=0,
                      xu=np.maximum(np.array(space.extents) - 1, 0), vtype=int)
    rng = np.random.default_rng(seed)
    first = _first(space, rng, min(population, budget), starts)
    algorithm = NSGA2(pop_size=len(first), n_offsprings=min(population, budget),
                      sampling=np.array(first), crossover=UX(),
                      mutation=_Reset(space.extents, rng), repair=_Repair(space))
    algorithm.setup(problem, termination=NoTermination(), seed=seed, verbose=False)
    idle = 0
    while len(memo.used) < budget and idle < IDLE_GENERATIONS:
        before = len(memo.used)
        asked = algorithm.ask()
        if asked is None or not len(asked):
            break
        asked = memo.evaluated(asked)
        algorithm.tell(infills=asked)
        idle = idle + 1 if len(memo.used) == before else 0
    return front_of(memo.used)


def front_of(evaluated: Mapping[Genome, Objectives]) -> Front:
    """
    Return the front of evaluated genomes, ascending by genome.

    :param evaluated: genome -> objectives; of equal objectives the first genome is kept
    """
    genomes = sorted(evaluated)
    if not genomes:
        return Front((), (), 0)
    kept = non_dominated([evaluated[g] for g in genomes])
    return Front(tuple(genomes[i] for i in kept), tuple(evaluated[genomes[i]] for i in kept),
                 len(genomes))


def non_dominated(objectives: Sequence[Objectives]) -> List[int]:
    """
    Return the indices of what nothing dominates, ascending; of equals the first.

    :param objectives: at least one row, all small is good
    """
    values = np.asarray(objectives, float)
    first = np.sort(np.unique(values, axis=0, return_index=True)[1])
    ranked = NonDominatedSorting().do(values[first], only_non_dominated_front=True)
    return sorted(int(first[i]) for i in ranked)


def hypervolume(objectives: Sequence[Objectives], reference: Sequence[float]) -> float:
    """
    Return the volume that a front dominates.

    :param objectives: of its members
    :param reference: the point up to which volume counts; what lies beyond adds nothing
    """
    if not len(objectives):
        return 0.0
    return float(HV(ref_point=np.asarray(reference, float))(np.asarray(objectives, float)))


def spread(objectives: Sequence[Objectives], count: int) -> List[int]:
    """
    Choose members of a front that lie far from each other, ascending.

    The best of each objective come first, then always the one that is farthest from those
    chosen; distances are in shares of each objective's range.

    :param objectives: of the front
    :param count: how many to choose; all where there are fewer
    """
    values = np.asarray(objectives, float)
    if len(values) <= count:
        return list(range(len(values)))
    extent = values.max(axis=0) - values.min(axis=0)
    scaled = (values - values.min(axis=0)) / np.where(extent > 0, extent, 1.0)
    chosen = list(dict.fromkeys(int(i) for i in scaled.argmin(axis=0)))[:count]
    while len(chosen) < count:
        distance = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=2).min(axis=1)
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    return sorted(chosen)


class _Memo:
    """Evaluates each genome once, and no more than the budget."""

    def __init__(self, evaluate: Evaluate, known: Mapping[Genome, Objectives], budget: int,
                 progress: Callable[[int, int], None]) -> None:
        self._evaluate, self._known = evaluate, known
        self._budget, self._progress = budget, progress
        self.used: Dict[Genome, Objectives] = {}

    def evaluated(self, asked: Any) -> Any:
        """Give a population its objectives; beyond the budget it is cut off."""
        genomes = [_genome(x) for x in asked.get('X')]
        new = list(dict.fromkeys(g for g in genomes if g not in self.used))
        new = new[:self._budget - len(self.used)]
        unknown = [g for g in new if g not in self._known]
        found = dict(zip(unknown, self._evaluate(unknown) if unknown else ()))
        for genome in new:
            values = found[genome] if genome in found else self._known[genome]
            self.used[genome] = tuple(map(float, values))
        self._progress(len(self.used), self._budget)
        kept = [i for i, g in enumerate(genomes) if g in self.used]
        asked = asked[kept]
        table = np.array([self.used[genomes[i]] for i in kept])
        stated = Problem(n_var=len(genomes[0]), n_obj=table.shape[1])
        Evaluator().eval(StaticProblem(stated, F=table), asked)
        return asked


def _genome(row: Iterable[Any]) -> Genome:
    return tuple(int(v) for v in row)


def _first(space: Genomes, rng: np.random.Generator, count: int, starts: Sequence[Genome]
           ) -> List[Genome]:
    """Return distinct genomes to begin with; fewer where the space has hardly more."""
    found = dict.fromkeys(space.repaired(g) for g in starts)
    for _ in range(20 * count):
        if len(found) >= count:
            break
        found.setdefault(space.random(rng))
    return list(found)[:count]


class _Reset(Mutation):  # type: ignore[misc]
    """Gives about one gene another value: any, or the next one up or down."""

    def __init__(self, extents: Sequence[int], rng: np.random.Generator) -> None:
        super().__init__()
        self._extents, self._rng = np.array(extents), rng

    def _do(self, problem: Any, values: NDArray[np.int64], **rest: Any) -> NDArray[np.int64]:
        values = values.astype(int)
        rows, genes = values.shape
        hit = self._rng.random(values.shape) < 1.0 / genes
        hit[np.arange(rows), self._rng.integers(0, genes, rows)] = True
        anywhere = self._rng.integers(0, self._extents, values.shape)
        steps = values + self._rng.choice((-1, 1), values.shape)
        steps = np.clip(steps, 0, self._extents - 1)
        near = self._rng.random(values.shape) < 0.5
        mutated: NDArray[np.int64] = np.where(hit, np.where(near, steps, anywhere), values)
        return mutated


class _Repair(Repair):  # type: ignore[misc]
    """Lets the space say what a mixture stands for."""

    def __init__(self, space: Genomes) -> None:
        super().__init__()
        self._space = space

    def _do(self, problem: Any, values: NDArray[np.int64], **rest: Any) -> NDArray[np.int64]:
        return np.array([self._space.repaired(_genome(row)) for row in values])
