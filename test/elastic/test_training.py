# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crowdhmt_ros.elastic.stage_shapes import residual_backbone
from crowdhmt_ros.elastic.data import Images, Mixture
from crowdhmt_ros.elastic.training import Cycle, Recipe, Space, Trainer, step_variants
from crowdhmt_ros.errors import DataError

TINY = residual_backbone(3, widths=(16, 16), blocks=1)
RECIPE = Recipe((Cycle(1, 0.03, ((0.0, 16),)), Cycle(1, 0.02, ((0.0, 24),))), batch_size=8)
SPACE = Space((1.0, 0.5), (1,))


def _images(count: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 80, (count, 24, 24, 3)) + 80 * (labels == 1)[:, None, None, None]
    return Images(pixels.astype(np.uint8), labels.astype(np.int64))


def _trainer(checkpoint: Path, recipe: Recipe = RECIPE) -> Trainer:
    mixture = Mixture(_images(24, 0), _images(24, 1), 18, 18, (1.0, 1.0, 1.0))
    return Trainer(TINY, mixture, recipe, seed=5, space=SPACE, checkpoint=checkpoint,
                   checkpoint_steps=3)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = _trainer(tmp_path / 'whole.pt')
    steps = sum(1 for _ in whole.run())
    assert steps == 8
    broken = _trainer(tmp_path / 'broken.pt')
    for done, _ in enumerate(broken.run()):
        if done == 5:  # in the second epoch, between two checkpoints
            break
    resumed = _trainer(tmp_path / 'broken.pt')
    assert resumed.resume()
    assert sum(1 for _ in resumed.run()) < steps
    for a, b in zip(whole.net.state_dict().values(), resumed.net.state_dict().values()):
        assert torch.equal(a, b)


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    trainer = _trainer(tmp_path / 'c.pt')
    trainer.save()
    other = _trainer(tmp_path / 'c.pt', Recipe(RECIPE.cycles[:1], batch_size=8))
    with pytest.raises(DataError, match='another recipe'):
        other.resume()


def test_without_a_checkpoint_training_starts_anew(tmp_path):
    assert not _trainer(tmp_path / 'absent.pt').resume()


def test_each_step_pauses_first(tmp_path):
    pauses = []
    trainer = _trainer(tmp_path / 'c.pt')
    trainer._pause = lambda: pauses.append(1)
    assert sum(1 for _ in trainer.run()) == len(pauses)


def test_each_step_trains_largest_and_smallest():
    net = residual_backbone(7)
    for seed in range(20):
        chosen = step_variants(net, Space(), np.random.default_rng(seed))
        assert chosen[0].stages == ((), (), (), ())
        assert all(len(stage) == 2 for stage in chosen[1].stages)
        assert {v.exit_index for v in chosen} == {1}


def test_learning_rate_rises_then_falls_to_zero_while_images_grow():
    cycle = Cycle(10, 1.0, ((0.0, 16), (0.5, 24)), warm_up=0.1)
    assert [cycle.size_at(e) for e in (0, 4, 5, 9)] == [16, 16, 24, 24]
    rates = [cycle.learning_rate_at(d) for d in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0
    assert rates[3] < 1.0
    assert rates[4] == pytest.approx(0.0, abs=1e-9)
