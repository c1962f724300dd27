# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The trainings of the baselines: chosen beforehand, named, resumable, their logs in the repository.

`python -m benchmarks._training_baseline_runs choose` measures what is chosen before any training
and writes benchmarks/baselines.yaml; `plan` says about how long training takes; `train` trains
every baseline, and goes on where it was killed. Several processes may train at once.
"""
from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

import torch
import yaml

from benchmarks._training_shelf import FAMILY, LOG, LOGS, Say, Shelf, claimed, digest_of
from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import ConfigError, CrowdHMTError, DataError
from crowdhmt_ros.machine_lock import hold_machine, wait_while_held
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.baseline_training import Session, forget, opened, task_of, train_course
from crowdhmt_ros.tasks.baselines import SHARED, Course, Frame, alone, mobilenet
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.latency import measured, session_of
from crowdhmt_ros.tasks.material import Material, open_material
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.static_choice import WHOLE, candidates, chosen
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.tasks.training import untrained, versions
from crowdhmt_ros.types import Variant, variant_from_json, variant_to_json

logger = logging.getLogger(__name__)

CHOICES = Path(__file__).resolve().parent / 'baselines.yaml'
TASK, SEEDS = 'cifar100_quarter', (1, 2)
SPEEDUPS = (2.0, 4.0, 8.0)
MULTIPLIERS = (0.5, 0.35, 0.25, 0.1)
"""Of MobileNetV2: from dearer than the quarter-width ResNet18 to the narrowest, twice as fast."""
STATIC, MOBILENET = 'adadeep_like', 'mobilenet_v2'
CHOOSING_ROUNDS = 25
COMMAND = 'python -m benchmarks._training_baseline_runs'
WHOLE_S, WHOLE_MACS, SMALL_POWER = 63.0 / 50_000, 35.06e6, 0.5
"""Seconds that an image takes the network of so many operations to learn, on two cores; a smaller
network takes this power of its share of the operations: vector units stay half empty."""
DEPTHWISE = 3.0
"""How much longer an operation of a depthwise network takes; assumed."""


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
    One training.

    :param name: of it
    :param baseline: to whose front it belongs
    :param task: the task's name
    :param learnt: the task with the baseline's network
    :param course: of that network, in a frame
    """

    name: str
    baseline: str
    task: str
    learnt: Task
    course: Callable[[Supernet, Frame], Course]

    def named(self, seed: int) -> str:
        """Name the log and the folder of a seed."""
        return '%s-baseline-%s-%d' % (self.task, self.name, seed)

    def family(self, seed: int, shelf: Shelf) -> Path:
        """Name the file that a seed leaves."""
        return shelf.checkpoints / self.named(seed) / FAMILY

    def log(self, seed: int, shelf: Shelf) -> Path:
        """Name the log of a seed."""
        return shelf.logs / self.named(seed) / LOG


def runs_of(task: Task, choices: Choices) -> Tuple[BaselineRun, ...]:
    """List the trainings of all baselines."""
    own = task_of(task)
    found = [BaselineRun(name, name, task.name, own, course) for name, course in SHARED.items()]
    found += [BaselineRun('%s-%gx' % (STATIC, speedup), STATIC, task.name, own,
                          partial(alone, variant=variant))
              for speedup, variant in choices.static.items()]
    found += [BaselineRun('%s-%g' % (MOBILENET, 100 * m), MOBILENET, task.name,
                          task_of(task, mobilenet(task.backbone, m)), alone)
              for m in choices.multipliers]
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
        raise ConfigError('%s cannot be used (%s); make it with `%s choose`'
                          % (path, error, COMMAND)) from error


def choose(task: Task, path: Path = CHOICES) -> None:
    """Measure every static candidate, and write the choices."""
    example = task.backbone.example()[:1]
    net = untrained(task_of(task), 0)
    found = candidates(net)
    statistics = calibrate(net, found.values(), [task.backbone.example()])
    sessions = {n: session_of(extract(net, v, statistics).module, example)
                for n, v in found.items()}
    with hold_machine():
        seconds = measured(sessions, rounds=CHOOSING_ROUNDS)
    rows = []
    for speedup in SPEEDUPS:
        name = chosen(net, found, seconds, speedup)
        rows.append({'speedup': speedup, 'name': name,
                     'measured_speedup': round(seconds[WHOLE] / seconds[name], 2),
                     'variant': variant_to_json(found[name])})
        logger.info('%gx: %s', speedup, name)
    write_whole(path, '# Chosen before any training: %s choose\n' % COMMAND + yaml.safe_dump({
        'task': task.name,
        'measured': '%d candidates, one thread, single inputs, median of %d turns, %s' % (
            len(found), CHOOSING_ROUNDS, platform.machine()),
        'mobilenet_v2': list(MULTIPLIERS), 'static': rows}, sort_keys=False,
        default_flow_style=None, width=99))


def train(runs: Sequence[BaselineRun], frame: Frame, seeds: Sequence[int], shelf: Shelf,
          say: Say) -> int:
    """
    Train what has no log yet and what no other process has; once killed it goes on.

    :returns: how many were trained
    :raises DataError: data or a checkpoint cannot be used
    """
    done = 0
    for seed in seeds:
        material: Optional[Material] = None
        for run in runs:
            with claimed(run.family(seed, shelf).parent) as mine:
                if not mine or is_done(run, seed, frame, shelf):
                    continue
                material = material or open_material(run.learnt, shelf.data, seed=seed)
                _train_one(run, frame, seed, material, shelf, say)
                done += 1
    return done


def is_done(run: BaselineRun, seed: int, frame: Frame, shelf: Shelf) -> bool:
    """Tell whether a training left its log, with these epochs, and its file."""
    log = run.log(seed, shelf)
    if not log.exists() or not run.family(seed, shelf).exists():
        return False
    return bool(json.loads(log.read_text('utf-8'))['epochs'] == frame.epochs)


def _train_one(run: BaselineRun, frame: Frame, seed: int, material: Material, shelf: Shelf,
               say: Say) -> None:
    name, path = run.named(seed), run.family(seed, shelf)

    def report(leg: int, progress: Any) -> None:
        if progress.step + 1 == progress.steps:
            say('%s: leg %d, %s %d/%d, loss %s' % (
                name, leg + 1, progress.phase, progress.epoch + 1, progress.epochs,
                ' '.join('%.3f' % v for v in progress.losses.values())))

    session = Session(run.learnt, material, seed, path, report=report,
                      pause=lambda: wait_while_held() and None)
    course = run.course(untrained(run.learnt, seed), frame)
    done = train_course(course, frame, session)
    reached = {part: accuracies(done.net, course.measured, done.statistics, labelled,
                                balanced=run.learnt.balanced)
               for part, labelled in (('accuracy', material.test),
                                      ('held_back_accuracy', material.held_back))
               if len(labelled)}
    log = {'baseline': run.baseline, 'task': run.task, 'seed': seed, 'epochs': frame.epochs,
           'command': '%s train --epochs %d --only %s --seed %d --data DIR' % (
               COMMAND, frame.epochs, run.name, seed),
           'backbone': {'name': run.learnt.backbone.name,
                        'options': dict(run.learnt.backbone.options)},
           'data': material.train.identity, 'legs': done.legs,
           'wall_s': sum(leg['took']['wall_s'] for leg in done.legs),
           'cpu_s': sum(leg['took']['cpu_s'] for leg in done.legs),
           'threads': torch.get_num_threads(), 'versions': versions(), **reached,
           'variants': {n: {**variant_to_json(v), 'macs': done.net.plan(v).macs}
                        for n, v in course.measured.items()}, 'sha256': digest_of(path)}
    run.log(seed, shelf).parent.mkdir(parents=True, exist_ok=True)
    write_whole(run.log(seed, shelf), json.dumps(log, indent=1) + '\n')
    forget(session, len(course.legs))


def opened_run(run: BaselineRun, seed: int, shelf: Shelf) -> Tuple[Supernet, Statistics, Course]:
    """
    Open a finished training; its file must be the one that its log names.

    :raises DataError: log or file is missing, or the file is another one
    """
    log_path, path = run.log(seed, shelf), run.family(seed, shelf)
    try:
        log = json.loads(log_path.read_text('utf-8'))
        frame = Frame(named_recipe(run.learnt.recipe), int(log['epochs']))
        wanted = str(log['sha256'])
    except (OSError, ValueError, LookupError) as error:
        raise DataError('log %s cannot be used (%s); make it: %s train --data DIR' % (
            log_path, error, COMMAND)) from error
    if not path.exists() or digest_of(path) != wanted:
        raise DataError('%s is missing, or is not the file that its log names; make it: %s' % (
            path, log['command']))
    course = run.course(untrained(run.learnt, seed), frame)
    return (*opened(course, run.learnt, seed, path), course)


def estimate_s(run: BaselineRun, frame: Frame, images: int) -> float:
    """
    Estimate how long a training takes on two cores, from operations; within a factor of 2.

    :param images: of an epoch
    """
    net = untrained(run.learnt, 0)
    course = run.course(net, frame)
    whole = course.lone or net.whole()

    def passed(variant: Variant) -> float:
        share = net.plan(variant).macs / WHOLE_MACS
        return share ** SMALL_POWER if share < 1.0 else share

    total = 0.0
    for leg in course.legs:
        costs = sorted(passed(m) for m in leg.members)
        step = passed(whole)
        if costs:
            step += leg.plan.variants * sum(costs) / len(costs)
            step += costs[0] if leg.plan.phase == 'mutation' else 0.0
        edges = [leg.plan.edge_at(epoch) for epoch in range(leg.plan.epochs)]
        total += step * sum((edge / max(edges)) ** 2 if max(edges) else 1.0 for edge in edges)
    slower = DEPTHWISE if run.baseline == MOBILENET else 1.0
    return total * images * WHOLE_S * slower


def main() -> int:
    """Choose, plan or train."""
    parser = argparse.ArgumentParser(prog=COMMAND, description='The baselines of the training '
                                     'bench: choose, plan, or train them.')
    parser.add_argument('what', choices=('choose', 'plan', 'train'))
    parser.add_argument('--task', default=TASK, help='name, or path of a YAML file')
    parser.add_argument('--data', type=Path, default=os.environ.get('CROWDHMT_DATA'),
                        help='folder with the data (default: CROWDHMT_DATA)')
    parser.add_argument('--checkpoints', type=Path, default=default_cache_dir() / 'training')
    parser.add_argument('--logs', type=Path, default=LOGS, help='folder of the logs')
    parser.add_argument('--only', action='append', default=[], metavar='NAME',
                        help='a baseline, or one of its trainings; may be repeated')
    parser.add_argument('--seed', action='append', type=int, default=[], metavar='N',
                        help='may be repeated (default: %s)' % ' and '.join(map(str, SEEDS)))
    parser.add_argument('--epochs', type=int, default=0,
                        help="of each training (default: those of the task's recipe)")
    parser.add_argument('--threads', type=int, default=1,
                        help='of each process (default: 1; two processes fill two cores)')
    try:
        return _followed(parser.parse_args())
    except CrowdHMTError as error:
        print('error: %s' % error, file=sys.stderr)
        return 2


def _followed(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    task = read_task(args.task)
    if args.what == 'choose':
        choose(task)
        return 0
    recipe = named_recipe(task.recipe)
    frame = Frame(recipe, args.epochs or recipe.epochs)
    every = runs_of(task, read_choices())
    runs = [r for r in every if not args.only or {r.name, r.baseline} & set(args.only)]
    unknown = set(args.only) - {name for r in every for name in (r.name, r.baseline)}
    if unknown:
        raise ConfigError('no baseline %s; there are %s' % (
            ', '.join(sorted(unknown)), ', '.join(r.name for r in every)))
    if args.what == 'plan':
        return _planned(runs, frame, task.data.limit or 50_000)
    if args.data is None:
        raise DataError('no data: give --data, or set CROWDHMT_DATA')
    shelf = Shelf(Path(args.data), args.checkpoints, args.logs)
    train(runs, frame, args.seed or SEEDS, shelf, partial(print, flush=True))
    return 0


def _planned(runs: Sequence[BaselineRun], frame: Frame, images: int) -> int:
    total_s = 0.0
    for run in runs:
        spent_s = estimate_s(run, frame, images)
        total_s += spent_s
        print('%-20s %3d epochs  %5.0f min' % (run.name, frame.epochs, spent_s / 60.0))
    print('%-20s one seed    %5.1f h on two cores, estimated from operations'
          % ('all', total_s / 3600.0))
    return 0


if __name__ == '__main__':
    sys.exit(main())
