# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Baselines get equal epochs, train what they are measured at, and use no other operators."""
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from crowdhmt_ros.elastic.store import Reference, elastic_of  # noqa: E402
from crowdhmt_ros.elastic.teaching.phases import PHASES  # noqa: E402
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe, check  # noqa: E402
from crowdhmt_ros.errors import ConfigError, DataError  # noqa: E402
from crowdhmt_ros.tasks import baselines  # noqa: E402
from crowdhmt_ros.tasks.baselines import SHARED, Frame  # noqa: E402
from crowdhmt_ros.tasks.static_choice import WHOLE, candidates, chosen  # noqa: E402

NETWORK = Reference('residual', 4, {'widths': (16, 32), 'blocks': 2, 'edge': 32})
RECIPE = Recipe((PhaseRecipe('backbone', 3, 0.1, ((0.0, 24), (0.6, 32))),
                 PhaseRecipe('joint', 5, 0.05, ((0.0, 24), (0.6, 32)))), batch_size=16)
FRAME = Frame(RECIPE, RECIPE.epochs)
OPERATORS = {'svd': {'svd'}, 'fire': {'fire'}, 'slimmable': {'channel'},
             'ofa': {'scale', 'depth', 'channel'}}


@pytest.fixture(scope='module')
def net():
    return elastic_of(NETWORK, ())


@pytest.mark.parametrize('name', sorted(SHARED))
def test_each_baseline_gets_the_familys_epochs_batches_and_sizes(net, name):
    course = SHARED[name](net, FRAME)
    assert course.epochs == RECIPE.epochs
    for leg in course.legs:
        recipe = FRAME.of(leg.plan)
        check(recipe)
        assert (recipe.batch_size, recipe.weight_decay) == (16, RECIPE.weight_decay)
        assert leg.plan.learning_rate <= 0.1
        assert leg.plan.protection == 'none' or not leg.members
        phase = PHASES[leg.plan.phase](net, leg.plan, recipe, leg.members)
        assert not phase.is_idle
        assert len(phase.members) + phase.sandwiches == len(leg.members)
        drawn = [phase.variants(step, np.random.default_rng(step)) for step in range(40)]
        assert {v for variants in drawn for v in variants} <= set(leg.members)


@pytest.mark.parametrize('recipe', [RECIPE, Recipe((PhaseRecipe('backbone', 8, 0.1),))])
@pytest.mark.parametrize('name', sorted(SHARED))
def test_each_baseline_has_the_edges_of_a_member_alone_epoch_by_epoch(net, name, recipe):
    frame = Frame(recipe, recipe.epochs)
    legs = SHARED[name](net, frame).legs
    assert [leg.plan.edge_at(e) for leg in legs for e in range(leg.plan.epochs)] == [
        frame.single.edge_at(e) for e in range(frame.epochs)]


@pytest.mark.parametrize('name', sorted(SHARED))
def test_each_baseline_uses_its_own_operators_alone(net, name):
    course = SHARED[name](net, FRAME)
    used = {c.operator for variants in (*(leg.members for leg in course.legs),
                                        course.measured.values())
            for variant in variants for stage in variant.stages for c in stage}
    assert used == OPERATORS[name]


@pytest.mark.parametrize('name', sorted(SHARED))
def test_what_is_measured_was_trained_computes_something_of_its_own_and_spans_a_range(net, name):
    course = SHARED[name](net, FRAME)
    trained = {net.whole(), *course.legs[-1].members}
    assert set(course.measured.values()) <= trained
    macs = [net.plan(v).macs for v in course.measured.values()]
    assert max(macs) == net.plan(net.whole()).macs > 3 * min(macs)
    assert len(set(course.measured.values())) == len(course.measured) >= 5


def test_once_for_all_shrinks_kernels_then_depths_then_widths(net):
    legs = SHARED['ofa'](net, FRAME).legs
    used = [{c.operator for m in leg.members for stage in m.stages for c in stage}
            for leg in legs]
    assert used == [set(), {'scale'}, {'scale', 'depth'}, {'scale', 'depth', 'channel'}]
    assert [leg.plan.variants for leg in legs[1:]] == [1, 2, 4]
    assert [leg.derives for leg in legs] == [False, False, False, True]
    assert not any('stride' in dict(c.parameters) for leg in legs for m in leg.members
                   for stage in m.stages for c in stage)


@pytest.mark.parametrize(('epochs', 'shares', 'expected'), [
    (40, (1.0, 1.0), (20, 20)), (40, (180, 120, 145, 145), (12, 8, 10, 10)),
    (4, (180, 120, 145, 145), (1, 1, 1, 1)), (5, (1000.0, 1.0, 1.0), (3, 1, 1)),
    (5, (1.0, 1.0, 1000.0), (1, 1, 3))])
def test_epochs_are_divided_by_shares_and_none_is_lost(epochs, shares, expected):
    assert Frame(RECIPE, epochs).shared(shares) == expected


def test_too_few_epochs_are_one_clear_error():
    with pytest.raises(ConfigError, match='give at least 4'):
        Frame(RECIPE, 3).shared((1, 1, 1, 1))


def test_mobilenet_takes_the_tasks_classes_and_edge():
    assert baselines.mobilenet(NETWORK, 0.25) == Reference(
        'mobilenet_v2', 4, {'width_multiplier': 0.25, 'edge': 32})
    with pytest.raises(ConfigError, match='square images'):
        baselines.mobilenet(Reference('motion_cnn', 6), 0.5)


def test_static_candidates_are_single_operators_and_pairs_that_differ(net):
    found = candidates(net)
    assert found[WHOLE] == net.whole()
    operators = {name: {c.operator for stage in v.stages for c in stage}
                 for name, v in found.items() if name != WHOLE}
    assert all(1 <= len(used) <= 2 for used in operators.values())
    assert {'svd', 'fire', 'ghost', 'sparse', 'asymmetric', 'scale', 'depth', 'channel'} <= {
        operator for used in operators.values() for operator in used}
    plans = {repr(sorted(net.plan(v).contexts.items())) for v in found.values()}
    assert len(plans) == len(found)


def test_the_static_choice_is_the_largest_network_within_the_budget(net):
    found = candidates(net)
    macs = {name: net.plan(v).macs for name, v in found.items()}
    seconds = {name: float(count) for name, count in macs.items()}  # as if time were operations
    for speedup in (2.0, 4.0):
        name = chosen(net, found, seconds, speedup)
        assert seconds[name] <= seconds[WHOLE] / speedup
        assert macs[name] == max(m for m in macs.values() if m <= macs[WHOLE] / speedup)
    slow = dict(seconds, **{name: seconds[WHOLE]})
    assert chosen(net, found, slow, 4.0) != name


def test_a_budget_that_nothing_meets_is_one_clear_error(net):
    with pytest.raises(DataError, match='no combination'):
        chosen(net, candidates(net), dict.fromkeys(candidates(net), 1.0), 2.0)
