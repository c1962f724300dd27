# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fronts of measured points."""
import math

import pytest

from crowdhmt_ros.errors import DataError
from crowdhmt_ros.tasks.fronts import (
    Point,
    accuracy_at,
    below,
    best_within,
    chosen_within,
    front_of,
    share_near,
)

POINTS = (Point('whole', 8.0, 0.70), Point('half', 4.0, 0.66), Point('poor', 5.0, 0.60),
          Point('lean', 1.0, 0.50), Point('twin', 4.0, 0.65))


def test_a_front_holds_what_no_other_point_beats_from_cheap_to_dear():
    assert [p.name for p in front_of(POINTS)] == ['lean', 'half', 'whole']


def test_equal_accuracy_at_a_higher_cost_is_beaten():
    assert [p.name for p in front_of([Point('a', 2.0, 0.5), Point('b', 1.0, 0.5)])] == ['b']


@pytest.mark.parametrize('point', [Point('x', 0.0, 0.5), Point('x', math.inf, 0.5),
                                   Point('x', 1.0, math.nan)])
def test_what_was_not_measured_makes_no_front(point):
    with pytest.raises(DataError, match='measure it again'):
        front_of([point])


def test_accuracy_between_two_members_follows_the_logarithm_of_the_cost():
    front = front_of(POINTS)
    assert accuracy_at(front, 2.0) == pytest.approx(0.58)
    assert accuracy_at(front, 4.0) == pytest.approx(0.66)
    assert accuracy_at(front, 100.0) == pytest.approx(0.70)
    assert accuracy_at(front, 0.9) is None


def test_a_budget_gets_a_variant_that_is_there_not_one_in_between():
    assert best_within(POINTS, 3.9).name == 'lean'
    assert best_within(POINTS, 5.5).name == 'half'
    assert best_within(POINTS, 0.5) is None


def test_the_point_for_a_cost_is_chosen_on_other_data_and_keeps_its_own_accuracy():
    deciding = {'half': 0.5, 'twin': 0.6, 'whole': 0.9, 'lean': 0.4}
    assert chosen_within(POINTS, deciding, 4.0) == Point('twin', 4.0, 0.65)
    assert chosen_within(POINTS, deciding, 5.5).name == 'twin'  # poor was not judged elsewhere
    assert chosen_within(POINTS, deciding, 0.5) is None


def test_distances_below_a_front_are_of_the_same_cost():
    front = front_of(POINTS)
    assert below([Point('r', 2.0, 0.50)], front) == [pytest.approx(0.08)]
    points = [Point('r', 2.0, 0.50), Point('s', 4.0, 0.62), Point('t', 8.0, 0.70)]
    assert share_near(points, front, within=0.05) == pytest.approx(2 / 3)


def test_a_point_cheaper_than_the_front_is_an_error():
    with pytest.raises(DataError, match='cheaper'):
        share_near([Point('r', 0.5, 0.4)], front_of(POINTS), within=0.05)
    with pytest.raises(DataError, match='no points'):
        share_near([], front_of(POINTS), within=0.05)
