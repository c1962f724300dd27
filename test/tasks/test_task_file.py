# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.errors import ConfigError  # noqa: E402
from crowdhmt_ros.share import config_folders  # noqa: E402
from crowdhmt_ros.tasks.recipes import named_recipe  # noqa: E402
from crowdhmt_ros.tasks.task_file import read_task  # noqa: E402
from crowdhmt_ros.tasks.training import untrained  # noqa: E402

SHIPPED = sorted(path.stem for path in config_folders('tasks')[0].glob('*.yaml'))
NARROW = {'resnet18': {'width': 8}, 'vgg16': {'width': 8}, 'motion_cnn': {'width': 8},
          'mobilenet_v2': {'width_multiplier': 0.125}, 'spectrogram_cnn': {'width': 8},
          'vision_transformer': {'width': 16, 'heads': 2, 'head_size': 8}}
WHOLE = """
data: {train: a.npz, test: b.npz, limit: 20}
backbone: {name: motion_cnn, classes: 3, options: {width: 8}}
exits: [1]
recipe: own
"""


def _task(folder, text, name='own.yaml'):
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return path


@pytest.mark.parametrize('name', SHIPPED)
def test_a_task_of_the_package_names_a_recipe_and_exits_that_its_network_has(name):
    task = read_task(name)
    options = {**task.backbone.options, **NARROW[task.backbone.name]}
    narrow = replace(task, backbone=replace(task.backbone, options=options))
    assert untrained(narrow, 0).structure.exits[:-1] == task.exits
    recipe = named_recipe(task.recipe)
    edge = recipe.phases[-1].edge_at(recipe.phases[-1].epochs - 1)
    assert edge in (0, task.backbone.example().shape[-1])


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
