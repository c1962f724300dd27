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
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Protocol, Sequence, Tuple

from benchmarks._training_logs import RUNS, difference, sha256_of
from benchmarks._training_shared import material_for, reached
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.store import load_tensors, save_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.machine_lock import wait_while_held
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.alone import alone_recipe, opened_alone, train_alone
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.material import Material, folds_of
from crowdhmt_ros.tasks.members import fitted, read_members
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.tasks.training import Trained, calibrated, train_task, untrained
from crowdhmt_ros.types import Variant, variant_to_json

LISTED = Path(__file__).resolve().parent / 'variants.yaml'
FAMILY, CHECKPOINT, LOCK, LOG = 'family.pt', 'checkpoint.pt', 'lock', 'log.json'
Say = Callable[[str], None]


class Training(Protocol):
    """What is trained once, under a name, and leaves a log and a file."""

    @property
    def name(self) -> str:
        """Of the folders of its log and its file."""
        ...

    def train(self, shelf: Shelf, say: Say) -> Dict[str, Any]:
        """
        Train, from the checkpoint where there is one, and write the log.

        :raises DataError: data or the checkpoint cannot be used
        """
        ...

    def outdated(self, log: Mapping[str, Any], shelf: Shelf) -> str:
        """Tell in what the training of a log differs from what it would be now; '' in nothing."""
        ...


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

    def train(self, shelf: Shelf, say: Say) -> Dict[str, Any]:
        """Train; see `Training`."""
        return train(self, shelf, say)

    def outdated(self, log: Mapping[str, Any], shelf: Shelf) -> str:
        """
        Compare; see `Training`.

        What is trained alone follows `alone_recipe` only: phases of the family may change.
        """
        task = read_task(self.task)
        recipe = named_recipe(task.recipe)
        return difference(log, alone_recipe(recipe) if self.alone else recipe,
                          variants_of(self, task, shelf))


@dataclass(frozen=True)
class Shelf:
    """
    Where things lie.

    :param data: folder with the data
    :param checkpoints: folder of the trained files
    :param logs: folder of the logs
    :param listed: file of the listed variants; one beside it, named for a task as well, is the
        task's own
    :param device: where trainings compute, 'cpu' or 'cuda'
    """

    data: Path
    checkpoints: Path
    logs: Path = RUNS
    listed: Path = LISTED
    device: str = 'cpu'

    def file(self, plan: Training) -> Path:
        """Name the file that a training leaves."""
        return self.checkpoints / plan.name / FAMILY

    def log(self, plan: Training) -> Path:
        """Name the log of a training."""
        return self.logs / plan.name / LOG

    def variants(self, task: Task) -> Dict[str, Variant]:
        """
        Return the listed variants on a task's network.

        :raises ConfigError: the list is missing, or does not fit
        """
        own = self.listed.with_name('%s_%s.yaml' % (self.listed.stem, task.name))
        return fitted(read_members(own if own.exists() else self.listed).variants,
                      pattern_of(task))


_PATTERNS: Dict[str, Supernet] = {}


def pattern_of(task: Task) -> Supernet:
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


def train_all(plans: Sequence[Training], shelf: Shelf, say: Say) -> int:
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
                log = plan.train(shelf, say)
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


def is_done(plan: Training, shelf: Shelf) -> bool:
    """
    Tell whether a training's log and its file are there, and are what it would leave now.

    :raises DataError: the log is damaged
    """
    if not (shelf.log(plan).exists() and shelf.file(plan).exists()):
        return False
    return not plan.outdated(_read(plan, shelf), shelf)


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
        'device': shelf.device,
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
                                  balanced=task.balanced), 'sha256': sha256_of(path)}
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
    return material_at(plan.task, shelf.data, plan.fold, plan.seed)


def material_at(name: str, data: Path, fold: int, seed: int) -> Tuple[Tuple[str, ...], Material]:
    """Open the data of a task; see `material_of`."""
    task = read_task(name)
    held_out: Tuple[str, ...] = ()
    if fold:
        folds = folds_of(task, data)
        if fold > len(folds):
            raise DataError('fold %d of %s: there are %d' % (fold, name, len(folds)))
        held_out = folds[fold - 1]
    return held_out, material_for(task, data, held_out=held_out, seed=seed)


def _log(plan: Plan, task: Task, material: Material, trained: Trained,
         variants: Mapping[str, Variant]) -> Dict[str, Any]:
    return {
        'plan': {**asdict(plan), 'task': task.name}, 'definition': asdict(task),
        'command': command_of(plan),
        **trained.log.to_json(), 'described': material.described,
        'counts': {'train': material.train.steps(1), 'held_back': len(material.held_back),
                   'test': len(material.test)},
        'variants': {name: {**variant_to_json(v), 'macs': trained.net.plan(v).macs}
                     for name, v in variants.items()}}


def command_of(plan: Training) -> str:
    """Return the command that does a training."""
    return 'crowdhmt bench training --train %s --data DIR' % plan.name


def log_of(plan: Training, shelf: Shelf) -> Dict[str, Any]:
    """
    Read a training's log; it must tell of the training that it would be now.

    :raises DataError: there is none, it is damaged, or of another recipe or other variants
    """
    content = _read(plan, shelf)
    other = plan.outdated(content, shelf)
    if other:
        raise DataError('log %s is of another training: %s; train it again: %s' % (
            shelf.log(plan), other, command_of(plan)))
    return content


def _read(plan: Training, shelf: Shelf) -> Dict[str, Any]:
    path = shelf.log(plan)
    try:
        content: Any = json.loads(path.read_text('utf-8'))
    except FileNotFoundError as error:
        raise DataError('%s was not trained; make it: %s' % (
            plan.name, command_of(plan))) from error
    except (OSError, ValueError) as error:
        raise DataError('log %s cannot be read (%s); delete it and make it: %s' % (
            path, error, command_of(plan))) from error
    if not isinstance(content, dict):
        raise DataError('%s is no log; delete it and make it: %s' % (path, command_of(plan)))
    return content


def logged_file(plan: Training, shelf: Shelf) -> Tuple[Dict[str, Any], Path]:
    """
    Return a training's log, and its file, which must be the one that the log names.

    :raises DataError: log or file is missing, or is of another training
    """
    log, path = log_of(plan, shelf), shelf.file(plan)
    if not path.exists():
        raise DataError('%s is missing; it takes %.0f minutes to make it: %s' % (
            path, log['wall_s'] / 60.0, command_of(plan)))
    found = sha256_of(path)
    if found != log['sha256']:
        raise DataError('%s is not the file that its log names (sha256 %s, not %s); delete it and '
                        'make it: %s' % (path, found[:12], log['sha256'][:12], command_of(plan)))
    return log, path


def opened(plan: Plan, shelf: Shelf) -> Opened:
    """
    Open what a training left.

    :raises DataError: log or file is missing, or is of another training
    """
    log, path = logged_file(plan, shelf)
    task = read_task(plan.task)
    variants = variants_of(plan, task, shelf)
    if plan.alone:
        lone, own = opened_alone(pattern_of(task), variants[plan.alone], path)
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
    return found, reached(found.log['sha256'], found.net, variants, found.statistics, test,
                          balanced=found.task.balanced)
