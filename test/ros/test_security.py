# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The attack of the bench on both doors of a real node, at a tenth of its length."""
import copy

import pytest

pytest.importorskip('rclpy')

from benchmarks._pair_security import figures_of, security_figures

FOUND = {'attempts': {'ros: replayed': 3}, 'accepted': {}, 'uncounted': {}, 'turned_away': 0,
         'refused': {'replayed': 3}}


def holds(found):
    return {figure.key: figure.holds for figure in figures_of(found)}


def test_nobody_without_a_right_gets_anything_and_each_attempt_is_counted():
    figures = security_figures(quick=True)
    assert all(figure.holds is not False for figure in figures), figures


@pytest.mark.parametrize(('changes', 'short'), [
    ({}, None),
    ({'accepted': {'ros: replayed': 1}}, 'unauthorized_accepted'),
    ({'turned_away': 1}, 'unauthorized_accepted'),
    ({'attempts': {}}, 'unauthorized_accepted'),
    ({'uncounted': {'ros: replayed': 1}}, 'unauthorized_uncounted')])
def test_figures_fall_short_when_one_gets_through_or_nothing_works_at_all(changes, short):
    found = holds({**copy.deepcopy(FOUND), **changes})
    assert [key for key, held in found.items() if held is False] == ([short] if short else [])
