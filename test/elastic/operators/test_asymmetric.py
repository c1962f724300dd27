# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators.asymmetric import Asymmetric
from crowdhmt_ros.elastic.operators.macs import whole

from . import programs as p

FORM = Asymmetric()
UNIT = p.conv_unit(24, 32, (3, 3))


def separable(unit, seed=0):
    """Draw a weight that the form can represent."""
    generator = torch.Generator().manual_seed(seed)
    groups = 1 if unit.is_depthwise else unit.inputs
    weight = torch.randn(unit.outputs, groups, *(1,) * len(unit.kernel), generator=generator,
                         dtype=torch.float64)
    for axis, places in enumerate(unit.kernel):
        extent = [places if a == axis else 1 for a in range(len(unit.kernel))]
        lines = unit.outputs if unit.is_depthwise else 1
        weight = weight * torch.randn(lines, groups, *extent, generator=generator,
                                      dtype=torch.float64)
    return weight


@pytest.mark.parametrize('unit', [
    UNIT, p.conv_unit(24, 32, (3, 5), stride=2), p.conv_unit(24, 32, (1, 7)),
    p.conv_unit(24, 32, (3, 3), dilation=2), p.conv_unit(24, 32, (5,), stride=2),
    p.conv_unit(32, 32, (5, 5), depthwise=True, stride=2)])
def test_what_is_separable_stays_the_same(unit):
    weight, x = separable(unit), p.smooth_input(unit, 4)
    for moment in (None, p.moment_of(x)):
        tensors = p.all_tensors(FORM, unit, weight, moment)
        found = p.run(FORM.program(whole(unit), {}), tensors, x)
        assert p.unexplained(found, p.own(unit, weight, x)) < 1e-5


def test_what_is_known_of_the_inputs_makes_it_closer():
    x = p.smooth_input(UNIT)
    known = p.error_of(FORM, UNIT, {}, p.moment_of(x), x)
    assert known < 0.9 * p.error_of(FORM, UNIT, {}, None, x)


def test_the_first_outputs_of_a_wide_layer_are_those_of_a_narrow_one():
    tensors = p.all_tensors(FORM, UNIT, p.weight_of(UNIT))
    x = p.smooth_input(UNIT, 2)
    wide = p.run(FORM.program(whole(UNIT), {}), tensors, x)
    narrow = p.run(FORM.program(replace(whole(UNIT), outputs=13), {}), tensors, x)
    assert torch.allclose(wide[:, :13], narrow)


def test_a_depthwise_layer_gets_no_mixture():
    unit = p.conv_unit(32, 32, (3, 3), depthwise=True)
    assert len(FORM.program(whole(unit), {})) == 2


def test_kernels_that_have_no_two_axes_to_part_are_left_alone():
    assert 'no kernel' in FORM.unit_refusal(p.conv_unit(32, 32, (1, 1)))
    assert 'no kernel' in FORM.unit_refusal(p.linear_unit(32, 32))
    assert 'single axis' in FORM.unit_refusal(p.conv_unit(32, 32, (5,), depthwise=True))
