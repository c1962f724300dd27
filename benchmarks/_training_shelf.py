# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Trainings that figures rest on, as they are planned: each one named, resumable, with its log.

A plan leaves `benchmarks/runs/NAME/log.json` (recipe, seed, seconds, accuracies, sha256 of its
file; `_training_logs` reads those of families) and, in the checkpoints' folder, `NAME/family.pt`.
Several processes may train the same list: each takes the next one that nobody has. What is killed
goes on where its last checkpoint was.
"""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.store import load_tensors, save_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.machine_lock import wait_while_held
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.alone import opened_alone, train_alone
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.material import Material, folds_of, open_material
from crowdhmt_ros.tasks.members import fitted, read_members
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.tasks.training import Trained, calibrated, train_task, untrained
from crowdhmt_ros.types import Variant, variant_to_json

LOGS = Path(__file__).resolve().parent / 'runs'
LISTED = Path(__file__).resolve().parent / 'variants.yaml'
FAMILY, CHECKPOINT, LOCK, LOG = 'family.pt', 'checkpoint.pt', 'lock', 'log.json'
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """
    One training.

    :param name: of the folders of its log and its file
    :param task: name in config/tasks, or path of a YAML file
    :param seed: of every random number
    :param alone: name of the listed variant that is trained alone; '' for the family
    :param listed: whether the family trains and measures the listed variants
    :param fold: that is tested on, from 1; 0 for the task's own test part
    """

    name: str
    task: str
    seed: int
    alone: str = ''
    listed: bool = False
    fold: int = 0


@dataclass(frozen=True)
class Shelf:
    """
    Where things lie.

    :param data: folder with the data
    :param checkpoints: folder of the trained files
    :param logs: folder of the logs
    :param listed: file of the listed variants
    """

    data: Path
    checkpoints: Path
    logs: Path = LOGS
    listed: Path = LISTED

    def file(self, plan: Plan) -> Path:
        """Name the file that a training leaves."""
        return self.checkpoints / plan.name / FAMILY

    def log(self, plan: Plan) -> Path:
        """Name the log of a training."""
        return self.logs / plan.name / LOG

    def variants(self, task: Task) -> Dict[str, Variant]:
        """
        Return the listed variants on a task's network.

        :raises ConfigError: the list is missing, or does not fit
        """
        return fitted(read_members(self.listed).variants, _pattern(task))


_PATTERNS: Dict[str, Supernet] = {}


def _pattern(task: Task) -> Supernet:
    """Return a task's network to read its structure off; making one takes seconds."""
    key = repr((task.backbone, task.exits))
    if key not in _PATTERNS:
        _PATTERNS[key] = untrained(task, 0)
    return _PATTERNS[key]


@dataclass(frozen=True, eq=False)
class Opened:
    """
    What a finished training left.

    :param net: answering
    :param statistics: of its variants
    :param variants: name -> variant that it is measured at
    :param log: what it took and reached
    :param task: that it learnt
    """

    net: Supernet
    statistics: Statistics
    variants: Mapping[str, Variant]
    log: Mapping[str, Any]
    task: Task


def train_all(plans: Sequence[Plan], shelf: Shelf, say: Say) -> int:
    """
    Do every training that is not done and that no other process does.

    :returns: how many were done
    :raises DataError: data or a checkpoint cannot be used
    """
    done = 0
    for plan in plans:
        with claimed(shelf.file(plan).parent) as mine:
            if mine and not is_done(plan, shelf):
                say('%s: begins' % plan.name)
                log = train(plan, shelf, say)
                say('%s: %.0f s, accuracy %.4f' % (
                    plan.name, log['wall_s'], max(log['accuracy'].values())))
                done += 1
    return done


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Give whether this process has the folder; until its end no other one gets it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def is_done(plan: Plan, shelf: Shelf) -> bool:
    """Tell whether a training's log and its file are there."""
    return shelf.log(plan).exists() and shelf.file(plan).exists()


def train(plan: Plan, shelf: Shelf, say: Say) -> Dict[str, Any]:
    """
    Train, from the checkpoint where there is one, and write the log.

    :raises DataError: data or the checkpoint cannot be used
    """
    task = read_task(plan.task)
    held_out, material = material_of(plan, shelf)
    path, variants = shelf.file(plan), variants_of(plan, task, shelf)
    options: Dict[str, Any] = {
        'seed': plan.seed, 'checkpoint': path.with_name(CHECKPOINT), 'resume': True,
        'pause': lambda: wait_while_held() and None, 'report': _Reporter(plan, say)}
    if plan.alone:
        trained = train_alone(task, material, variants[plan.alone], **options)
    else:
        trained = train_task(task, material, members=tuple(variants.values()), **options)
    variants = variants or {'full': trained.net.whole()}
    statistics = calibrated(trained.net, material.train, variants.values(), trained.statistics)
    save_family(trained.net, path, statistics=statistics, scaling=material.scaling,
                backbone=None if plan.alone else task.backbone)
    log = {**_log(plan, task, material, trained, variants), 'held_out': list(held_out),
           'accuracy': accuracies(trained.net, variants, statistics, material.test,
                                  balanced=task.balanced), 'sha256': digest_of(path)}
    if not plan.alone:
        log['family_sha256'] = log['sha256']
    shelf.log(plan).parent.mkdir(parents=True, exist_ok=True)
    write_whole(shelf.log(plan), json.dumps(log, indent=1) + '\n')
    for name in (CHECKPOINT, CHECKPOINT + '.ledger'):
        path.with_name(name).unlink(missing_ok=True)
    return log


class _Reporter:
    """Says after each epoch how it goes."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan, self._say = plan, say

    def __call__(self, progress: Any) -> None:
        if progress.step + 1 == progress.steps:
            left = progress.seconds_left
            self._say('%s: %s %d/%d, loss %s, %s left' % (
                self._plan.name, progress.phase, progress.epoch + 1, progress.epochs,
                ' '.join('%.3f' % v for v in progress.losses.values()),
                '?' if left is None else '%.0f s' % left))


def variants_of(plan: Plan, task: Task, shelf: Shelf) -> Dict[str, Variant]:
    """
    Return the listed variants that are trained and measured.

    :raises ConfigError: a variant is named that is not listed
    """
    if not plan.listed and not plan.alone:
        return {}
    listed = shelf.variants(task)
    if plan.alone and plan.alone not in listed:
        raise ConfigError('%s has no variant %s; there are %s' % (
            shelf.listed.name, plan.alone, ', '.join(listed)))
    return {plan.alone: listed[plan.alone]} if plan.alone else listed


def material_of(plan: Plan, shelf: Shelf) -> Tuple[Tuple[str, ...], Material]:
    """
    Open the data: what is tested on, if that is a fold, and all of it.

    :raises DataError: it is missing, or has no such fold
    """
    return _material(plan.task, shelf.data, plan.fold, plan.seed)


@lru_cache(1)
def _material(name: str, data: Path, fold: int, seed: int) -> Tuple[Tuple[str, ...], Material]:
    task = read_task(name)
    held_out: Tuple[str, ...] = ()
    if fold:
        folds = folds_of(task, data)
        if fold > len(folds):
            raise DataError('fold %d of %s: there are %d' % (fold, name, len(folds)))
        held_out = folds[fold - 1]
    return held_out, open_material(task, data, held_out=held_out, seed=seed)


def _log(plan: Plan, task: Task, material: Material, trained: Trained,
         variants: Mapping[str, Variant]) -> Dict[str, Any]:
    return {
        'plan': {**asdict(plan), 'task': task.name}, 'definition': asdict(task),
        'command': 'crowdhmt bench training --train %s --data DIR' % plan.name,
        **trained.log.to_json(), 'described': material.described,
        'counts': {'train': material.train.steps(1), 'held_back': len(material.held_back),
                   'test': len(material.test)},
        'variants': {name: {**variant_to_json(v), 'macs': trained.net.plan(v).macs}
                     for name, v in variants.items()}}


def digest_of(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _how(plan: Plan) -> str:
    return 'make it: crowdhmt bench training --train %s --data DIR' % plan.name


def log_of(plan: Plan, shelf: Shelf) -> Dict[str, Any]:
    """
    Read a training's log.

    :raises DataError: there is none, or it is damaged
    """
    path = shelf.log(plan)
    try:
        content: Dict[str, Any] = json.loads(path.read_text('utf-8'))
    except FileNotFoundError as error:
        raise DataError('%s was not trained; %s' % (plan.name, _how(plan))) from error
    except (OSError, ValueError) as error:
        raise DataError('log %s cannot be read (%s)' % (path, error)) from error
    return content


def opened(plan: Plan, shelf: Shelf) -> Opened:
    """
    Open what a training left; its file must be the one that its log names.

    :raises DataError: log or file is missing, or the file is another one
    """
    log, path = log_of(plan, shelf), shelf.file(plan)
    if not path.exists():
        raise DataError('%s is missing; it takes %.0f minutes to %s' % (
            path, log['wall_s'] / 60.0, _how(plan)))
    found = digest_of(path)
    if found != log['sha256']:
        raise DataError('%s is not the file that its log names (sha256 %s, not %s); delete it and '
                        '%s' % (path, found[:12], log['sha256'][:12], _how(plan)))
    task = read_task(plan.task)
    variants = variants_of(plan, task, shelf)
    if plan.alone:
        lone, own = opened_alone(_pattern(task), variants[plan.alone], path)
        return Opened(lone, own, variants, log, task)
    net = untrained(task, plan.seed)
    statistics = load_tensors(net, path)
    net.eval()
    return Opened(net, statistics, variants or {'full': net.whole()}, log, task)


def evaluated(plan: Plan, shelf: Shelf, names: Optional[Sequence[str]] = None
              ) -> Tuple[Opened, Dict[str, float]]:
    """
    Measure what a training left anew on its test part.

    :param names: of its variants, None for all
    :raises DataError: the training or its data cannot be used
    """
    found = opened(plan, shelf)
    variants = {n: v for n, v in found.variants.items() if names is None or n in names}
    test = material_of(plan, shelf)[1].test
    return found, accuracies(found.net, variants, found.statistics, test,
                             balanced=found.task.balanced)
