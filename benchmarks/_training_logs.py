# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Trainings that figures rest on: benchmarks/runs/NAME/log.json, and their families by sha256.

`crowdhmt train TASK` writes a log beside the family; the log is committed, the family is not. It
is looked for, by its sha256, in the folder that --checkpoints names or in the cache.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.elastic.teaching.recipe_file import recipe_of
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task
from crowdhmt_ros.types import Variant, variant_from_json

RUNS = Path(__file__).resolve().parent / 'runs'
LOG, FAMILY_PATTERN = 'log.json', '**/*.pt'
DIGITS = 9
"""Of a recipe's numbers, that tell it from another one; a sum may be rounded in another way."""
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, ConfigError)


@dataclass(frozen=True)
class Run:
    """
    A training, as its log tells it.

    :param name: of its folder
    :param task: that was learnt
    :param seed: of every random number
    :param held_out: folds or subjects of the test part
    :param described: the data, in a line
    :param variants: name -> variant, calibrated in the family
    :param accuracy: name -> ratio of right answers on the test part, as logged
    :param cpu_s: seconds of the processor, calibration included
    :param sha256: of the family's file
    :param command: that makes the family again
    """

    name: str
    task: Task
    seed: int
    held_out: Tuple[str, ...]
    described: str
    variants: Mapping[str, Variant]
    accuracy: Mapping[str, float]
    cpu_s: float
    sha256: str
    command: str


def checkpoints_folder(given: Optional[Path]) -> Path:
    """Return the folder in which families are looked for."""
    return given or default_cache_dir() / 'training'


def read_runs(folder: Path = RUNS) -> Tuple[Run, ...]:
    """
    Read all logs of trained families below a folder, in the order of their names.

    :raises DataError: a log is damaged
    """
    found = []
    for path in sorted(folder.glob('*/' + LOG)):
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise DataError('%s cannot be read (%s)' % (path, error)) from error
        if isinstance(content, dict) and 'family_sha256' in content:
            found.append(_run(path, content))
    return tuple(found)


def _run(path: Path, content: Mapping[str, Any]) -> Run:
    try:
        return Run(
            path.parent.name, task_of(content['definition']), int(content['seed']),
            tuple(map(str, content.get('held_out', ()))), str(content['described']),
            {str(n): variant_from_json(v, n) for n, v in content['variants'].items()},
            {str(n): float(a) for n, a in content['accuracy'].items()},
            float(content['cpu_s']), str(content['family_sha256']), str(content['command']))
    except DAMAGED as error:
        raise DataError('%s is no log of a training, or is damaged (%s: %s)' % (
            path, type(error).__name__, error)) from error


def task_of(definition: Mapping[str, Any]) -> Task:
    """
    Return a task as a log tells it: the task's file may have changed since.

    :param definition: what `dataclasses.asdict` made of it
    """
    scaling = definition['normalisation']
    backbone = definition['backbone']
    return Task(
        definition['name'], DataPlan(**definition['data']),
        Reference(backbone['name'], int(backbone['classes']), dict(backbone['options'])),
        tuple(definition['exits']), definition['recipe'], definition['variation'],
        InputScaling(tuple(scaling['mean']), tuple(scaling['std']), float(scaling['scale'])),
        definition['accuracy'])


def families(runs: Iterable[Run], folder: Path) -> Dict[str, Path]:
    """
    Find the families of runs.

    :param folder: with the families, at any depth
    :returns: name of the run -> its family's file; runs whose family is not there are left out
    """
    wanted = {run.sha256: run.name for run in runs}
    found: Dict[str, Path] = {}
    for path in sorted(folder.glob(FAMILY_PATTERN)):
        name = wanted.get(sha256_of(path))
        if name is not None:
            found.setdefault(name, path)
    return found


def missing(runs: Sequence[Run], found: Mapping[str, Path], folder: Path) -> List[str]:
    """Say for each run whose family is not there how to make it."""
    return ['%s: no file below %s has sha256 %s; make it with: %s' % (
        run.name, folder, run.sha256[:16], run.command) for run in runs if run.name not in found]


def difference(log: Mapping[str, Any], recipe: Recipe, variants: Mapping[str, Variant]) -> str:
    """
    Tell in what a logged training differs from its description.

    :param recipe: that it follows now
    :param variants: name -> variant that it trains and measures now; none where none are listed
    :returns: '' where they are the same
    """
    try:
        followed = recipe_of(log['recipe'])
        measured = {str(n): variant_from_json(v, n) for n, v in log['variants'].items()}
    except DAMAGED as error:
        return 'its recipe or its variants cannot be read (%s)' % error
    if followed.epochs != recipe.epochs:
        return 'it had %d epochs, its recipe has %d now' % (followed.epochs, recipe.epochs)
    old, new = _plain(followed), _plain(recipe)
    other = [f.name for f in fields(recipe) if old[f.name] != new[f.name]]
    if other:
        return 'its recipe has other %s now' % ', '.join(other)
    changed = [n for n in {**variants, **measured} if variants.get(n) != measured.get(n)]
    return 'other variants are listed now: %s' % ', '.join(changed) if variants and changed else ''


def _plain(recipe: Recipe) -> Dict[str, Any]:
    """Return a recipe as its file would have it, numbers rounded."""
    content: Dict[str, Any] = json.loads(
        json.dumps(asdict(recipe)), parse_float=lambda text: float('%.*g' % (DIGITS, float(text))))
    return content


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
