# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from crowdhmt_ros.elastic.teaching.protection import merge


def _pair(count=5):
    generator = torch.Generator().manual_seed(0)
    own = [torch.randn(4, 3, generator=generator) for _ in range(count)]
    return own, [torch.randn(4, 3, generator=generator) - g for g in own]


def test_what_opposes_the_backbone_is_taken_out_tensor_by_tensor():
    own, others = _pair()
    assert any(float((a * b).sum()) < 0 for a, b in zip(own, others))
    for backbone, merged in zip(own, merge(own, others, 'projection').gradients):
        along = float((backbone * (merged - backbone)).sum())
        assert along >= -1e-5


def test_a_step_along_the_merged_gradient_never_raises_the_backbones_loss_to_first_order():
    own, others = _pair()
    change = sum(float((a * m).sum())
                 for a, m in zip(own, merge(own, others, 'projection', weight=50.0).gradients))
    assert change >= sum(float(a.pow(2).sum()) for a in own) * (1 - 1e-5)
    free = merge(own, others, 'none', weight=50.0).gradients
    assert sum(float((a * m).sum()) for a, m in zip(own, free)) < 0


def test_gradients_that_agree_are_added():
    own = [torch.ones(3)]
    others = [torch.tensor([2.0, 1.0, 0.0])]
    merged = merge(own, others, 'projection', weight=0.5)
    assert torch.equal(merged.gradients[0], torch.tensor([2.0, 1.5, 1.0]))
    assert float(merged.conflict_ratio) == 0.0


def test_without_protection_gradients_are_added_and_the_conflict_is_still_told():
    merged = merge([torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])], 'none')
    assert torch.equal(merged.gradients[0], torch.tensor([0.0, 1.0]))
    assert float(merged.conflict_ratio) == pytest.approx(0.5)


def test_tensors_of_one_party_pass():
    merged = merge([torch.ones(2), None, None], [None, torch.ones(2), None], 'projection',
                   weight=3.0)
    assert torch.equal(merged.gradients[0], torch.ones(2))
    assert torch.equal(merged.gradients[1], torch.ones(2))
    assert merged.gradients[2] is None
    assert merged.conflict_ratio is None
