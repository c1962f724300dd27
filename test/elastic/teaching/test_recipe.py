# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe, check
from crowdhmt_ros.elastic.teaching.recipe_file import read_recipe, recipe_of
from crowdhmt_ros.errors import ConfigError

GOOD = """
batch_size: 32
weight_decay: 1e-4
phases:
  - {phase: backbone, epochs: 3, learning_rate: 0.1, edges: [[0, 24], [0.5, 32]]}
  - {phase: joint, epochs: 2, learning_rate: 0.02, etas: [3, 6], protection: none}
"""


def _file(tmp_path, text):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text, encoding='utf-8')
    return path


def test_a_file_gives_the_recipe_that_it_describes(tmp_path):
    assert read_recipe(_file(tmp_path, GOOD)) == Recipe(
        (PhaseRecipe('backbone', 3, 0.1, ((0.0, 24), (0.5, 32))),
         PhaseRecipe('joint', 2, 0.02, etas=(3, 6), protection='none')),
        batch_size=32, weight_decay=1e-4)


def test_everything_wrong_is_said_in_one_line(tmp_path):
    text = """
speed: 3
batch_size: many
phases:
  - {phase: backbone, epochs: 1.5, learning_rate: 0.1, edges: [24]}
  - {epochs: 2, learning_rate: 0.1}
"""
    with pytest.raises(ConfigError) as caught:
        read_recipe(_file(tmp_path, text))
    said = str(caught.value)
    assert '\n' not in said
    for part in ('speed is not known', "batch_size is 'many'; give a whole number",
                 'phase 1: epochs is 1.5', 'phase 1: edges is [24]; give a list of pairs',
                 'phase 2: phase is missing'):
        assert part in said


def test_everything_out_of_range_is_said_in_one_line():
    recipe = Recipe((PhaseRecipe('warming', 0, -1.0, ((0.5, 0),), etas=(7,), hard_share=2.0),),
                    batch_size=1, optimizer='luck')
    with pytest.raises(ConfigError) as caught:
        check(recipe)
    for part in ("phase is 'warming'; choose one of backbone", 'epochs is 0', 'above 0',
                 'edges start at 0.5', 'edge below 1 pixel', 'etas name 7', 'hard_share is 2.0',
                 'batch_size is 1; give a number at least 2', "optimizer is 'luck'"):
        assert part in str(caught.value)


@pytest.mark.parametrize(('options', 'said'), [
    ({'every_step': ('gost',)}, 'every_step name gost; there are asymmetric'),
    ({'every_step': ('ghost',), 'etas': (1, 2)}, 'every_step names ghost, which the phase does'),
    ({'every_step': ('ghost',), 'operators': ('svd',)}, 'every_step names ghost')])
def test_members_of_every_step_are_of_operators_that_the_phase_trains(options, said):
    with pytest.raises(ConfigError, match=said):
        check(Recipe((PhaseRecipe('joint', 1, 0.1, **options),)))
    check(Recipe((PhaseRecipe('joint', 1, 0.1, every_step=('ghost',)),)))


@pytest.mark.parametrize(('text', 'said'), [
    ('[1, 2]', 'must be a mapping'), ('{phases: 3}', 'must be a list of mappings'),
    ('{', 'is not YAML'), ('batch_size: 8', 'phases are missing'),
    ('{phases: [{phase: joint, epochs: 1, learning_rate: .nan}]}', 'learning_rate is nan'),
])
def test_a_file_that_is_no_recipe_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read_recipe(_file(tmp_path, text))


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match='cannot be read'):
        read_recipe(tmp_path / 'none.yaml')


def test_the_learning_rate_rises_then_falls_to_nothing():
    plan = PhaseRecipe('backbone', 4, 0.2, warm_up_ratio=0.1)
    rates = [plan.learning_rate_at(k / 100) for k in range(101)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == 10
    assert rates[0] < 0.02
    assert rates[-1] == pytest.approx(0.0)


def test_images_grow_over_the_epochs():
    plan = recipe_of({'phases': [{'phase': 'joint', 'epochs': 4, 'learning_rate': 1,
                                  'edges': [[0, 8], [0.5, 16]]}]}).phases[0]
    assert [plan.edge_at(e) for e in range(4)] == [8, 8, 16, 16]
    assert PhaseRecipe('joint', 4, 1.0).edge_at(0) == 0
