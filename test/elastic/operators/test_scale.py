# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.elastic.operators.scale import Scale, scale
from crowdhmt_ros.errors import ExportError

from . import programs as p

LARGE = (p.conv_unit(16, 16, (7, 7)), p.conv_unit(16, 16, (3, 3)))
POINTWISE = (p.conv_unit(16, 16, (1, 1)),)


def test_kernels_and_strides_are_offered_where_there_are_some():
    kernels = [dict(c.parameters).get('kernel') for c in Scale().choices(p.stage(), LARGE)]
    assert kernels == [5, 3, 1, None, None]
    assert all(dict(c.parameters)['stride'] == 2
               for c in Scale().choices(p.stage(), POINTWISE))


def test_a_stage_with_nothing_to_scale_is_refused_with_the_reason():
    stage = p.stage(stride_refused='its tokens have no stride')
    assert Scale().refusal(stage, POINTWISE).endswith('its tokens have no stride')
    assert Scale().choices(stage, POINTWISE) == ()
    assert Scale().refusal(stage, LARGE) == ''


@pytest.mark.parametrize(('parameters', 'said'), [
    ({'kernel': 4}, 'odd'), ({'stride': 3}, '1 or 2'), ({'ratio': 0.0}, 'above 0')])
def test_what_is_out_of_range_is_refused(parameters, said):
    with pytest.raises(ExportError, match=said):
        Scale().configure(p.stage(), StageConfig(), parameters)


def test_all_three_scales_enter_the_configuration():
    choice = scale(kernel=3, stride=2, ratio=0.75)
    config = Scale().configure(p.stage(), StageConfig(), dict(choice.parameters))
    assert (config.kernel, config.stride, config.ratio) == (3, 2, 0.75)


def test_what_changes_nothing_is_not_written_down():
    assert scale(stride=2).parameters == (('stride', 2),)
