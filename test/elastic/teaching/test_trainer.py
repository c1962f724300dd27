# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks._elastic_training import killed_run_identical
from crowdhmt_ros.elastic.teaching import checkpoint
from crowdhmt_ros.elastic.teaching.batches import MemoryBatches
from crowdhmt_ros.elastic.teaching.phases import own_tensors
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.elastic.teaching.trainer import Trainer
from crowdhmt_ros.errors import ConfigError, DataError

from .small import batches, changed, family, recipe, tensors


class StopError(Exception):
    """Raised by a report to end a training early."""


def _stop_at(count):
    left = [count]

    def report(progress):
        left[0] -= 1
        if not left[0]:
            raise StopError
    return report


def test_five_kills_at_random_leave_the_weights_of_an_uninterrupted_run():
    found = killed_run_identical()
    assert found['identical'], found


@pytest.mark.parametrize('stop', [1, 5, 6, 7, 11, 14])
def test_a_run_that_stops_anywhere_and_goes_on_ends_with_the_same_bits(tmp_path, stop):
    plan, path = recipe('backbone', 'transformation', 'joint'), tmp_path / 'c.pt'
    uninterrupted = Trainer(family(), plan, batches(), seed=5)
    uninterrupted.run()
    whole = tensors(uninterrupted.net)
    first = Trainer(family(), plan, batches(), seed=5, checkpoint_path=path, checkpoint_steps=4)
    with pytest.raises(StopError):
        first.run(_stop_at(stop))
    again = Trainer(family(), plan, batches(), seed=5, checkpoint_path=path, checkpoint_steps=4)
    assert again.resume() or stop < 4
    again.run()
    assert all(torch.equal(value, whole[name]) for name, value in tensors(again.net).items())


def test_the_seed_decides_everything():
    ends = []
    for seed in (1, 1, 2):
        trainer = Trainer(family(), recipe('mutation'), batches(), seed=seed)
        trainer.run()
        ends.append(tensors(trainer.net))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not all(torch.equal(value, ends[2][name]) for name, value in ends[0].items())


def test_the_backbone_phase_leaves_the_forms_alone():
    net = family()
    before = tensors(net)
    Trainer(net, recipe('backbone'), batches()).run()
    assert changed(net, before) == own_tensors(net)


def test_the_transformation_phase_leaves_the_backbones_answers_alone():
    net = family().eval()
    images = batches().unvaried(1, 32, 0)[0]
    before = net(images, net.whole())[-1].detach()
    Trainer(net, recipe('transformation', epochs=2), batches()).run()
    net.eval()
    assert torch.allclose(net(images, net.whole())[-1], before, atol=1e-4)


def test_the_joint_phase_moves_every_tensor():
    net = family()
    before = tensors(net)
    Trainer(net, recipe('joint', epochs=4), batches()).run()
    assert changed(net, before) == set(net.names())


def test_the_loss_falls_and_progress_says_how_long_it_takes():
    said = []
    Trainer(family(), recipe('backbone', 'mutation', epochs=4), batches()).run(said.append)
    assert said[-1].done_ratio == pytest.approx(1.0)
    assert said[-1].seconds_left == pytest.approx(0.0)
    assert said[0].seconds_left > 0.0
    assert [p.phase for p in said] == ['backbone'] * 24 + ['mutation'] * 24
    assert [p.done_ratio for p in said] == sorted(p.done_ratio for p in said)
    losses = [p.losses['backbone'] for p in said]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert said[0].conflict_ratio is None
    assert 0.0 <= said[-1].conflict_ratio <= 1.0


def test_a_finished_training_has_nothing_left_to_do(tmp_path):
    path, said = tmp_path / 'c.pt', []
    Trainer(family(), recipe('backbone'), batches(), checkpoint_path=path).run()
    again = Trainer(family(), recipe('backbone'), batches(), checkpoint_path=path)
    assert again.resume()
    again.run(said.append)
    assert not said


@pytest.mark.parametrize(('what', 'options'), [
    ('recipe', {'plan': recipe('backbone', epochs=2)}), ('seed', {'seed': 9}),
    ('data', {'data': batches(112)})])
def test_a_checkpoint_of_another_training_is_refused_in_one_line(tmp_path, what, options):
    path = tmp_path / 'c.pt'
    Trainer(family(), recipe('backbone'), batches(), checkpoint_path=path).run()
    other = Trainer(family(), options.get('plan', recipe('backbone')),
                    options.get('data', batches()), seed=options.get('seed', 0),
                    checkpoint_path=path)
    before = tensors(other.net)
    with pytest.raises(DataError, match='written with another %s;' % what) as caught:
        other.resume()
    assert '\n' not in str(caught.value)
    assert not changed(other.net, before)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'\x80\x02.'])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, content):
    path = tmp_path / 'c.pt'
    path.write_bytes(content)
    trainer = Trainer(family(), recipe('backbone'), batches(), checkpoint_path=path)
    with pytest.raises(DataError, match='cannot be read') as caught:
        trainer.resume()
    assert '\n' not in str(caught.value)


def test_a_write_that_is_cut_off_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path, identity = tmp_path / 'c.pt', {'recipe': 'x'}
    checkpoint.write(path, {'identity': identity, 'value': torch.ones(3)})

    def cut_off(state, file):
        file.write(b'half')
        raise OSError('disk full')
    monkeypatch.setattr(torch, 'save', cut_off)
    with pytest.raises(OSError, match='disk full'):
        checkpoint.write(path, {'identity': identity, 'value': torch.zeros(3)})
    assert torch.equal(checkpoint.read(path, identity)['value'], torch.ones(3))


def test_weights_that_are_no_longer_finite_are_not_saved(tmp_path):
    path = tmp_path / 'c.pt'
    plan = recipe(PhaseRecipe('backbone', 2, 1e30))
    with pytest.raises(DataError, match='lower its learning rate'):
        Trainer(family(), plan, batches(), checkpoint_path=path).run()
    state = torch.load(path, weights_only=True)
    assert all(bool(torch.isfinite(t).all()) for t in state['net'].values())


def test_data_smaller_than_a_batch_is_one_clear_error():
    with pytest.raises(ConfigError, match='less than one batch of 16'):
        Trainer(family(), recipe('backbone'), batches(8))


def test_varied_data_is_other_data():
    inputs, labels = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    assert MemoryBatches(inputs, labels).identity != MemoryBatches(
        inputs, labels, variation='mirrored').identity


@pytest.mark.parametrize('transform', [True, False])
def test_a_joint_phase_derives_the_forms_where_its_recipe_says_so(transform):
    net = family()
    before = tensors(net)
    plan = PhaseRecipe('joint', 1, 0.05, variants=0, sandwich=False, transform=transform)
    Trainer(net, recipe(plan), batches()).run()
    assert bool(changed(net, before) - own_tensors(net)) == transform


def test_a_member_of_every_step_counts_as_much_as_the_whole_network():
    plan = PhaseRecipe('joint', 1, 0.05, variants=0, sandwich=False, variants_weight=0.0,
                       every_step=('ghost',))
    found = {}
    for listed in (False, True):
        net = family()
        before = tensors(net)
        members = [Sampler(net, (4,)).alone('ghost', -1)] if listed else []
        Trainer(net, recipe(plan), batches(), members=members).run()
        cheap = {name for name in net.names() if name.endswith('.ghost.cheap')}
        assert bool(cheap & changed(net, before)) == listed
        found[listed] = tensors(net)
    assert any(not torch.equal(found[True]['weights.' + name.replace('.', '/')],
                               found[False]['weights.' + name.replace('.', '/')])
               for name in own_tensors(net))
