# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators.macs import whole
from crowdhmt_ros.elastic.operators.svd import Svd
from crowdhmt_ros.errors import ExportError

from . import programs as p


@pytest.mark.parametrize('unit', [
    p.conv_unit(24, 32, (3, 3)), p.conv_unit(32, 16, (1, 1)), p.conv_unit(24, 32, (5,), stride=2),
    p.linear_unit(24, 48)])
def test_at_full_rank_the_layer_is_the_same(unit):
    weight = p.weight_of(unit)
    x = p.smooth_input(unit, 4) if unit.kernel else torch.randn(4, 24, dtype=torch.float64)
    moment = p.moment_of(x) + 1e-3 * torch.eye(unit.inputs, dtype=torch.float64)
    for known in (None, moment):
        tensors = p.all_tensors(Svd(), unit, weight, known)
        found = p.run(Svd().program(whole(unit), {'rank': 1.0}), tensors, x)
        assert torch.allclose(found, p.own(unit, weight, x), atol=1e-5)


def test_what_is_known_of_the_inputs_makes_it_closer():
    unit = p.conv_unit(32, 32, (3, 3))
    x = p.smooth_input(unit)
    plain = p.error_of(Svd(), unit, {'rank': 0.5}, None, x)
    assert p.error_of(Svd(), unit, {'rank': 0.5}, p.moment_of(x), x) < 0.5 * plain


def test_the_first_outputs_of_a_wide_layer_are_those_of_a_narrow_one():
    unit = p.conv_unit(24, 32, (3, 3))
    tensors = p.all_tensors(Svd(), unit, p.weight_of(unit))
    x = p.smooth_input(unit, 2)
    wide = p.run(Svd().program(whole(unit), {'rank': 0.5}), tensors, x)
    narrow = p.run(Svd().program(replace(whole(unit), outputs=16), {'rank': 1.0}), tensors, x)
    assert torch.allclose(wide[:, :16], narrow)


def test_a_rank_out_of_range_is_refused():
    with pytest.raises(ExportError, match='above 0 and up to 1'):
        Svd().program(whole(p.conv_unit(24, 32, (3, 3))), {'rank': 1.5})


def test_thin_layers_are_left_alone():
    assert 'fewer than' in Svd().unit_refusal(p.conv_unit(24, 8, (3, 3)))
