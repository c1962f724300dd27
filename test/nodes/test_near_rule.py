# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from crowdhmt_ros.nodes.near_rule import Change, NearRule

LABELS = ('pedestrian', 'bicycle', 'car', 'building')
FREE = (0.05, 0.05, 0.1, 0.8)


def rule(**changed):
    given = {'watched': ('pedestrian', 'bicycle', 'car'), 'score': 0.6, 'free_score': 0.5,
             'free_frames': 2, **changed}
    return NearRule(LABELS, **given)


def changes(watch, frames):
    return [watch.look(scores) for scores in frames]


def test_one_frame_is_enough_and_it_is_told_once():
    first, *later = changes(rule(), [(0.5, 0.2, 0.0, 0.3)] * 5)
    assert first == Change(True, 'pedestrian', pytest.approx(0.7))
    assert later == [None] * 4


def test_a_single_free_frame_changes_nothing_and_two_are_told_once():
    near = (0.9, 0.0, 0.0, 0.1)
    told = changes(rule(), [near, FREE, near, FREE, FREE, FREE])
    assert [i for i, change in enumerate(told) if change] == [0, 4]
    assert told[4] == Change(False, 'pedestrian', pytest.approx(0.2))


def test_between_the_two_scores_nothing_changes():
    middle = (0.55, 0.0, 0.0, 0.45)
    assert changes(rule(), [middle] * 5) == [None] * 5
    assert changes(rule(), [(0.9, 0.0, 0.0, 0.1), *[middle] * 5])[1:] == [None] * 5


def test_another_obstacle_is_told_when_it_stays():
    walker, car = (0.9, 0.0, 0.0, 0.1), (0.1, 0.0, 0.8, 0.1)
    told = changes(rule(), [walker, car, walker, car, car])
    assert [change.label if change else '' for change in told] == [
        'pedestrian', '', '', '', 'car']


def test_a_model_without_such_classes_never_tells():
    watch = rule(watched=('tram',))
    assert changes(watch, [(1.0, 0.0, 0.0, 0.0)] * 3) == [None] * 3


def test_a_lower_score_above_the_upper_one_counts_as_the_same():
    told = changes(rule(free_score=0.9), [(0.7, 0.0, 0.0, 0.3)] * 4)
    assert [bool(change) for change in told] == [True, False, False, False]
