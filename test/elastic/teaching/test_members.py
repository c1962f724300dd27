# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdhmt_ros.elastic.plan import part_names
from crowdhmt_ros.elastic.teaching.phases import PHASES, own_tensors
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.teaching.trainer import Trainer
from crowdhmt_ros.errors import DataError, ExportError
from crowdhmt_ros.types import OperatorChoice, Variant

from .small import batches, changed, family, recipe, tensors


def _members(net):
    sampler = Sampler(net, (1, 2, 3, 4, 5, 6))
    return [sampler.alone(name, -1) for name in ('svd', 'fire', 'ghost', 'channel')]


def _phase(net, plan, members):
    return PHASES[plan.phase](net, plan, recipe(plan), members)


def _taken(phase, steps):
    return [v for step in range(steps)
            for v in phase.variants(step, np.random.default_rng(step))]


def test_every_member_gets_the_same_number_of_turns():
    net = family()
    members = _members(net)
    plan = PhaseRecipe('distillation', 1, 0.05, variants=2, members_ratio=1.0,
                       etas=(1, 2, 3, 4, 5, 6))
    taken = _taken(_phase(net, plan, members), 10)
    assert [taken.count(m) for m in members] == [5] * 4


def test_a_share_of_the_draws_stays_random():
    net = family()
    members = _members(net)
    plan = PhaseRecipe('joint', 1, 0.05, variants=4, members_ratio=0.75)
    taken = _taken(_phase(net, plan, members), 8)
    leanest = min(members, key=lambda m: net.plan(m).macs)
    assert len(taken) == 8 * 5
    assert taken.count(leanest) == 8
    assert sum(v in members for v in taken) >= 8 + 24


def test_the_leanest_of_the_sandwich_is_the_leanest_member_and_gets_no_other_turn():
    net = family()
    members = _members(net)
    plan = PhaseRecipe('mutation', 1, 0.05, etas=(2, 4, 6), variants=1, members_ratio=1.0)
    taken = _taken(_phase(net, plan, members), 6)
    leanest = min(members[1:], key=lambda m: net.plan(m).macs)
    assert taken[::2] == [leanest] * 6
    assert leanest not in taken[1::2]
    assert members[0] not in taken  # svd is none of the phase's operators


def test_a_phase_takes_members_that_have_a_tensor_which_learns_there():
    net = family()
    members = _members(net)
    plan = PhaseRecipe('transformation', 1, 0.05, variants=1, members_ratio=1.0)
    taken = set(_taken(_phase(net, plan, members), 6))
    assert taken == set(members[:2])
    assert all(part_names(net.plan(m)) - own_tensors(net) for m in taken)


def test_the_largest_members_get_every_second_turn():
    net = family()
    members = sorted(_members(net), key=lambda m: -net.plan(m).macs)
    plan = PhaseRecipe('joint', 1, 0.05, variants=4, members_ratio=1.0, largest=2, sandwich=False)
    taken = _taken(_phase(net, plan, members), 8)
    assert set(taken[::2]) == set(members[:2])
    assert [taken.count(m) for m in members] == [12, 12, 4, 4]


def test_members_of_an_operator_may_learn_at_every_step_instead_of_in_turn():
    net = family()
    members = _members(net)
    plan = PhaseRecipe('joint', 1, 0.05, variants=2, members_ratio=1.0, sandwich=False,
                       every_step=('svd',))
    phase = _phase(net, plan, members)
    always = [m for m in members if any(c.operator == 'svd' for s in m.stages for c in s)]
    assert list(phase.members.every_step) == always
    taken = _taken(phase, 6)
    assert set(taken) == set(members) - set(always)


def test_a_recipe_may_leave_the_leanest_one_to_its_turn():
    net = family()
    plan = PhaseRecipe('joint', 1, 0.05, variants=2, members_ratio=1.0, sandwich=False)
    taken = _taken(_phase(net, plan, _members(net)), 4)
    assert [taken.count(m) for m in _members(net)] == [2] * 4


def test_only_named_operators_are_drawn():
    net = family()
    plan = PhaseRecipe('joint', 1, 0.05, variants=3, operators=('svd', 'channel'))
    drawn = {c.operator for v in _taken(_phase(net, plan, ()), 20) for s in v.stages for c in s}
    assert drawn == {'svd', 'channel'}


def test_members_alone_leave_the_other_forms_as_they_were():
    net = family()
    members = _members(net)
    before = tensors(net)
    plan = PhaseRecipe('joint', 1, 0.05, variants=2, members_ratio=1.0, early_exit_weight=0.0)
    Trainer(net, recipe(plan), batches(), members=members).run()
    read = set().union(*(part_names(net.plan(m)) for m in members), own_tensors(net))
    moved = changed(net, before)
    assert moved <= read
    assert {n for n in moved if '.fire.' in n}
    assert not {n for n in moved if '.sparse.' in n}


def test_a_checkpoint_with_other_members_is_refused(tmp_path):
    net = family()
    members, path = _members(net), tmp_path / 'c.pt'
    Trainer(net, recipe('backbone'), batches(), checkpoint_path=path, members=members).run()
    other = Trainer(family(), recipe('backbone'), batches(), checkpoint_path=path,
                    members=members[:2])
    with pytest.raises(DataError, match='another list of members'):
        other.resume()


def test_a_member_of_another_network_is_refused():
    strange = Variant(((OperatorChoice('channel', (('ratio', 0.5),)),),) * 9, 0)
    with pytest.raises(ExportError, match='stages'):
        Trainer(family(), recipe('joint'), batches(), members=[strange])


def test_a_phase_that_ends_above_zero_is_gone_on_with():
    first = PhaseRecipe('backbone', 4, 0.1, end_ratio=0.5)
    assert first.learning_rate_at(1.0) == pytest.approx(0.05)
    assert first.learning_rate_at(first.warm_up_ratio) == pytest.approx(0.1)
    assert replace(first, end_ratio=0.0).learning_rate_at(1.0) == pytest.approx(0.0)
