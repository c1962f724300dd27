# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from crowdhmt_ros.elastic.teaching.sampling import Sampler

from .small import family


def _ratios(variants):
    return {dict(c.parameters)['ratio'] for v in variants for stage in v.stages for c in stage
            if c.operator == 'channel'}


@pytest.mark.parametrize('least', [0.0, 0.375])
def test_nothing_is_drawn_narrower_than_the_least_ratio(least):
    sampler = Sampler(family(), (5, 6), least_ratio=least)
    rng = np.random.default_rng(0)
    found = _ratios([sampler.leanest(), *(sampler.draw(rng, 'channel') for _ in range(100))])
    assert min(found) == (least or 0.25)
