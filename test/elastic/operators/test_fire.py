# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators.fire import Fire, fire
from crowdhmt_ros.elastic.operators.macs import whole
from crowdhmt_ros.elastic.steps import Apply
from crowdhmt_ros.errors import ExportError

from . import programs as p

UNIT = p.conv_unit(32, 32, (3, 3))


def test_what_needs_few_directions_of_the_inputs_keeps_its_first_half():
    directions = p.weight_of(p.conv_unit(32, 8, (1, 1)), 5)[:, :, 0, 0]
    weight = torch.einsum('nsyx,sc->ncyx', p.weight_of(p.conv_unit(8, 32, (3, 3))), directions)
    x = p.smooth_input(UNIT, 4)
    tensors = p.all_tensors(Fire(), UNIT, weight, p.moment_of(x))
    found = p.run(Fire().program(whole(UNIT), {'squeeze': 0.25}), tensors, x)
    wanted = p.own(UNIT, weight, x)
    assert p.unexplained(found[:, :16], wanted[:, :16]) < 1e-6
    assert 0.01 < p.unexplained(found[:, 16:], wanted[:, 16:]) < 1.0


def test_a_wider_squeeze_is_closer_and_what_is_known_of_the_inputs_helps():
    x = p.smooth_input(UNIT)
    moment = p.moment_of(x)
    wide, thin = (p.error_of(Fire(), UNIT, {'squeeze': s}, moment, x) for s in (0.25, 0.125))
    assert wide < thin
    assert wide < p.error_of(Fire(), UNIT, {'squeeze': 0.25}, None, x)


def test_an_output_stands_for_the_same_channel_at_every_width():
    """Rows go by output: a narrower layer reads rows of the same numbers, wide or near."""
    for outputs in (32, 24, 16, 13):
        shape = replace(whole(UNIT), outputs=outputs)
        _, wide, near, _ = Fire().program(shape, {})
        half = (outputs + 1) // 2
        assert wide.weight.slices[0] == (0, half)
        assert near.weight.slices[0] == (half, outputs)


def test_outputs_that_are_wide_at_both_widths_are_the_same():
    tensors = p.all_tensors(Fire(), UNIT, p.weight_of(UNIT))
    x = p.smooth_input(UNIT, 2)
    wide = p.run(Fire().program(whole(UNIT), {'squeeze': 0.125}), tensors, x)
    narrow = p.run(Fire().program(replace(whole(UNIT), outputs=16), {'squeeze': 0.25}),
                   tensors, x)
    assert torch.allclose(wide[:, :8], narrow[:, :8])


def test_a_pointwise_layer_gets_a_larger_kernel_that_begins_as_its_own():
    unit = p.conv_unit(64, 64, (1, 1))
    steps = [s for s in Fire().program(whole(unit), {}) if isinstance(s, Apply)]
    assert {s.weight.shape[2:] for s in steps} == {(1, 1), (3, 3)}
    wide = Fire().tensors(unit, p.weight_of(unit))['c.fire.wide']
    assert wide[:, :, 1, 1].abs().min() > 0
    assert torch.count_nonzero(wide) == torch.count_nonzero(wide[:, :, 1, 1])


def test_a_squeeze_out_of_range_is_refused():
    with pytest.raises(ExportError, match='up to 0.25'):
        Fire().program(whole(UNIT), dict(fire(0.5).parameters))


def test_layers_that_cannot_be_expanded_two_ways_are_left_alone():
    refusal = Fire().unit_refusal
    assert 'no places' in refusal(p.linear_unit(32, 32))
    assert 'no centre' in refusal(p.conv_unit(32, 32, (2, 2)))
    assert 'too little padding' in refusal(replace(UNIT, padding=(0, 0)))
    assert 'not save work' in refusal(p.conv_unit(16, 16, (1, 1)))
