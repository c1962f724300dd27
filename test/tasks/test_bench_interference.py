# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from benchmarks._training_interference import figures_of
from crowdhmt_ros.elastic.teaching.interference import Interference

BEFORE = {'full': 1.0, 'a': 2.0}
FOUND = {
    'a': Interference(BEFORE, {'none': {'full': 1.3, 'a': 1.5},
                               'projection': {'full': 1.1, 'a': 1.6}}, 0.25),
    'b': Interference(BEFORE, {'none': {'full': 1.1, 'a': 2.2},
                               'projection': {'full': 1.0, 'a': 2.0}}, None)}


def test_the_rise_of_the_others_is_told_for_each_protection():
    none, projection = figures_of(FOUND, 'full')
    assert none.value == pytest.approx((0.3 + 0.1 + 0.2) / 3)
    assert projection.value == pytest.approx(0.1 / 3)
    assert 'whole network +0.2000' in none.how
    assert 'steps itself -0.5000' in none.how
    assert '0.250 of their squared gradient' in none.how
