# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip('pymoo', reason='pymoo is not installed (extra search)')
from crowdhmt_ros.planner.pareto import (
    Front,
    front_of,
    hypervolume,
    non_dominated,
    one_by_one,
    search,
    spread,
)


class Grid:
    """Genomes of five digits; the first is even."""

    extents = (6, 5, 5, 5, 5)

    def random(self, rng):
        return self.repaired(tuple(int(v) for v in rng.integers(0, self.extents)))

    def repaired(self, genome):
        return (genome[0] // 2 * 2, *genome[1:])


def trade(genome):
    """Two objectives; the front has every sum, and is reached with the last two digits 0."""
    cheap = float(sum(genome[:3]))
    return cheap, 13.0 - cheap + 3 * genome[3] + genome[4] ** 2


def trade_many(genomes):
    return [trade(g) for g in genomes]


def whole_front():
    every = itertools.product((0, 2, 4), *(range(e) for e in Grid.extents[1:]))
    return front_of({g: trade(g) for g in every})


def test_the_search_finds_the_front_with_a_part_of_the_evaluations():
    found = search(Grid(), trade_many, budget=600, seed=3)
    assert set(found.objectives) == set(whole_front().objectives)
    assert found.evaluations <= 600 < 3 * 5 ** 4


def test_the_same_seed_gives_the_same_search_and_another_one_another():
    first, second, third = (search(Grid(), trade_many, budget=100, seed=s) for s in (1, 1, 2))
    assert first == second
    assert first != third


def test_no_genome_is_evaluated_twice_and_the_budget_is_kept():
    seen = []

    def evaluate(genomes):
        seen.extend(genomes)
        return trade_many(genomes)

    found = search(Grid(), evaluate, budget=150, seed=5)
    assert len(seen) == len(set(seen)) == found.evaluations == 150
    assert all(g[0] % 2 == 0 for g in seen)


def test_an_interrupted_search_goes_on_to_the_same_end():
    known = {}

    def evaluate(genomes):
        known.update(zip(genomes, trade_many(genomes)))
        return trade_many(genomes)

    search(Grid(), evaluate, budget=96, seed=4)
    before = len(known)
    resumed = search(Grid(), evaluate, budget=200, seed=4, known=dict(known))
    assert resumed == search(Grid(), trade_many, budget=200, seed=4)
    assert before == 96
    assert len(known) == 200


def test_a_space_smaller_than_the_budget_is_exhausted():
    class Tiny(Grid):
        extents = (4, 1, 1, 1, 2)

    found = search(Tiny(), trade_many, budget=100, seed=0)
    assert found.evaluations == 4


def test_starts_are_evaluated_first():
    seen = []
    search(Grid(), lambda gs: seen.extend(gs) or trade_many(gs), budget=40, seed=0,
           starts=[(4, 4, 4, 4, 4), (0, 0, 0, 0, 0)])
    assert seen[:2] == [(4, 4, 4, 4, 4), (0, 0, 0, 0, 0)]


def test_candidates_are_evaluated_by_the_starmap_that_is_given():
    with ThreadPoolExecutor(2) as pool:
        def starmap(function, rows):
            return pool.map(lambda row: function(*row), rows)
        found = search(Grid(), one_by_one(trade, starmap=starmap), budget=100, seed=1)
    assert found == search(Grid(), one_by_one(trade), budget=100, seed=1)


def test_progress_is_told_up_to_the_budget():
    told = []
    search(Grid(), trade_many, budget=70, seed=0, progress=lambda d, t: told.append((d, t)))
    assert told == sorted(told)
    assert told[-1] == (70, 70)


@pytest.mark.parametrize('wrong', [{'budget': 1}, {'budget': 10, 'population': 1}])
def test_a_search_of_less_than_two_is_refused(wrong):
    with pytest.raises(ValueError, match='at least 2'):
        search(Grid(), trade_many, **wrong)


def test_of_equals_the_first_stays_and_dominated_ones_go():
    assert non_dominated([(1, 2), (1, 2), (2, 1), (2, 2), (0, 9)]) == [0, 2, 4]
    assert front_of({}) == Front((), (), 0)


def test_hypervolume_is_the_area_below_the_reference():
    assert hypervolume([(0.0, 0.5), (0.5, 0.0)], (1.0, 1.0)) == pytest.approx(0.75)
    assert hypervolume([(2.0, 0.0)], (1.0, 1.0)) == 0.0
    assert hypervolume([], (1.0, 1.0)) == 0.0


def test_spread_keeps_the_ends_and_fills_the_gaps():
    line = [(float(x), 100.0 - x) for x in (0, 1, 2, 49, 50, 51, 98, 99, 100)]
    chosen = spread(line, 3)
    assert {0, 8} < set(chosen)
    assert set(chosen) & {3, 4, 5}
    assert spread(line, 20) == list(range(9))
    assert np.array_equal(spread([(1.0, 1.0)] * 5, 2), [0, 1])
