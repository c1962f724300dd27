# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.elastic.operators.channel import channel  # noqa: E402
from crowdhmt_ros.elastic.store import save_family  # noqa: E402
from crowdhmt_ros.elastic.transformation import missing  # noqa: E402
from crowdhmt_ros.errors import ConfigError, DataError  # noqa: E402
from crowdhmt_ros.tasks.material import open_material  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from crowdhmt_ros.tasks.training import (  # noqa: E402
    calibrated,
    shown_variants,
    train_task,
    untrained,
)
from crowdhmt_ros.types import Variant  # noqa: E402
from test.tasks.small import task_file  # noqa: E402

HALF = Variant(((channel(0.5),),) * 3, 1)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp('small')
    task = read_task(task_file(folder))
    return task, open_material(task, folder)


@pytest.fixture(scope='module')
def trained(small):
    return train_task(*small, seed=3, members=[HALF])


class KilledError(Exception):
    """Stands for the end of the process."""


def _weights(net):
    return [net.tensor(name) for name in sorted(net.names())]


def test_the_whole_network_and_the_members_are_calibrated(trained):
    for variant in (trained.net.whole(), HALF):
        assert not missing(trained.net, variant, trained.statistics)


def test_the_log_tells_every_phase_and_is_json(trained):
    log = trained.log
    assert [(p.phase, p.epochs, p.complete) for p in log.phases] == [
        ('backbone', 2, True), ('joint', 1, True)]
    assert len(log.phases[0].losses['backbone']) == 2
    assert {'backbone', 'variants'} == set(log.phases[1].losses)
    assert log.phases[0].conflict_ratio == (None, None)
    assert 0.0 <= log.phases[1].conflict_ratio[0] <= 1.0
    assert log.wall_s > log.calibration_wall_s > 0.0
    written = json.loads(json.dumps(log.to_json()))
    assert (written['task'], written['seed'], written['cpu_s']) == ('small', 3, log.cpu_s)
    assert written['scaling']['mean'] == list(log.scaling.mean)


@pytest.mark.parametrize('steps', [2, 9])
def test_a_killed_training_goes_on_to_the_same_weights(small, trained, tmp_path, steps):
    path, left = tmp_path / 'checkpoint.pt', [steps]

    def die():
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    with pytest.raises(KilledError):
        train_task(*small, seed=3, members=[HALF], checkpoint=path, pause=die)
    again = train_task(*small, seed=3, members=[HALF], checkpoint=path, resume=True)
    assert all(map(torch.equal, _weights(again.net), _weights(trained.net)))
    assert [p.complete for p in again.log.phases] == [True, True]
    assert [p.losses for p in again.log.phases] == [p.losses for p in trained.log.phases]
    assert [p.conflict_ratio for p in again.log.phases] == [
        p.conflict_ratio for p in trained.log.phases]


def test_waiting_does_not_count_as_training(small):
    began = time.monotonic()
    log = train_task(*small, seed=3, pause=lambda: time.sleep(0.05)).log
    steps = 3 * small[1].train.steps(16)
    assert log.wall_s <= time.monotonic() - began - 0.05 * steps


def test_another_recipe_is_not_continued(small, tmp_path):
    task, material = small
    path = tmp_path / 'checkpoint.pt'
    train_task(task, material, seed=3, checkpoint=path)
    with pytest.raises(DataError, match='another seed'):
        train_task(task, material, seed=4, checkpoint=path, resume=True)


def test_training_starts_from_a_familys_tensors(small, trained, tmp_path):
    task, material = small
    path = tmp_path / 'family.pt'
    save_family(trained.net, path, backbone=task.backbone)
    still = replace(trained.log.recipe, phases=(replace(
        trained.log.recipe.phases[1], learning_rate=1e-9),))
    net = train_task(task, material, seed=5, recipe=still, start=path).net
    assert torch.allclose(net.tensor('classifier.weight'),
                          trained.net.tensor('classifier.weight'), atol=1e-6)


def test_the_seed_draws_the_weights(small):
    task, _ = small
    first, same, other = (_weights(untrained(task, seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, same))
    assert not all(map(torch.equal, first, other))


def test_exits_that_the_network_does_not_have_are_refused(small):
    with pytest.raises((ConfigError, Exception), match='exits|stages'):
        untrained(replace(small[0], exits=(7,)), 0)


def test_shown_variants_hold_every_form_and_exit_and_can_be_calibrated(small, trained):
    variants = shown_variants(trained.net)
    assert variants[0] == trained.net.whole()
    assert {c.operator for v in variants for s in v.stages for c in s} >= {
        'channel', 'depth', 'svd'}
    assert {v.exit_index for v in variants} == {0, 1}
    statistics = calibrated(trained.net, small[1].train, variants)
    assert not any(missing(trained.net, v, statistics) for v in variants)
