# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from benchmarks._elastic_training import ranks_agree
from crowdhmt_ros.elastic.norms import BatchNorms
from crowdhmt_ros.elastic.steps import Norm
from crowdhmt_ros.elastic.sync_norms import SyncNorms
from crowdhmt_ros.elastic.teaching.ranks import Ranks

NORM = Norm('norm', (0, 5), None, None, 1e-5)


def _inputs():
    generator = torch.Generator().manual_seed(0)
    x = 30.0 + torch.randn(8, 5, 3, 4, generator=generator)
    return x, *(torch.randn(5, generator=generator) for _ in range(2)), torch.randn(
        8, 5, 3, 4, generator=generator)


def _run(norms, rows):
    """Return what comes out, and the gradients by inputs, gain and shift."""
    x, gain, shift, weights = _inputs()
    x, weights = x[rows].clone().requires_grad_(), weights[rows]
    gain.requires_grad_()
    shift.requires_grad_()
    y = norms(x, NORM, 'norm', gain, shift)
    (y * weights).sum().backward()
    return [t.detach() for t in (y, x.grad, gain.grad, shift.grad)]


def _rank(rank, folder):
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method='file://%s/meeting' % folder, rank=rank,
                            world_size=2)
    found = _run(SyncNorms(), slice(rank * 4, rank * 4 + 4))
    ranks = Ranks(rank, 2)
    averaged = [torch.full((2, 2), float(rank)), None, torch.full((3,), 4.0 * rank)]
    ranks.average(averaged)
    torch.manual_seed(3)
    with ranks.drawing():
        dropped = torch.nn.functional.dropout(torch.ones(4, 6), 0.5, True)
    given = torch.full((2,), float(rank))
    ranks.agree([given])
    torch.save([found, averaged, dropped, given], '%s/%d.pt' % (folder, rank))
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """What two ranks found."""
    folder = tmp_path_factory.mktemp('ranks')
    processes.start_processes(_rank, (str(folder),), nprocs=2, start_method='spawn')
    return [torch.load(folder / ('%d.pt' % rank), weights_only=True) for rank in (0, 1)]


def test_two_ranks_normalise_as_one_with_the_joint_batch(both):
    y, by_x, by_gain, by_shift = _run(BatchNorms(), slice(0, 8))
    (first, *_), (second, *_) = both
    assert torch.allclose(torch.cat([first[0], second[0]]), y, atol=1e-4)
    assert torch.allclose(torch.cat([first[1], second[1]]), by_x, atol=1e-4)
    assert torch.allclose(first[2] + second[2], by_gain, atol=1e-4)
    assert torch.allclose(first[3] + second[3], by_shift, atol=1e-4)


def test_gradients_are_averaged_and_missing_ones_stay_missing(both):
    for _, averaged, _, _ in both:
        assert torch.equal(averaged[0], torch.full((2, 2), 0.5))
        assert averaged[1] is None
        assert torch.equal(averaged[2], torch.full((3,), 2.0))


def test_ranks_drop_what_one_rank_would_drop_of_the_joint_batch(both):
    torch.manual_seed(3)
    whole = torch.nn.functional.dropout(torch.ones(8, 6), 0.5, True)
    assert torch.equal(torch.cat([both[0][2], both[1][2]]), whole)


def test_every_rank_gets_the_first_ones_values(both):
    assert all(torch.equal(rank[3], torch.zeros(2)) for rank in both)


def test_two_gloo_ranks_train_as_one_with_the_doubled_batch():
    found = ranks_agree()
    assert found['max_relative_diff'] <= 1e-4, found
    assert found['steps'] == 20
    assert found['tensors_trained'] > 40
