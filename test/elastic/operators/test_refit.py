# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators.macs import whole
from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.elastic.operators.refit import Refit
from crowdhmt_ros.errors import ExportError

from . import programs as p

UNIT = p.conv_unit(32, 24, (3, 3), in_group=0)


def _lost(unit, weight, fitted, x):
    """Error of the outputs when the last quarter of the inputs is gone."""
    kept = fitted.shape[1]
    full = torch.nn.functional.conv2d(x, weight, padding=1)
    less = torch.nn.functional.conv2d(x[:, :kept], fitted, padding=1)
    return float((full - less).pow(2).mean() / full.pow(2).mean())


def test_fitted_weights_lose_less_than_slices():
    x, weight = p.smooth_input(UNIT), p.weight_of(UNIT)
    x = x - x.mean((0, 2, 3), keepdim=True)
    rows = x.movedim(1, -1).reshape(-1, 32)
    fitted = Refit().tensors(UNIT, weight, rows.T @ rows / len(rows))['c.refit.weight']
    assert fitted.shape == (24, 24, 3, 3)
    assert _lost(UNIT, weight, fitted, x) < 0.8 * _lost(UNIT, weight, weight[:, :24], x)


def test_channels_that_others_tell_exactly_lose_nothing():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(16, 24, 5, 5, generator=generator, dtype=torch.float64)
    told = torch.einsum('dk,nkhw->ndhw', torch.randn(
        8, 24, generator=generator, dtype=torch.float64), first)
    x, weight = torch.cat([first, told], 1), p.weight_of(UNIT)
    rows = x.movedim(1, -1).reshape(-1, 32)
    fitted = Refit().tensors(UNIT, weight, rows.T @ rows / len(rows))['c.refit.weight']
    assert _lost(UNIT, weight, fitted, x) < 1e-4


def test_without_knowledge_of_the_inputs_the_weights_are_slices():
    weight = p.weight_of(UNIT)
    assert torch.equal(Refit().tensors(UNIT, weight)['c.refit.weight'], weight[:, :24])


def test_a_layer_whose_inputs_have_another_width_keeps_its_own_weights():
    other = replace(whole(UNIT), inputs=16)
    assert Refit().program(other, {}) == other.own()
    narrowed = replace(whole(UNIT), inputs=24)
    assert Refit().program(narrowed, {})[0].weight.tensor == 'c.refit.weight'


def test_a_flattened_map_keeps_whole_channels():
    unit = replace(p.linear_unit(32 * 4, 10), in_group=0, in_repeat=4)
    assert Refit().tensors(unit, p.weight_of(unit))['f.refit.weight'].shape == (10, 24 * 4)


@pytest.mark.parametrize(('unit', 'hint'), [
    (p.conv_unit(32, 32, (3, 3), depthwise=True, in_group=0), 'not mixed'),
    (p.conv_unit(32, 32, (3, 3)), 'input of the network'),
    (p.conv_unit(8, 32, (3, 3), in_group=0), 'too few')])
def test_what_cannot_be_fitted_is_refused(unit, hint):
    assert hint in Refit().unit_refusal(unit)


def test_it_goes_with_its_own_ratio_only():
    assert Refit().configure(p.stage(), StageConfig(), {}).ratio == 0.75
    with pytest.raises(ExportError, match='leave out the other ratio'):
        Refit().configure(p.stage(), StageConfig(ratio=0.5), {})
    with pytest.raises(ExportError, match='no parameters'):
        Refit().configure(p.stage(), StageConfig(), {'ratio': 0.5})
