# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The trainings of the baselines: chosen beforehand, named, resumable, their logs in the repository.

Each fulfils `Training` beside the families' plans: `crowdhmt bench training --train baselines`
does them, `--retrain N` may draw one.
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import torch
import yaml

from benchmarks._training_logs import difference, sha256_of
from benchmarks._training_shelf import (
    Say,
    Shelf,
    command_of,
    logged_file,
    material_at,
    pattern_of,
)
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.machine_lock import wait_while_held
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.baseline_training import (
    Finished,
    Session,
    forget,
    opened,
    task_of,
    train_course,
)
from crowdhmt_ros.tasks.baselines import SHARED, Course, Frame, alone, mobilenet
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.training import untrained, versions
from crowdhmt_ros.types import Variant, variant_from_json, variant_to_json

CHOICES = Path(__file__).resolve().parent / 'baselines.yaml'
CHOOSE = 'python -m benchmarks._choose_baselines'
TASK = 'cifar100_quarter'
SPEEDUPS = (2.0, 4.0, 8.0)
STATIC, MOBILENET = 'adadeep_like', 'mobilenet_v2'


@dataclass(frozen=True)
class Choices:
    """
    What is chosen before training.

    :param task: its name
    :param multipliers: of MobileNetV2
    :param static: speed-up that is asked for -> the one variant that is trained for it
    """

    task: str
    multipliers: Tuple[float, ...]
    static: Mapping[float, Variant]


@dataclass(frozen=True)
class BaselineRun:
    """
    One training; a `Training`.

    :param label: tells it from the others of its seed
    :param baseline: to whose front it belongs
    :param task: the task's name
    :param learnt: the task with the baseline's network
    :param course: of that network, in a frame
    :param seed: of every random number
    """

    label: str
    baseline: str
    task: str
    learnt: Task
    course: Callable[[Supernet, Frame], Course]
    seed: int

    @property
    def name(self) -> str:
        """Of the folders of its log and its file."""
        return '%s-baseline-%s-%d' % (self.task, self.label, self.seed)

    @property
    def frame(self) -> Frame:
        """As the family's recipe gives it now: as many epochs as its phases have together."""
        recipe = named_recipe(self.learnt.recipe)
        return Frame(recipe, recipe.epochs)

    def recipe(self, course: Course) -> Recipe:
        """Return what is followed: every leg is a phase."""
        return replace(self.frame.recipe, phases=tuple(leg.plan for leg in course.legs))

    def outdated(self, log: Mapping[str, Any], shelf: Shelf) -> str:
        """Compare; see `Training`."""
        course = self.course(pattern_of(self.learnt), self.frame)
        return difference(log, self.recipe(course), course.measured)

    def train(self, shelf: Shelf, say: Say) -> Dict[str, Any]:
        """
        Train, leg after leg, and write the log; see `Training`.

        :raises DataError: data or a checkpoint cannot be used
        """
        path = shelf.file(self)

        def report(leg: int, progress: Any) -> None:
            if progress.step + 1 == progress.steps:
                say('%s: leg %d, %s %d/%d, loss %s' % (
                    self.name, leg + 1, progress.phase, progress.epoch + 1, progress.epochs,
                    ' '.join('%.3f' % v for v in progress.losses.values())))

        def pause() -> None:
            wait_while_held()

        session = Session(self.learnt, material_at(self.task, shelf.data, 0, self.seed)[1],
                          self.seed, path, shelf.device, report=report, pause=pause)
        course = self.course(untrained(self.learnt, self.seed), self.frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        log = self._log(course, train_course(course, self.frame, session), session)
        shelf.log(self).parent.mkdir(parents=True, exist_ok=True)
        write_whole(shelf.log(self), json.dumps(log, indent=1) + '\n')
        forget(session, len(course.legs))
        return log

    def _log(self, course: Course, done: Finished, session: Session) -> Dict[str, Any]:
        """Measure what was trained, and say how it was."""
        return {
            'baseline': self.baseline, 'task': self.task, 'seed': self.seed,
            'command': command_of(self), 'recipe': asdict(self.recipe(course)),
            'backbone': {'name': self.learnt.backbone.name,
                         'options': dict(self.learnt.backbone.options)},
            'data': session.material.train.identity, 'legs': done.legs,
            'wall_s': sum(leg['took']['wall_s'] for leg in done.legs),
            'cpu_s': sum(leg['took']['cpu_s'] for leg in done.legs),
            'device': session.device, 'threads': torch.get_num_threads(), 'versions': versions(),
            **_reached(course, done, session.material, balanced=self.learnt.balanced),
            'variants': {n: {**variant_to_json(v), 'macs': done.net.plan(v).macs}
                         for n, v in course.measured.items()}, 'sha256': sha256_of(session.path)}


def _reached(course: Course, done: Finished, material: Material, *, balanced: bool
             ) -> Dict[str, Dict[str, float]]:
    return {part: accuracies(done.net, course.measured, done.statistics, labelled,
                             balanced=balanced)
            for part, labelled in (('accuracy', material.test),
                                   ('held_back_accuracy', material.held_back)) if len(labelled)}


def runs_of(task: Task, choices: Choices, seed: int) -> Tuple[BaselineRun, ...]:
    """List the trainings of all baselines."""
    own = task_of(task)
    found: List[BaselineRun] = []

    def add(label: str, baseline: str, learnt: Task,
            course: Callable[[Supernet, Frame], Course]) -> None:
        found.append(BaselineRun(label, baseline, task.name, learnt, course, seed))

    for name, course in SHARED.items():
        add(name, name, own, course)
    for speedup, variant in choices.static.items():
        add('%s-%gx' % (STATIC, speedup), STATIC, own, partial(alone, variant=variant))
    for multiplier in choices.multipliers:
        add('%s-%g' % (MOBILENET, 100 * multiplier), MOBILENET,
            task_of(task, mobilenet(task.backbone, multiplier)), alone)
    return tuple(found)


def read_choices(path: Path = CHOICES) -> Choices:
    """
    Read what was chosen.

    :raises ConfigError: the file is missing or malformed
    """
    try:
        said: Any = yaml.safe_load(path.read_text('utf-8'))
        return Choices(str(said['task']), tuple(map(float, said['mobilenet_v2'])), {
            float(row['speedup']): variant_from_json(row['variant'], row['name'])
            for row in said['static']})
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise ConfigError('%s cannot be used (%s); make it with `%s`'
                          % (path, error, CHOOSE)) from error


def opened_run(run: BaselineRun, shelf: Shelf) -> Tuple[Supernet, Statistics, Course]:
    """
    Open a finished training; its file must be the one that its log names.

    :raises DataError: log or file is missing, or is of another training
    """
    _, path = logged_file(run, shelf)
    course = run.course(untrained(run.learnt, run.seed), run.frame)
    return (*opened(course, run.learnt, run.seed, path), course)
