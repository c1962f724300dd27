# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crowdhmt_ros.elastic.operators import sparse
from crowdhmt_ros.elastic.operators.macs import whole
from crowdhmt_ros.errors import ExportError

from . import programs as p

UNIT = p.conv_unit(24, 32, (3, 3))


def test_with_as_many_atoms_as_outputs_the_layer_is_the_same(monkeypatch):
    monkeypatch.setattr(sparse, 'ATOMS', (sparse.BLOCK,))
    weight, x = p.weight_of(UNIT), p.smooth_input(UNIT, 2)
    tensors = p.all_tensors(sparse.Sparse(), UNIT, weight, p.moment_of(x))
    found = p.run(sparse.Sparse().program(whole(UNIT), {}), tensors, x)
    assert torch.allclose(found, p.own(UNIT, weight, x), atol=1e-9)


def test_more_atoms_are_closer_and_what_is_known_of_the_inputs_helps():
    x = p.smooth_input(UNIT)
    moment = p.moment_of(x)
    four, two = (p.error_of(sparse.Sparse(), UNIT, {'atoms': a}, moment, x) for a in (4, 2))
    assert four < two
    assert four < p.error_of(sparse.Sparse(), UNIT, {'atoms': 4}, None, x)


@pytest.mark.parametrize('outputs', [8, 16, 13, 3])
def test_the_first_outputs_of_a_wide_layer_are_those_of_a_narrow_one(outputs):
    tensors = p.all_tensors(sparse.Sparse(), UNIT, p.weight_of(UNIT))
    x = p.smooth_input(UNIT, 2)
    wide = p.run(sparse.Sparse().program(whole(UNIT), {}), tensors, x)
    shape = replace(whole(UNIT), outputs=outputs)
    narrow = p.run(sparse.Sparse().program(shape, {}), tensors, x)
    assert torch.allclose(wide[:, :outputs], narrow)


def test_an_unknown_number_of_atoms_is_refused():
    with pytest.raises(ExportError, match='choose one of 4, 2'):
        sparse.Sparse().program(whole(UNIT), {'atoms': 3})


def test_what_cannot_be_coded_is_left_alone():
    refusal = sparse.Sparse().unit_refusal
    assert 'grouped convolution' in refusal(p.linear_unit(32, 32))
    assert 'blocks of 8' in refusal(p.conv_unit(32, 30, (3, 3)))
    assert 'not save work' in refusal(p.conv_unit(8, 16, (1, 1)))
