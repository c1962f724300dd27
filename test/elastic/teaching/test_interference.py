# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.elastic.teaching.interference import interference
from crowdhmt_ros.elastic.teaching.phases import PHASES
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe

from .small import batches, family, recipe, tensors

PLAN = PhaseRecipe('mutation', 1, 0.01, hard_share=1.0, early_exit_weight=0.0)


@pytest.fixture(scope='module')
def measured():
    """A step of the leanest variant, in a family whose whole network is at odds with it."""
    net, learning = family(), recipe(PLAN, label_smoothing=0.0)
    with torch.no_grad():
        # What only the whole network reads makes for class 0, and the shift that both share half
        # as much against it: the one wants the shift lower, the other one higher.
        net.tensor('12.weight')[0, 8:] = 2.0
        net.tensor('12.bias')[0] = -3.0
    leanest = PHASES['mutation'](net, PLAN, learning).sampler.leanest()
    _, inputs, labels = next(iter(batches().epoch(Draw(0, 0, 64))))
    before, state = tensors(net), torch.get_rng_state()
    found = interference(net, learning, plan=PLAN, variant=leanest,
                         others={'whole': net.whole(), 'leanest': leanest},
                         learnt=(inputs, labels), judged=(inputs, labels))
    return net, before, state, found


def test_a_step_lowers_the_loss_of_the_variant_that_takes_it(measured):
    *_, found = measured
    assert found.damage('none')['leanest'] < 0.0
    assert found.damage('projection')['leanest'] < 0.0
    assert set(found.before) == set(found.after['none']) == {'whole', 'leanest'}


def test_where_gradients_conflict_protection_serves_the_whole_network(measured):
    *_, found = measured
    assert 0.001 < found.conflict_ratio <= 1.0
    assert found.damage('projection')['whole'] < 0.0
    assert found.damage('projection')['whole'] < found.damage('none')['whole'] - 1e-3


def test_the_step_is_undone_and_nothing_is_drawn(measured):
    net, before, state, _ = measured
    assert all(torch.equal(value, before[name]) for name, value in tensors(net).items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters())
