# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A task's data, ready for the network: what trains, what calibrates, what tests (P IV-A).

The part that is held back is cut from the training part, never from the test part; where the data
has folds or subjects, the test part is whole ones of them.
"""
from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from numpy.typing import NDArray

from crowdhmt_ros.datasets import InputKind, LabelledSet, LogMel, hold_out, open_dataset
from crowdhmt_ros.datasets.opening import recognise
from crowdhmt_ros.elastic.teaching.batches import Batches
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.tasks.drawing import VariedBatches, ready, settled
from crowdhmt_ros.tasks.spectrograms import kept_spectrograms
from crowdhmt_ros.tasks.task import DataPlan, InputScaling, Task
from crowdhmt_ros.tasks.variation import VARIATIONS

LIMIT_SEED = 20
"""Draws the inputs of a limited task; not the training's, whose seeds are compared."""
MEMORY_LIMIT_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class Labelled:
    """
    Inputs with their classes.

    :param inputs: float32 (n, ...), as the network takes them
    :param labels: int64 (n,)
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Material:
    """
    What a task learns from and is judged by.

    :param train: learns
    :param held_back: calibrates (thresholds, choices), of the training part; may be empty
    :param test: judges, and nothing else
    :param classes: names, in the order of the labels
    :param scaling: of inputs, settled; a robot needs it
    :param described: the data set, in a line
    """

    train: Batches
    held_back: Labelled
    test: Labelled
    classes: Tuple[str, ...]
    scaling: InputScaling
    described: str


def open_material(task: Task, data_dir: Path, *, held_out: Sequence[str] = (),
                  limit: Optional[int] = None, seed: int = 0,
                  cache_dir: Optional[Path] = None) -> Material:
    """
    Open a task's data.

    :param data_dir: folder with the task's files, or the one file or folder that is the data
    :param held_out: folds or subjects of the test part; by default the last fifth of them
    :param limit: inputs to learn from, None for the task's own limit, 0 for all
    :param seed: of what is held back
    :param cache_dir: where spectrograms are kept, None to compute them anew
    :raises DataError: files are missing or damaged, or do not fit the task
    :raises ConfigError: the task's options do not fit its data
    """
    plan = task.data if limit is None else replace(task.data, limit=limit)
    train, test = (open_part(plan, data_dir, part, held_out) for part in ('train', 'test'))
    _check(task, train)
    if test.classes != train.classes:
        raise DataError('%s: the test part has other classes than the training part' % data_dir)
    described = '%s; %s' % (train.describe(), test.describe())
    rest, held = _held_back(_limited(train, plan.limit), plan, seed)
    parts = [_values(part, cache_dir) for part in (rest, held, test)]
    scaling = settled(task.normalisation, parts[0], rest.kind)
    batches = VariedBatches(parts[0], rest.labels, scaling, VARIATIONS[task.variation])
    held_back, judging = (Labelled(ready(v, scaling), torch.from_numpy(s.labels.copy()))
                          for v, s in zip(parts[1:], (held, test)))
    return Material(batches, held_back, judging, tuple(train.classes), scaling, described)


def folds_of(task: Task, data_dir: Path) -> Tuple[Tuple[str, ...], ...]:
    """
    Return the folds of a cross-validation, each the names of its folds or subjects.

    :raises DataError: the data has none
    """
    whole = open_part(task.data, data_dir, 'all', ())
    if whole.groups is None:
        raise DataError('%s has neither folds nor subjects; leave the fold out' % data_dir)
    present = [whole.group_names[c] for c in np.unique(whole.groups)]
    count = task.data.folds or len(present)
    if count > len(present):
        raise DataError('%s has %d groups, the task asks for %d folds; make them fewer'
                        % (data_dir, len(present), count))
    return tuple(tuple(present[k::count]) for k in range(count))


def open_part(plan: DataPlan, data_dir: Path, part: str, held_out: Sequence[str]) -> LabelledSet:
    """
    Open one part of the data; its inputs are read when they are asked for.

    :param part: 'train', 'test' or 'all'
    :raises DataError: a file is missing or damaged, or there are several
    :raises ConfigError: an option does not fit
    """
    options: Dict[str, Any] = dict(plan.options)
    size = options.pop('size', None)
    spectrogram = options.pop('spectrogram', None)
    try:
        return open_dataset(
            _found(data_dir, plan.test if part == 'test' else plan.train), plan.layout,
            split=part, held_out=held_out, size=None if size is None else (size, size),
            spectrogram=None if spectrogram is None else LogMel(**spectrogram), **options)
    except TypeError as error:
        raise ConfigError('data.options do not fit: %s' % error) from error


def _found(data_dir: Path, pattern: str) -> Path:
    """Return the only file or folder that fits, or the data folder where it is the data."""
    if not data_dir.exists():
        raise DataError('%s does not exist; give the folder with the data' % data_dir)
    if not pattern or data_dir.is_file():
        return data_dir
    fitting = sorted(p for p in data_dir.iterdir() if fnmatch.fnmatch(p.name, pattern))
    if len(fitting) > 1:
        raise DataError('%s has %s, the task takes one %s; leave one there, or name one in the '
                        "task's file" % (data_dir, ', '.join(p.name for p in fitting), pattern))
    if fitting:
        return fitting[0]
    try:
        recognise(data_dir)
    except DataError as error:
        raise DataError('%s has no %s and is no data set itself; give the folder with it'
                        % (data_dir, pattern)) from error
    return data_dir


def _check(task: Task, data: LabelledSet) -> None:
    """Refuse data that is not what the task's network and variation take."""
    if len(data.classes) != task.backbone.classes:
        raise DataError('task %s is for %d classes, the data has %d; change classes in its file, '
                        'or give other data' % (task.name, task.backbone.classes,
                                                len(data.classes)))
    variation = VARIATIONS[task.variation]
    if variation.kind not in ('', data.kind.value):
        raise ConfigError('task %s: variation %s is for inputs of kind %s, the data has kind %s'
                          % (task.name, task.variation, variation.kind, data.kind.value))
    wanted = tuple(task.backbone.example().shape[1:])
    height, width = data.shape[0], data.shape[-1]
    given = {InputKind.IMAGE: (3, *data.shape[:2]), InputKind.WINDOW: (width, height)}.get(
        data.kind, tuple(data.shape))
    if given != wanted:
        raise ConfigError('task %s: the data has inputs of %s, %s takes %s; change '
                          'backbone.options or data.options' % (
                              task.name, 'x'.join(map(str, given)), task.backbone.name,
                              'x'.join(map(str, wanted))))
    count = len(task.normalisation.mean)
    if task.normalisation.settled and count != wanted[0]:
        raise ConfigError('task %s: normalisation has %d means, inputs have %d channels'
                          % (task.name, count, wanted[0]))


def _limited(data: LabelledSet, limit: int) -> LabelledSet:
    """Return about so many inputs, of each class alike."""
    if not 0 < limit < len(data):
        return data
    rng = np.random.default_rng(LIMIT_SEED)
    classes = np.unique(data.labels)
    members = [rng.permutation(np.flatnonzero(data.labels == c)) for c in classes]
    chosen: List[int] = []
    # Round after round one of each class, so that any limit is met and small classes end early.
    for turn in range(max(map(len, members))):
        chosen += [int(m[turn]) for m in members if turn < len(m)]
        if len(chosen) >= limit:
            break
    return data.subset(sorted(chosen[:limit]))


def _held_back(data: LabelledSet, plan: DataPlan, seed: int) -> Tuple[LabelledSet, LabelledSet]:
    if not plan.held_back_ratio:
        return data, data.subset([], 'held back')
    grouped = plan.held_back_by == 'groups'
    if grouped and data.groups is None:
        raise ConfigError('data.held_back_by is groups, but the data has none; give items')
    by = data if grouped else replace(data, groups=None)
    rest, held = hold_out(by, plan.held_back_ratio, seed=seed)
    return rest, replace(held, split='held back')


def _values(data: LabelledSet, cache_dir: Optional[Path]) -> NDArray[np.generic]:
    """Read all inputs of a part: uint8 (n, h, w, 3), or float32 (n, channels, ...)."""
    size_bytes = len(data) * int(np.prod(data.shape)) * (
        1 if data.kind is InputKind.IMAGE else 4)
    if size_bytes > MEMORY_LIMIT_BYTES:
        raise DataError('%d inputs take %d MiB of memory, %d are allowed; set data.limit, or a '
                        'smaller size in data.options' % (
                            len(data), size_bytes >> 20, MEMORY_LIMIT_BYTES >> 20))
    if data.kind is InputKind.SPECTROGRAM:
        return kept_spectrograms(data, cache_dir)
    inputs, _ = data.take(range(len(data)))
    if data.kind is InputKind.WINDOW:
        return np.ascontiguousarray(np.asarray(inputs, np.float32).transpose(0, 2, 1))
    return np.asarray(inputs)
