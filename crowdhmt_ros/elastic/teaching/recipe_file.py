# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes as YAML files: the fields of `Recipe` and, under `phases`, of `PhaseRecipe`."""
from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple, Type, Union

import yaml

from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe, problems_of
from crowdhmt_ros.errors import ConfigError, all_problems

_WORDS = {'int': 'a whole number', 'float': 'a number', 'str': 'a word',
          'bool': 'true or false',
          'Tuple[int, ...]': 'a list of whole numbers',
          'Tuple[str, ...]': 'a list of words',
          'Tuple[Tuple[float, int], ...]': 'a list of pairs [share of the epochs, edge]'}


def read_recipe(path: Union[str, Path]) -> Recipe:
    """
    Read a recipe.

    :raises ConfigError: everything that is wrong with the file, in one line
    """
    place = Path(path)
    try:
        data = yaml.safe_load(place.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError('recipe %s cannot be read: %s' % (place, error)) from error
    except yaml.YAMLError as error:
        raise ConfigError('recipe %s is not YAML: %s' % (
            place, ' '.join(str(error).split()))) from error
    return recipe_of(data, 'recipe %s' % place)


def recipe_of(data: Any, name: str = 'recipe') -> Recipe:
    """
    Make a recipe of plain values, as YAML gives them.

    :param data: mapping of the fields
    :param name: of the recipe in messages
    :raises ConfigError: everything that is wrong with it, in one line
    """
    if not isinstance(data, dict):
        raise ConfigError('%s must be a mapping of names to values' % name)
    found: List[str] = []
    listed = data.get('phases', [])
    if not isinstance(listed, list) or not all(isinstance(p, dict) for p in listed):
        found.append('phases must be a list of mappings')
        listed = []
    entries = [_values(PhaseRecipe, entry, 'phase %d: ' % number, found)
               for number, entry in enumerate(listed, 1)]
    values = _values(Recipe, {k: v for k, v in data.items() if k != 'phases'}, '', found)
    if found:
        raise ConfigError('%s: %s' % (name, all_problems(found)))
    recipe = Recipe(tuple(PhaseRecipe(**entry) for entry in entries), **values)
    found = problems_of(recipe)
    if found:
        raise ConfigError('%s: %s' % (name, all_problems(found)))
    return recipe


def _values(kind: Union[Type[Recipe], Type[PhaseRecipe]], entry: Mapping[Any, Any], where: str,
            found: List[str]) -> Dict[str, Any]:
    """Convert what an entry gives; enter into `found` what is wrong."""
    known = {f.name: f for f in fields(kind) if f.name != 'phases'}
    for name in entry:
        if name not in known:
            found.append('%s%s is not known; there are %s' % (where, name, ', '.join(known)))
    values = {}
    for name, field in known.items():
        if name not in entry:
            if field.default is MISSING:
                found.append('%s%s is missing' % (where, name))
            continue
        try:
            values[name] = _converted(str(field.type), entry[name])
        except (TypeError, ValueError):
            found.append('%s%s is %r; give %s' % (
                where, name, entry[name], _WORDS[str(field.type)]))
    return values


def _converted(kind: str, value: Any) -> Any:
    """
    Convert a value of a YAML file.

    :raises TypeError: it is of another type
    :raises ValueError: likewise
    """
    if (kind == 'str' and isinstance(value, str)) or (kind == 'bool' and isinstance(value, bool)):
        return value
    if kind == 'int' and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == 'float' and not isinstance(value, (bool, list, dict)) and value is not None:
        number = float(value)  # YAML reads 1e-3 as a text
        if number != number or abs(number) == float('inf'):
            raise ValueError
        return number
    if kind in ('Tuple[int, ...]', 'Tuple[str, ...]') and isinstance(value, list):
        return tuple(_converted(kind[6:9], v) for v in value)
    if kind == 'Tuple[Tuple[float, int], ...]' and isinstance(value, list):
        return tuple(_pair(v) for v in value)
    raise TypeError


def _pair(value: Any) -> Tuple[float, int]:
    start, edge = value
    return _converted('float', start), _converted('int', edge)
