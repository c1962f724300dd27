# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.datasets import InputKind  # noqa: E402
from crowdhmt_ros.elastic.teaching.trainer import Trainer  # noqa: E402
from crowdhmt_ros.errors import ConfigError  # noqa: E402
from crowdhmt_ros.share import config_folders  # noqa: E402
from crowdhmt_ros.tasks.drawing import VariedBatches, settled  # noqa: E402
from crowdhmt_ros.tasks.recipes import named_recipe  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from crowdhmt_ros.tasks.training import untrained  # noqa: E402
from crowdhmt_ros.tasks.variation import VARIATIONS  # noqa: E402
from test.tasks.small import narrow  # noqa: E402

SHIPPED = sorted(path.stem for path in config_folders('tasks')[0].glob('*.yaml'))
WHOLE = """
data: {train: a.npz, test: b.npz, limit: 20}
backbone: {name: motion_cnn, classes: 3, options: {width: 8}}
exits: [1]
recipe: own
"""


def _batches(task):
    """Draw four inputs of the task's kind, one batch."""
    rng, shape = np.random.default_rng(0), task.backbone.example().shape[1:]
    kind = {2: InputKind.WINDOW}.get(len(shape), InputKind.IMAGE if shape[0] == 3
                                     else InputKind.SPECTROGRAM)
    values = (rng.integers(0, 256, (4, *shape[1:], 3)).astype(np.uint8)
              if kind is InputKind.IMAGE else rng.normal(size=(4, *shape)).astype(np.float32))
    return VariedBatches(values, np.arange(4), settled(task.normalisation, values, kind),
                         VARIATIONS[task.variation])


def _task(folder, text, name='own.yaml'):
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return path


@pytest.mark.parametrize('name', SHIPPED)
def test_a_task_of_the_package_names_a_recipe_and_exits_that_its_network_has(name):
    task = read_task(name)
    net, recipe = untrained(narrow(task), 0), named_recipe(task.recipe)
    assert net.structure.exits[:-1] == task.exits
    edge = recipe.phases[-1].edge_at(recipe.phases[-1].epochs - 1)
    assert edge in (0, task.backbone.example().shape[-1])
    batches = _batches(task)
    Trainer(net, replace(recipe, batch_size=len(batches.labels)), batches)  # tries every edge
    short = replace(recipe, batch_size=len(batches.labels), transformation_batches=1,
                    phases=tuple(replace(p, epochs=1) for p in recipe.phases))
    said = []
    Trainer(net, short, batches).run(said.append)
    assert [p.phase for p in said] == [p.phase for p in recipe.phases]
    assert all(math.isfinite(loss) for p in said for loss in p.losses.values())


def test_a_recipe_whose_images_vanish_in_the_network_is_refused_before_training():
    task = narrow(read_task('cifar100_vgg16'))
    with pytest.raises(ConfigError, match='phase backbone: inputs of 3x24x24 do not go through '
                                          'the network .*change edges') as caught:
        Trainer(untrained(task, 0), replace(named_recipe('cifar100'), batch_size=4),
                _batches(task))
    assert '\n' not in str(caught.value)


def test_what_a_file_leaves_out_has_a_default(tmp_path):
    task = read_task(_task(tmp_path, WHOLE))
    assert (task.name, task.variation, task.balanced) == ('own', 'none', False)
    assert (task.data.limit, task.data.held_back_ratio) == (20, 0.05)
    assert not task.normalisation.settled


def test_a_task_says_what_differs_from_its_base(tmp_path):
    _task(tmp_path, WHOLE)
    task = read_task(_task(tmp_path, 'base: own\ndata: {limit: 7}\nexits: [1, 2]\n', 'b.yaml'))
    assert (task.data.train, task.data.limit, task.exits) == ('a.npz', 7, (1, 2))
    assert task.name == 'b'


def test_tasks_that_are_each_others_base_are_refused(tmp_path):
    _task(tmp_path, 'base: b\n', 'a.yaml')
    with pytest.raises(ConfigError, match='base is .*at most'):
        read_task(_task(tmp_path, 'base: a\n', 'b.yaml'))


def test_everything_wrong_with_a_file_is_one_line(tmp_path):
    text = """
    data: {train: 3, limit: -1, layout: scroll, colour: red}
    backbone: {name: resnet19, classes: 1}
    exits: last
    variation: melt
    normalisation: {mean: [0.5], std: [0.0]}
    accuracy: kind
    """
    with pytest.raises(ConfigError) as caught:
        read_task(_task(tmp_path, text))
    told = str(caught.value)
    assert '\n' not in told
    for part in ('data.train is 3', 'data.limit is -1', "data.layout is 'scroll'",
                 'data.colour is not known', "backbone.name is 'resnet19'",
                 'backbone.classes is 1', "exits is 'last'", "variation is 'melt'",
                 'recipe is missing', 'std above 0', "accuracy is 'kind'"):
        assert part in told


def test_options_that_the_backbone_lacks_are_named(tmp_path):
    with pytest.raises(ConfigError, match="motion_cnn has no option 'depth'"):
        read_task(_task(tmp_path, WHOLE.replace('width: 8', 'depth: 8')))


@pytest.mark.parametrize(('text', 'told'), [
    ('[1, 2]', 'must be a mapping'), ('a: [', 'is not YAML')])
def test_a_file_that_is_no_task_is_refused(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told):
        read_task(_task(tmp_path, text))


def test_an_unknown_task_names_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no task is called 'melting': there are .*cifar100"):
        read_task('melting')
    with pytest.raises(ConfigError, match='cannot be read'):
        read_task(tmp_path / 'nowhere.yaml')
