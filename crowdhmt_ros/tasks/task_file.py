# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tasks as YAML files, in config/tasks or anywhere.

A task may name another one as its `base`; what it says itself goes before, under `data` field by
field.
"""
from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import yaml

from crowdhmt_ros.datasets import LAYOUTS
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.errors import ConfigError, all_problems
from crowdhmt_ros.tasks.recipes import place_of
from crowdhmt_ros.tasks.task import ACCURACIES, HELD_BACK_BY, DataPlan, InputScaling, Task
from crowdhmt_ros.tasks.variation import VARIATIONS

MAX_BASES = 4
DATA_OPTIONS = ('size', 'coarse', 'esc10', 'window_samples', 'spectrogram')
_TASK_FIELDS = ('base', 'data', 'backbone', 'exits', 'recipe', 'variation', 'normalisation',
                'accuracy')
Check = Tuple[Callable[[Any], bool], str]
"""Whether a value will do, and what to give."""
_TEXT: Check = (lambda v: isinstance(v, str), 'a text')
_COUNT: Check = (lambda v: _is_integer(v) and v >= 0, 'a whole number from 0')
_DATA_CHECKS: Mapping[str, Check] = {
    'train': _TEXT, 'test': _TEXT,
    'layout': (lambda v: v == 'auto' or v in LAYOUTS, 'auto or one of ' + ', '.join(LAYOUTS)),
    'options': (lambda v: isinstance(v, dict) and set(v) <= set(DATA_OPTIONS),
                'a mapping of ' + ', '.join(DATA_OPTIONS)),
    'limit': _COUNT, 'folds': _COUNT,
    'held_back_ratio': (lambda v: _is_number(v) and 0 <= v < 1, 'a number from 0 to below 1'),
    'held_back_by': (lambda v: v in HELD_BACK_BY, 'one of ' + ', '.join(HELD_BACK_BY)),
}


def read_task(name_or_path: Union[str, Path]) -> Task:
    """
    Read a task.

    :param name_or_path: of a file in config/tasks without its ending, or a path to a YAML file
    :raises ConfigError: everything that is wrong with it, in one line
    """
    place = place_of(str(name_or_path), 'tasks', 'task')
    said = _with_base(place, MAX_BASES)
    found: List[str] = []
    task = _task_of(place.stem, said, found)
    if task is None:
        raise ConfigError('task %s: %s' % (place, all_problems(found)))
    return task


def _with_base(path: Path, bases_left: int) -> Dict[str, Any]:
    """Return what a file says, with what its bases say."""
    said = _parsed(path)
    base = said.pop('base', None)
    if base is None:
        return said
    if not isinstance(base, str) or not bases_left:
        raise ConfigError('task %s: base is %r; name another task, at most %d deep' % (
            path, base, MAX_BASES))
    beside = path.parent / (base + '.yaml')
    under = _with_base(beside if beside.is_file() else place_of(base, 'tasks', 'task'),
                       bases_left - 1)
    for key, value in said.items():
        merges = key == 'data' and isinstance(value, dict) and isinstance(under.get(key), dict)
        under[key] = {**under[key], **value} if merges else value
    return under


def _parsed(path: Path) -> Dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError('task %s cannot be read: %s' % (
            path, getattr(error, 'strerror', None) or error)) from error
    except yaml.YAMLError as error:
        raise ConfigError('task %s is not YAML: %s' % (
            path, ' '.join(str(error).split()))) from error
    if not isinstance(data, dict):
        raise ConfigError('task %s must be a mapping of %s' % (path, ', '.join(_TASK_FIELDS)))
    return data


def _task_of(name: str, said: Mapping[Any, Any], found: List[str]) -> Optional[Task]:
    """Make a task of plain values; enter into `found` what is wrong, then there is none."""
    found += ['%s is not known; there are %s' % (key, ', '.join(_TASK_FIELDS))
              for key in said if key not in _TASK_FIELDS]
    for key in ('data', 'backbone', 'exits', 'recipe'):
        if key not in said:
            found.append('%s is missing' % key)
    data = _data(said.get('data', {}), found)
    backbone = _backbone(said.get('backbone', {}), found)
    exits = said.get('exits', [])
    if not isinstance(exits, list) or not all(_is_integer(e) and e > 0 for e in exits):
        found.append('exits is %r; give a list of numbers of stages' % (exits,))
    recipe = said.get('recipe', '')
    _want(recipe, 'recipe', (lambda v: isinstance(v, str), 'the name of a recipe'), found)
    variation = said.get('variation', 'none')
    _want(variation, 'variation', (lambda v: isinstance(v, str) and v in VARIATIONS,
                                   'one of ' + ', '.join(VARIATIONS)), found)
    accuracy = said.get('accuracy', ACCURACIES[0])
    _want(accuracy, 'accuracy', (lambda v: v in ACCURACIES, ' or '.join(ACCURACIES)), found)
    scaling = _scaling(said.get('normalisation', 'measured'), found)
    if found or data is None or backbone is None or scaling is None:
        return None
    return Task(name, data, backbone, tuple(exits), recipe, variation, scaling, accuracy)


def _want(value: Any, where: str, check: Check, found: List[str]) -> None:
    if not check[0](value):
        found.append('%s is %r; give %s' % (where, value, check[1]))


def _data(said: Any, found: List[str]) -> Optional[DataPlan]:
    known = tuple(f.name for f in fields(DataPlan))
    if not isinstance(said, dict):
        found.append('data must be a mapping of ' + ', '.join(known))
        return None
    before = len(found)
    found += ['data.%s is not known; there are %s' % (key, ', '.join(known))
              for key in said if key not in known]
    if 'train' not in said:
        found.append("data.train is missing; give a file below the data folder, or ''")
    for key, check in _DATA_CHECKS.items():
        if key in said:
            _want(said[key], 'data.' + key, check, found)
    if len(found) > before:
        return None
    return DataPlan(**{'test': said['train'], **said})


def _backbone(said: Any, found: List[str]) -> Optional[Reference]:
    if not isinstance(said, dict) or set(said) - {'name', 'classes', 'options'}:
        found.append('backbone must be a mapping of name, classes, options')
        return None
    before = len(found)
    _want(said.get('name'), 'backbone.name', (
        lambda v: isinstance(v, str) and v in BACKBONES, 'one of ' + ', '.join(BACKBONES)), found)
    _want(said.get('classes'), 'backbone.classes', (
        lambda v: _is_integer(v) and v > 1, 'a whole number from 2'), found)
    _want(said.get('options', {}), 'backbone.options', (
        lambda v: isinstance(v, dict), "a mapping of the builder's options"), found)
    if len(found) > before:
        return None
    backbone = Reference(said['name'], said['classes'], said.get('options', {}))
    try:
        backbone.example()
    except ConfigError as error:
        found.append('backbone.options: %s' % error)
        return None
    return backbone


def _scaling(said: Any, found: List[str]) -> Optional[InputScaling]:
    if said == 'measured':
        return InputScaling()
    if not isinstance(said, dict) or set(said) != {'mean', 'std'}:
        found.append("normalisation is %r; give 'measured', or a mapping of mean and std"
                     % (said,))
        return None
    mean, std = said['mean'], said['std']
    if not (_numbers(mean) and _numbers(std) and 0 < len(mean) == len(std)
            and all(s > 0 for s in std)):
        found.append('normalisation takes as many numbers of mean as of std, one per channel, '
                     'std above 0')
        return None
    return InputScaling(tuple(map(float, mean)), tuple(map(float, std)))


def _numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(
        map(_is_number, value))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and abs(value) < float('inf'))
