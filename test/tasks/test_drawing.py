# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.datasets import InputKind  # noqa: E402
from crowdhmt_ros.elastic.teaching.batches import Draw  # noqa: E402
from crowdhmt_ros.errors import ConfigError  # noqa: E402
from crowdhmt_ros.tasks.drawing import VariedBatches, ready, settled  # noqa: E402
from crowdhmt_ros.tasks.task import InputScaling  # noqa: E402
from crowdhmt_ros.tasks.variation import VARIATIONS  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
LABELS = np.arange(20) % 5
SCALING = InputScaling((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 1.0 / 255.0)


def _batches(variation='crop-flip', values=IMAGES):
    return VariedBatches(values, LABELS, SCALING, VARIATIONS[variation])


def _drawn(batches, **more):
    return list(batches.epoch(Draw(**{'seed': 1, 'epoch': 2, 'batch_size': 4, **more})))


def test_a_draw_gives_the_same_batches_each_time_and_another_epoch_others():
    first, again, other = (_drawn(_batches(), epoch=e) for e in (2, 2, 3))
    assert [step for step, _, _ in first] == [0, 1, 2, 3, 4]
    assert all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
               for a, b in zip(first, again))
    assert not torch.equal(first[0][1], other[0][1])


def test_an_epoch_visits_every_input_once():
    labels = torch.cat([y for _, _, y in _drawn(_batches())])
    assert torch.equal(labels.bincount(), torch.full((5,), 4))


def test_an_epoch_that_goes_on_gives_the_batches_that_were_left():
    whole, rest = _drawn(_batches()), _drawn(_batches(), first_step=3)
    assert [step for step, _, _ in rest] == [3, 4]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[3:], rest))


@pytest.mark.parametrize('variation', ['crop-flip', 'crop-flip-cutout', 'photo'])
def test_ranks_get_shares_of_the_same_batch(variation):
    whole = _drawn(_batches(variation))
    shares = [_drawn(_batches(variation), rank=r, ranks=2) for r in (0, 1)]
    for (_, x, y), (_, x0, y0), (_, x1, y1) in zip(whole, *shares):
        assert torch.equal(x, torch.cat([x0, x1]))
        assert torch.equal(y, torch.cat([y0, y1]))


@pytest.mark.parametrize('variation', ['none', 'crop-flip', 'photo'])
@pytest.mark.parametrize('edge', [0, 8, 16])
def test_images_come_at_the_edge_asked_for(variation, edge):
    _, x, _ = _drawn(_batches(variation), edge=edge)[0]
    assert x.shape == (4, 3, edge or 16, edge or 16)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert _batches().unvaried(2, 8, edge)[1].shape == (8, 3, edge or 16, edge or 16)


def test_inputs_that_are_no_images_have_no_edge():
    windows = np.zeros((20, 9, 32), np.float32)
    batches = VariedBatches(windows, LABELS, InputScaling((0.0,) * 9, (1.0,) * 9),
                            VARIATIONS['none'])
    assert _drawn(batches)[0][1].shape == (4, 9, 32)
    with pytest.raises(ConfigError, match='leave edges out'):
        _drawn(batches, edge=24)


def test_inputs_are_scaled_per_channel_and_arrays_stay_as_they_are():
    before = IMAGES.copy()
    x = ready(IMAGES, SCALING)
    expected = (IMAGES.transpose(0, 3, 1, 2) / 255.0 - 0.5) / 0.25
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)
    windows = np.ones((2, 3, 8), np.float32)
    ready(windows, InputScaling((1.0, 0.0, 0.0), (1.0, 2.0, 4.0)))
    assert np.array_equal(IMAGES, before)
    assert (windows == 1.0).all()


def test_measured_constants_make_each_channel_even():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 5.0, (200, 2, 50)).astype(np.float32) * np.array([[1], [10]])
    scaling = settled(InputScaling(), values.astype(np.float32), InputKind.WINDOW)
    x = ready(values.astype(np.float32), scaling)
    assert torch.allclose(x.mean((0, 2)), torch.zeros(2), atol=1e-3)
    assert torch.allclose(x.std((0, 2)), torch.ones(2), atol=1e-2)


def test_a_channel_that_never_changes_does_not_divide_by_zero():
    scaling = settled(InputScaling(), np.zeros((4, 2, 8), np.float32), InputKind.WINDOW)
    assert min(scaling.std) > 0.0


def test_pixels_count_from_zero_to_one():
    scaling = settled(InputScaling((0.5,) * 3, (0.25,) * 3), IMAGES, InputKind.IMAGE)
    assert scaling == SCALING


def test_the_identity_tells_data_labels_and_variation():
    identities = {_batches().identity, _batches('none').identity,
                  _batches(values=255 - IMAGES).identity,
                  VariedBatches(IMAGES, LABELS[::-1], SCALING, VARIATIONS['crop-flip']).identity}
    assert len(identities) == 4
