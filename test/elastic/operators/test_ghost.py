# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators.ghost import Ghost
from crowdhmt_ros.elastic.operators.macs import whole

from . import programs as p

FORM = Ghost()
UNIT = p.conv_unit(24, 64, (3, 3))


@pytest.mark.parametrize('outputs', [64, 48, 40, 32, 16, 8])
def test_at_each_offered_width_a_ghost_is_fitted_to_its_own_output(outputs):
    """The second half of the outputs are multiples of the first, but of another first half."""
    weight = p.weight_of(UNIT)
    half = outputs // 2
    factors = torch.linspace(-2, 2, half, dtype=torch.float64)[:, None, None, None]
    weight[half:outputs] = factors * weight[:half]
    x = p.smooth_input(UNIT, 4)
    tensors = p.all_tensors(FORM, UNIT, weight, p.moment_of(x))
    shape = replace(whole(UNIT), outputs=outputs)
    found = p.run(FORM.program(shape, {}), tensors, x)
    assert p.unexplained(found, p.own(UNIT, weight, x)[:, :outputs]) < 1e-6


def test_the_first_half_is_the_backbones_own():
    weight, x = p.weight_of(UNIT), p.smooth_input(UNIT, 4)
    found = p.run(FORM.program(whole(UNIT), {}), p.all_tensors(FORM, UNIT, weight), x)
    assert torch.allclose(found[:, :32], p.own(UNIT, weight, x)[:, :32])


def test_ghosts_beat_leaving_the_outputs_out():
    x = p.smooth_input(UNIT)
    weight = p.weight_of(UNIT)
    tensors = p.all_tensors(FORM, UNIT, weight, p.moment_of(x))
    found, wanted = p.run(FORM.program(whole(UNIT), {}), tensors, x), p.own(UNIT, weight, x)
    assert p.unexplained(found[:, 32:], wanted[:, 32:]) < 0.95


def test_of_an_odd_number_the_middle_one_is_computed():
    weight, x = p.weight_of(UNIT), p.smooth_input(UNIT, 2)
    program = FORM.program(replace(whole(UNIT), outputs=13), {})
    found = p.run(program, p.all_tensors(FORM, UNIT, weight), x)
    assert torch.allclose(found[:, :7], p.own(UNIT, weight, x)[:, :7])


def test_the_cheap_tensor_is_small():
    unit = p.conv_unit(64, 64, (3, 3))
    cheap = FORM.tensors(unit, p.weight_of(unit))['c.ghost.cheap']
    assert cheap.numel() < 0.05 * p.weight_of(unit).numel()


def test_layers_without_places_are_left_alone():
    assert 'neighbourhood' in FORM.unit_refusal(p.linear_unit(32, 32))
    assert 'cheap already' in FORM.unit_refusal(p.conv_unit(32, 32, (3, 3), depthwise=True))
    assert 'not save work' in FORM.unit_refusal(p.conv_unit(8, 16, (1, 1)))
