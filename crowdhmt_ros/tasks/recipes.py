# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes by name, and what a command changes of them."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Sequence, Union

from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.elastic.teaching.recipe_file import read_recipe
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.share import config_folders


def named_recipe(name_or_path: Union[str, Path]) -> Recipe:
    """
    Read a recipe.

    :param name_or_path: of a file in config/recipes without its ending, or a path to a YAML file
    :raises ConfigError: it is missing or malformed
    """
    return read_recipe(place_of(str(name_or_path), 'recipes', 'recipe'))


def with_epochs(recipe: Recipe, ratio: float) -> Recipe:
    """Scale the epochs of a recipe, at least one of each phase."""
    return replace(recipe, phases=tuple(
        replace(p, epochs=max(1, round(p.epochs * ratio))) for p in recipe.phases))


def with_phases(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """
    Keep some phases of a recipe, in its order.

    :raises ConfigError: the recipe has no such phase
    """
    there = [p.phase for p in recipe.phases]
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise ConfigError('no phase %s; the recipe has %s'
                          % (', '.join(unknown) or 'is named', ', '.join(there)))
    return replace(recipe, phases=tuple(p for p in recipe.phases if p.phase in names))


def place_of(name: str, folder: str, word: str) -> Path:
    """
    Return the file of a name in a folder of the configuration, or the path that the name is.

    :param folder: 'tasks' or 'recipes'
    :param word: for the message
    :raises ConfigError: there is none of this name
    """
    if name.endswith(('.yaml', '.yml')) or '/' in name:
        return Path(name).expanduser()
    folders = config_folders(folder)
    for candidate in (place / (name + '.yaml') for place in folders):
        if candidate.is_file():
            return candidate
    there = sorted({path.stem for place in folders for path in place.glob('*.yaml')})
    raise ConfigError('no %s is called %r: there are %s; or give the path of a YAML file'
                      % (word, name, ', '.join(there) or 'none'))
