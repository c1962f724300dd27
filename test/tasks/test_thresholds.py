# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from crowdhmt_ros.errors import DataError
from crowdhmt_ros.tasks import thresholds
from crowdhmt_ros.tasks.thresholds import NEVER, Costs, Thresholds, choose, outcome

CHEAP = Costs((1.0,), (4.0,), 5.0)
THREE = Costs((1.0, 2.0), (4.5, 3.4), 5.0)


def synthetic(count: int, exits: int, seed: int = 0, classes: int = 10):
    """Scores of exits that know the better, the later they come, and mostly know when they do."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    easy = rng.normal(0.0, 1.0, count)
    scores = []
    for number in range(exits):
        values = rng.normal(0.0, 1.0, (count, classes))
        values[np.arange(count), labels] += np.maximum(0.0, 3.0 + 1.2 * number + 1.5 * easy)
        scores.append(values.astype(np.float32))
    return scores, labels


def test_an_exit_that_is_as_good_as_the_end_answers_all():
    scores, labels = synthetic(200, 1)
    found = choose([scores[0], scores[0]], labels, CHEAP)
    done = outcome(found, [scores[0], scores[0]], labels, CHEAP)
    assert done.exit_ratios == (1.0, 0.0)
    assert done.lost_ratio == 0.0
    assert done.speedup == pytest.approx(5.0)


def test_an_exit_that_knows_nothing_is_never_asked():
    scores, labels = synthetic(500, 1)
    blind = np.zeros_like(scores[0])
    found = choose([blind, scores[0]], labels, CHEAP)
    assert found == Thresholds((NEVER,), (1.0,))
    done = outcome(found, [blind, scores[0]], labels, CHEAP)
    assert (done.mean_s, done.exit_ratios, done.speedup) == (5.0, (0.0, 1.0), 1.0)


def test_an_exit_that_costs_more_than_the_whole_is_never_asked():
    scores, labels = synthetic(200, 2)
    found = choose(scores, labels, Costs((5.1,), (1.0,), 5.0))
    assert found.confidence == (NEVER,)


def test_an_exit_whose_asking_costs_more_than_it_saves_is_never_asked():
    scores, labels = synthetic(400, 2)
    found = choose(scores, labels, Costs((4.9,), (4.0,), 5.0))
    assert found.confidence == (NEVER,)


def test_a_network_without_early_exits_has_no_thresholds():
    scores, labels = synthetic(50, 1)
    found = choose(scores, labels, Costs((), (), 2.0))
    assert found == Thresholds((), ())
    assert outcome(found, scores, labels, Costs((), (), 2.0)).speedup == 1.0


def test_no_more_is_lost_than_allowed_on_what_it_was_chosen_on():
    for seed in range(5):
        scores, labels = synthetic(1000, 3, seed)
        found = choose(scores, labels, THREE, caution=0.0)
        done = outcome(found, scores, labels, THREE)
        assert done.lost_ratio <= thresholds.MOST_LOST_RATIO + 1e-12
        assert done.speedup > 1.1


def test_caution_loses_less():
    scores, labels = synthetic(3000, 2, 3)
    bold = outcome(choose(scores, labels, CHEAP, caution=0.0), scores, labels, CHEAP)
    careful = outcome(choose(scores, labels, CHEAP, caution=1.0), scores, labels, CHEAP)
    assert careful.lost_ratio < bold.lost_ratio
    assert 1.0 < careful.speedup < bold.speedup


def test_one_exit_is_searched_to_the_best():
    scores, labels = synthetic(300, 2, 7)
    found = choose(scores, labels, CHEAP, caution=0.0, temperatures=(1.0,))
    confidence = thresholds.confidences(scores[0])
    best = min(done.mean_s for done in (
        outcome(Thresholds((float(c),), (1.0,)), scores, labels, CHEAP) for c in confidence)
        if done.lost_ratio <= thresholds.MOST_LOST_RATIO + 1e-12)
    assert outcome(found, scores, labels, CHEAP).mean_s == pytest.approx(best)


def test_two_exits_come_near_the_best_of_all_pairs():
    scores, labels = synthetic(60, 3, 11)
    found = choose(scores, labels, THREE, caution=0.0, most_lost_ratio=0.02,
                   temperatures=(1.0, 1.0))
    levels = [[NEVER, *sorted(set(thresholds.confidences(s).tolist()))] for s in scores[:2]]
    best = min(done.mean_s for done in (
        outcome(Thresholds(pair, (1.0, 1.0)), scores, labels, THREE)
        for pair in itertools.product(*levels)) if done.lost_ratio <= 0.02 + 1e-12)
    assert outcome(found, scores, labels, THREE).mean_s == pytest.approx(best, rel=0.02)


def test_an_exit_that_does_not_pay_beside_another_is_not_asked():
    scores, labels = synthetic(800, 2, 5)
    blind = np.zeros_like(scores[0])
    found = choose([blind, *scores], labels, THREE)
    assert found.confidence[0] == NEVER
    assert found.confidence[1] < NEVER


def test_costs_of_the_end_depend_on_the_last_exit_that_is_asked():
    assert THREE.stops((False, False)).tolist() == [1.0, 2.0, 5.0]
    assert THREE.stops((True, False)).tolist() == [1.0, 2.0, 5.5]
    assert THREE.stops((True, True)).tolist() == [1.0, 2.0, 5.4]


def test_inputs_of_equal_confidence_are_never_parted():
    labels = np.array([0, 0, 1, 1])
    same = np.tile(np.float32([[2.0, 0.0]]), (4, 1))
    end = np.float32([[1, 0], [1, 0], [0, 1], [0, 1]])
    found = choose([same, end], labels, CHEAP, caution=0.0, most_lost_ratio=0.25)
    assert found.confidence == (NEVER,)
    found = choose([same, end], labels, CHEAP, caution=0.0, most_lost_ratio=0.5)
    assert outcome(found, [same, end], labels, CHEAP).exit_ratios == (1.0, 0.0)


def test_a_certain_exit_has_a_threshold_below_never():
    labels = np.zeros(20, int)
    certain = np.tile(np.float32([[500.0, 0.0]]), (20, 1))
    found = choose([certain, certain], labels, CHEAP, temperatures=(1.0,))
    assert found.confidence[0] < NEVER
    assert outcome(found, [certain, certain], labels, CHEAP).exit_ratios == (1.0, 0.0)


def test_one_input_is_enough():
    scores, labels = synthetic(1, 3)
    done = outcome(choose(scores, labels, THREE), scores, labels, THREE)
    assert done.lost_ratio <= 0.0


def test_the_temperature_makes_probabilities_come_true():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 1.5, (4000, 5))
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in chances])
    assert thresholds.fit_temperature(scores * 3.0, labels) == pytest.approx(3.0, rel=0.08)


def test_a_temperature_of_one_stays_where_it_is_as_good():
    scores, labels = synthetic(300, 1)
    assert choose([scores[0], scores[0]], labels, CHEAP).temperature == (1.0,)


def test_chosen_thresholds_hold_on_other_data_of_the_kind():
    lost, faster = [], []
    for seed in range(4):
        scores, labels = synthetic(4500, 3, seed)
        held, rest = [s[:2000] for s in scores], [s[2000:] for s in scores]
        found = choose(held, labels[:2000], THREE)
        done = outcome(found, rest, labels[2000:], THREE)
        lost.append(done.lost_ratio)
        faster.append(done.speedup)
    assert np.mean(lost) <= thresholds.MOST_LOST_RATIO
    assert min(faster) > 1.2


@pytest.mark.parametrize('change', [
    lambda s, n, c: (s[:1], n, c), lambda s, n, c: ([s[0][:5], s[1]], n, c),
    lambda s, n, c: (s, n[:5], c), lambda s, n, c: ([s[0] * np.nan, s[1]], n, c),
    lambda s, n, c: (s, n, Costs((math.nan,), (4.0,), 5.0)),
    lambda s, n, c: (s, n, Costs((0.0,), (4.0,), 5.0)),
    lambda s, n, c: ([x[:0] for x in s], n[:0], c),
    lambda s, n, c: ([x[:, 0] for x in s], n, c)])
def test_what_does_not_fit_is_refused_in_one_line(change):
    scores, labels = synthetic(10, 2)
    scores, labels, costs = change(scores, labels, CHEAP)
    with pytest.raises(DataError) as caught:
        choose(scores, labels, costs)
    assert '\n' not in str(caught.value)


def test_temperatures_for_another_number_of_exits_are_refused():
    scores, labels = synthetic(10, 2)
    with pytest.raises(DataError):
        choose(scores, labels, CHEAP, temperatures=(1.0, 1.0))
