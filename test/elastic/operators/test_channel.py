# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from crowdhmt_ros.elastic.operators.channel import Channel, channel
from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.errors import ExportError

from . import programs as p

UNITS = (p.conv_unit(16, 32, (3, 3)),)


def test_plain_ratios_come_first_and_randomised_ones_after():
    choices = [dict(c.parameters) for c in Channel().choices(p.stage(), UNITS)]
    plain = [c['ratio'] for c in choices if 'seed' not in c]
    assert plain == sorted(plain, reverse=True)
    assert all('seed' in c for c in choices[len(plain):])
    assert len(choices) > len(plain) > 0


def test_ratio_and_seed_enter_the_configuration():
    config = Channel().configure(p.stage(), StageConfig(), dict(channel(0.5, 3).parameters))
    assert (config.ratio, config.seed) == (0.5, 3)


@pytest.mark.parametrize('ratio', [0.0, 1.5, -1.0])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ExportError, match='above 0 and up to 1'):
        Channel().configure(p.stage(), StageConfig(), {'ratio': ratio})


def test_a_stage_that_makes_no_channels_is_refused():
    assert Channel().refusal(p.stage(), (p.norm_unit(8),))
    assert Channel().choices(p.stage(), (p.norm_unit(8),)) == ()
