# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from crowdhmt_ros.elastic.operators.depth import Depth
from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.errors import ExportError

from . import programs as p


def test_every_smaller_depth_is_offered_the_deepest_first():
    choices = Depth().choices(p.stage(4, 3), ())
    assert [dict(c.parameters)['blocks'] for c in choices] == [3, 2, 1]


def test_blocks_that_change_the_shape_stay():
    assert [dict(c.parameters)['blocks'] for c in Depth().choices(p.stage(4, 1), ())] == [3]
    assert 'changes the shape' in Depth().refusal(p.stage(2, 0), ())


@pytest.mark.parametrize('blocks', [0, 2, 5])
def test_a_depth_out_of_range_is_refused(blocks):
    with pytest.raises(ExportError, match='this stage has 3 to 4'):
        Depth().configure(p.stage(4, 1), StageConfig(blocks=4), {'blocks': blocks})


def test_the_depth_enters_the_configuration():
    assert Depth().configure(p.stage(4, 1), StageConfig(blocks=4), {'blocks': 3}).blocks == 3
