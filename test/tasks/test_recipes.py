# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='training needs the extra train')
pytest.importorskip('onnx', reason='training needs the extra train')

from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe  # noqa: E402
from crowdhmt_ros.errors import ConfigError  # noqa: E402
from crowdhmt_ros.tasks.recipes import named_recipe, with_epochs, with_phases  # noqa: E402

RECIPE = Recipe((PhaseRecipe('backbone', 4, 0.1), PhaseRecipe('joint', 2, 0.1)))


def test_epochs_scale_every_phase():
    assert [p.epochs for p in with_epochs(RECIPE, 2.0).phases] == [8, 4]
    assert [p.epochs for p in with_epochs(RECIPE, 0.1).phases] == [1, 1]


def test_phases_are_chosen_by_name():
    assert [p.phase for p in with_phases(RECIPE, ['joint']).phases] == ['joint']
    with pytest.raises(ConfigError, match='no phase melting; the recipe has backbone, joint'):
        with_phases(RECIPE, ['melting'])


def test_a_recipe_is_found_by_name_or_path(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('phases: [{phase: backbone, epochs: 3, learning_rate: 0.1}]\n')
    assert named_recipe(path).epochs == 3
    assert named_recipe('campus7').phases


def test_an_unknown_recipe_names_those_that_there_are():
    with pytest.raises(ConfigError, match="no recipe is called 'melting': there are .*campus7"):
        named_recipe('melting')
