# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.elastic.teaching.mixture import Mixture, Normalisation


def _images(count: int, seed: int) -> Images:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3)).astype(np.uint8)
    return Images(pixels, np.arange(count) % 3)


@pytest.fixture
def mixture() -> Mixture:
    return Mixture(_images(30, 0), _images(30, 1), 12, 12, (1.0, 1.0, 1.0))


def _drawn(mixture, draw):
    return list(mixture.epoch(draw))


def test_an_epoch_is_a_function_of_seed_and_epoch(mixture):
    first, again = (_drawn(mixture, Draw(3, 1, 4)) for _ in range(2))
    later = _drawn(mixture, Draw(3, 2, 4))
    assert [s for s, _, _ in first] == list(range(6)) == list(range(mixture.steps(4)))
    assert all(torch.equal(a, b) and torch.equal(y, z)
               for (_, a, y), (_, b, z) in zip(first, again))
    assert not torch.equal(first[0][1], later[0][1])


def test_an_epoch_that_goes_on_gives_the_same_batches(mixture):
    whole = _drawn(mixture, Draw(3, 1, 4))
    rest = _drawn(mixture, Draw(3, 1, 4, first_step=4))
    assert [s for s, _, _ in rest] == [4, 5]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[4:], rest))


def test_ranks_share_the_very_batch_that_one_alone_gets(mixture):
    alone = _drawn(mixture, Draw(3, 0, 4, edge=16))
    shared = [_drawn(mixture, Draw(3, 0, 4, edge=16, rank=r, ranks=2)) for r in range(2)]
    for step, inputs, labels in alone:
        assert torch.equal(inputs, torch.cat([s[step][1] for s in shared]))
        assert torch.equal(labels, torch.cat([s[step][2] for s in shared]))


def test_the_number_of_steps_counts_what_is_drawn():
    uneven = Mixture(_images(30, 0), _images(30, 1), 13, 11, (1.6, 1.2, 0.7))
    assert len(_drawn(uneven, Draw(0, 0, 4))) == uneven.steps(4)


def test_inputs_have_the_wanted_edge_and_are_varied(mixture):
    _, inputs, labels = next(iter(mixture.epoch(Draw(0, 0, 8, edge=16))))
    assert inputs.shape == (8, 3, 16, 16)
    assert inputs.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert next(iter(mixture.epoch(Draw(0, 0, 8))))[1].shape == (8, 3, 24, 24)


def test_images_without_variation_are_the_same_each_time(mixture):
    first, again = (mixture.unvaried(2, 8, 0) for _ in range(2))
    assert [len(b) for b in first] == [8, 8]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    source = {mixture.normalisation.of_pixels(p[None]).numpy().tobytes()
              for images in (mixture.photos, mixture.scenes) for p in images.pixels}
    assert all(image[None].numpy().tobytes() in source for batch in first for image in batch)
    assert mixture.unvaried(1, 8, 16)[0].shape == (8, 3, 16, 16)
    assert sum(len(b) for b in mixture.unvaried(99, 8, 0)) == 24


def test_other_data_or_variation_has_another_identity(mixture):
    same = Mixture(_images(30, 0), _images(30, 1), 12, 12, (1.0, 1.0, 1.0))
    assert same.identity == mixture.identity
    others = [replace(mixture, photos=_images(30, 2)), replace(mixture, photos_per_epoch=16),
              replace(mixture, normalisation=Normalisation(scale=1.0))]
    assert len({m.identity for m in (mixture, *others)}) == 4
    # As it has always been written: old checkpoints are still known.
    assert ('Normalisation(mean=(0.47, 0.46, 0.43), std=(0.26, 0.25, 0.27), '
            'scale=0.00392156862745098)') in mixture.identity


def test_without_scenes_an_epoch_is_of_photos():
    alone = Mixture(_images(30, 0), _images(0, 1), 12, 12, (1.0, 1.0, 1.0))
    assert alone.steps(4) == 3
    assert len(_drawn(alone, Draw(0, 0, 4))) == 3


def test_normalised_pixels_are_what_the_robot_feeds():
    pixels = np.full((1, 2, 2, 3), 255, np.uint8)
    found = Normalisation((0.5, 0.4, 0.3), (0.5, 0.5, 0.5)).of_pixels(pixels)
    assert found[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.2, 1.4])
