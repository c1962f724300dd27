# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every form promises."""
from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdhmt_ros.elastic.operators.macs import program_macs, whole
from crowdhmt_ros.elastic.operators.operator import StageConfig
from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.elastic.steps import parts_of
from crowdhmt_ros.errors import ExportError

from . import programs as p

UNITS = {
    'plain': p.conv_unit(24, 32, (3, 3)),
    'strided': p.conv_unit(32, 40, (3, 3), stride=2),
    'large': p.conv_unit(16, 16, (5, 5)),
    'wide': p.conv_unit(16, 24, (3, 3), dilation=2),
    'oblong': p.conv_unit(16, 24, (1, 7)),
    'pointwise': p.conv_unit(64, 64, (1, 1)),
    'even': p.conv_unit(20, 36, (2, 2)),
    'odd': p.conv_unit(18, 21, (3, 3)),
    'signal': p.conv_unit(24, 32, (5,)),
    'depthwise': p.conv_unit(32, 32, (5, 5), depthwise=True, stride=2),
    'linear': p.linear_unit(48, 40),
}
# refit comes with a width of its own: see test_refit.py
PAIRS = [(f, u) for f in FORMS for u in UNITS
         if f != 'refit' and not FORMS[f].unit_refusal(UNITS[u])]


@functools.cache
def tensors_of(name, kind):
    return p.all_tensors(FORMS[name], UNITS[kind], p.weight_of(UNITS[kind]))


def choices_of(name, unit):
    return [dict(c.parameters) for c in FORMS[name].choices(p.stage(), (unit,))]


def test_every_form_serves_several_kinds_of_layers():
    for name in set(FORMS) - {'refit'}:
        assert len([u for f, u in PAIRS if f == name]) >= 2, name


@pytest.mark.parametrize(('name', 'kind'), PAIRS)
def test_every_narrower_shape_gives_what_the_own_form_would_give(name, kind):
    unit = UNITS[kind]
    tensors = tensors_of(name, kind)
    x = torch.randn(1, unit.inputs, *(p.PLACES,) * len(unit.kernel), dtype=torch.float64)
    for shape in p.narrower(unit):
        wanted = p.run(shape.own(), tensors, x[:, :shape.inputs]).shape
        for parameters in choices_of(name, unit):
            program = FORMS[name].program(shape, parameters)
            assert p.run(program, tensors, x[:, :shape.inputs]).shape == wanted, shape


@pytest.mark.parametrize(('name', 'kind'), PAIRS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_shape_runs(name, kind, data):
    unit = UNITS[kind]
    outputs = data.draw(st.integers(1, unit.outputs))
    inputs = outputs if unit.is_depthwise else data.draw(st.integers(1, unit.inputs))
    shape = replace(whole(unit), inputs=inputs, outputs=outputs)
    tensors = tensors_of(name, kind)
    x = torch.randn(1, inputs, *(4,) * len(unit.kernel), dtype=torch.float64)
    parameters = data.draw(st.sampled_from(choices_of(name, unit)))
    found = p.run(FORMS[name].program(shape, parameters), tensors, x)
    assert found.shape == p.run(shape.own(), tensors, x).shape


@pytest.mark.parametrize(('name', 'kind'), [q for q in PAIRS if q[0] != 'svd'])
def test_work_is_saved_at_every_offered_width(name, kind):
    unit = UNITS[kind]
    for parameters in choices_of(name, unit):
        for eighths in (4, 6, 8):
            shape = replace(whole(unit), inputs=unit.inputs * eighths // 8,
                            outputs=unit.outputs * eighths // 8)
            own = program_macs(shape.own(), unit.extent)
            assert program_macs(FORMS[name].program(shape, parameters), unit.extent) < own


@pytest.mark.parametrize('kind', sorted(UNITS))
def test_tensors_bear_the_layer_and_the_form_in_their_names(kind):
    unit, seen = UNITS[kind], set()
    for name in (f for f, u in PAIRS if u == kind):
        found = set(FORMS[name].tensors(unit, p.weight_of(unit)))
        assert all(tensor.startswith('%s.%s.' % (unit.name, name)) for tensor in found)
        assert not found & seen
        seen |= found


@pytest.mark.parametrize(('name', 'kind'), PAIRS)
def test_programs_read_no_tensor_that_is_not_there_and_leave_none_unread(name, kind):
    unit = UNITS[kind]
    made = set(FORMS[name].tensors(unit, p.weight_of(unit)))
    read = {part.tensor for parameters in choices_of(name, unit)
            for part in parts_of(FORMS[name].program(whole(unit), parameters))}
    assert read - {unit.name + '.weight'} == made


@pytest.mark.parametrize(('name', 'kind'), [q for q in PAIRS if q[1] != 'linear'])
def test_every_output_gets_its_own_bias_gain_and_shift(name, kind):
    unit, form = p.with_norm(UNITS[kind]), FORMS[name]
    tensors = dict(tensors_of(name, kind))
    tensors.update({'c.bias': torch.arange(unit.outputs).double(),
                    'bn.weight': 1.0 + torch.arange(unit.outputs).double(),
                    'bn.bias': torch.arange(unit.outputs).double() * 100})
    x = p.smooth_input(unit, 4)
    for shape in p.narrower(unit):
        y = p.run(form.program(shape, {}), tensors, x[:, :shape.inputs])
        flat = y.transpose(0, 1).flatten(1)
        assert torch.allclose(flat.mean(1), tensors['bn.bias'][:shape.outputs], atol=1e-6)
        if shape.inputs > 1 and shape.kernel == unit.kernel:
            assert torch.allclose(flat.std(1, unbiased=False),
                                  tensors['bn.weight'][:shape.outputs], rtol=1e-2)


@pytest.mark.parametrize(('name', 'kind'), PAIRS)
def test_a_derived_form_is_closer_than_a_random_one(name, kind):
    unit, form = UNITS[kind], FORMS[name]
    x = p.smooth_input(unit) if unit.kernel else torch.randn(200, unit.inputs,
                                                            dtype=torch.float64)
    moment = p.moment_of(x)
    for parameters in choices_of(name, unit):
        error = p.error_of(form, unit, parameters, moment, x)
        assert error < 0.9 * p.random_error(form, unit, parameters, x)
        assert error < 1.0


@pytest.mark.parametrize('name', sorted(FORMS))
def test_refusals_give_a_reason(name):
    form = FORMS[name]
    grouped = replace(p.conv_unit(32, 32, (3, 3)), groups=4)
    reason = form.unit_refusal(grouped)
    assert len(reason.split()) >= 4
    assert form.refusal(p.stage(), (grouped,)) == reason
    assert form.choices(p.stage(), (grouped,)) == ()
    assert form.unit_refusal(p.norm_unit(32))
    assert form.refusal(p.stage(), ()) == 'the stage has no layers'


@pytest.mark.parametrize('name', sorted(FORMS))
def test_a_form_enters_a_stage_once(name):
    form = FORMS[name]
    config = form.configure(p.stage(), StageConfig(), {})
    assert [c.operator for c in config.forms] == [name]
    with pytest.raises(ExportError, match='twice'):
        form.configure(p.stage(), config, {})


def test_operators_are_in_the_table_under_their_names_and_cover_the_categories():
    assert all(operator.name == name for name, operator in OPERATORS.items())
    assert {operator.eta for operator in OPERATORS.values()} == {1, 2, 3, 4, 5, 6}
