# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Training that makes every variant worth choosing: figures from trainings that were done before.

Nothing is trained unless asked for: `--train PART` does the trainings that a part rests on
(resumable; several such processes share the work), `--retrain N` repeats one drawn at random.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Sequence, Tuple

from benchmarks import parts
from benchmarks._training_claims import CLAIMS, held
from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.cli.figures import Figure, inform
from crowdhmt_ros.errors import ConfigError, DataError

if TYPE_CHECKING:
    from benchmarks._training_shelf import Plan, Shelf, Training

HOLDS_MACHINE = False
"""Accuracies need no quiet machine; parts that measure latency hold it while they do."""
SEEDS = (1, 2)
HAR_FOLDS, ESC_FOLDS = range(1, 6), range(1, 4)
HALF, FULL = 'cifar100', 'cifar100_full'
"""Tasks whose whole network is compared with the backbone alone: half and full width."""
RETRAINED, MINUTES = 'retrained_diff_pt', 'bench_training_minutes'
THREADS = 1
"""Of a training: alike for all, so that their times compare; two processes fill two cores."""


def _gap(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_gap import gap_figures
    return gap_figures(shelf, parts.say, quick=quick)


def _gap_plans(shelf: Shelf) -> List[Training]:
    from benchmarks._training_gap import plans
    return [*plans(shelf)]


def _exits(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_exits import Family, exit_figures
    from benchmarks._training_shelf import opened
    families = [Family(shelf.file(plan), opened(plan, shelf).task, plan.seed)
                for plan in _families(HALF)[:1 if quick else None]]
    return exit_figures(families, shelf.data, quick=quick, say=parts.say)


def _families(task: str) -> List[Plan]:
    from benchmarks._training_shelf import Plan
    return [Plan('%s-family-%d' % (task, s), task, s, listed=True) for s in SEEDS]


def _pairs(task: str) -> List[Tuple[Plan, Plan]]:
    """List the families of a task, each with the backbone alone."""
    from benchmarks._training_shelf import Plan
    return [(family, Plan('%s-alone-full-%d' % (task, family.seed), task, family.seed,
                          alone='full')) for family in _families(task)]


def _pair_plans(task: str) -> List[Training]:
    return [plan for pair in _pairs(task) for plan in pair]


def _random(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_random import DRAWN
    return _beside_backbones(HALF, DRAWN, shelf, quick=quick)


def _full_width(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_shelf import is_done
    missing = [p.name for p in _pair_plans(FULL) if not is_done(p, shelf)]
    if len(missing) == len(_pair_plans(FULL)):
        return [inform(key, None, better=better, how='skipped: nothing was trained at full width; '
                       'on a machine with a GPU: crowdhmt bench training --train full_width '
                       '--device cuda --data DIR')
                for key, (_, better) in CLAIMS['full_width'].items()]
    return _beside_backbones(FULL, 0, shelf, quick=quick)


def _beside_backbones(task: str, count: int, shelf: Shelf, *, quick: bool) -> List[Figure]:
    """Judge the families of a task beside the backbone alone, in the seeds that have both."""
    from benchmarks._training_logs import read_runs
    from benchmarks._training_random import random_figures
    from benchmarks._training_shelf import evaluated, is_done, log_of, logged_file
    there = [pair for pair in _pairs(task) if all(is_done(plan, shelf) for plan in pair)]
    there = there or _pairs(task)[:1]  # which then says what is missing
    files = {family.name: logged_file(family, shelf)[1] for family, _ in there}
    found = [(run, files[run.name]) for run in read_runs(shelf.logs) if run.name in files]
    backbones = {b.seed: evaluated(b, shelf)[1]['full'] for _, b in there}
    figures = random_figures(found, shelf.data, backbones=backbones, task=task, count=count,
                             quick=quick, say=parts.say)
    devices = sorted({log_of(plan, shelf)['device'] for pair in there for plan in pair})
    return [replace(f, how='%s; trained on %s' % (f.how, ', '.join(devices))) for f in figures]


def _fronts(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_fronts import front_figures
    from benchmarks._training_logs import read_runs
    from benchmarks._training_shelf import log_of
    refused: Dict[str, str] = {}
    for plan in planned(list(PLANS), shelf):
        if shelf.log(plan).exists():
            try:
                log_of(plan, shelf)
            except DataError as error:
                refused[plan.name] = str(error)
    return front_figures([run for run in read_runs(shelf.logs) if run.name not in refused],
                         shelf.checkpoints, shelf.data, refused=list(refused.values()),
                         quick=quick, say=parts.say)


def _front_plans(shelf: Shelf) -> List[Training]:
    from benchmarks._training_shelf import Plan
    har = [Plan('har-fold%d-%d' % (f, SEEDS[0]), 'har', SEEDS[0], listed=True, fold=f)
           for f in HAR_FOLDS]
    return [*har, *(Plan('esc10-fold%d-%d' % (f, s), 'esc10', s, listed=True, fold=f)
                    for s in SEEDS for f in ESC_FOLDS)]


def _other_plans(shelf: Shelf) -> List[Training]:
    """List tasks of which nothing is claimed, for the page of fronts; the last lacks data here."""
    from benchmarks._training_shelf import Plan
    return [Plan('cifar10-1', 'cifar10', SEEDS[0], listed=True),
            Plan('statefarm-fold1-1', 'statefarm', SEEDS[0], fold=1)]


def _baselines(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_baselines import baseline_figures
    return baseline_figures(_quarter_families(shelf), shelf, quick=quick, say=parts.say)


def _quarter_families(shelf: Shelf) -> List[Plan]:
    """List the families that baselines are compared with."""
    from benchmarks._training_gap import plans_of
    return [plans_of(seed, shelf)[0] for seed in SEEDS]


def _baseline_plans(shelf: Shelf) -> List[Training]:
    from benchmarks._training_baseline_runs import read_choices, runs_of
    from crowdhmt_ros.tasks.task_file import read_task
    choices = read_choices()
    task = read_task(choices.task)
    return [*_quarter_families(shelf),
            *(run for seed in SEEDS for run in runs_of(task, choices, seed))]


def _campus7(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_campus7 import campus7_figures
    return campus7_figures(shelf.data, quick=quick, say=parts.say)


PARTS: Dict[str, Callable[[Shelf, bool], List[Figure]]] = {
    'gap': _gap, 'random': _random, 'full_width': _full_width, 'exits': _exits,
    'fronts': _fronts, 'baselines': _baselines, 'campus7': _campus7}
"""Part -> what measures it, from what was trained."""
PLANS: Dict[str, Callable[[Shelf], List[Training]]] = {
    'gap': _gap_plans, 'random': lambda shelf: _pair_plans(HALF),
    'full_width': lambda shelf: _pair_plans(FULL), 'exits': lambda shelf: [*_families(HALF)],
    'fronts': _front_plans, 'baselines': _baseline_plans, 'others': _other_plans}
"""Part -> the trainings that it rests on; parts may share some. `crowdhmt train campus7` makes
the bundle that is judged; `others` are drawn on the page of fronts alone."""


def run(options: argparse.Namespace) -> List[Figure]:
    """
    Measure every part asked for, all by default; or train.

    :raises ConfigError: unknown part
    :raises DataError: no data is named
    """
    wanted = parts.chosen('training', tuple(PARTS), options.only)
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch is imported
    shelf = _shelf(options)
    if options.train:
        _train(options.train, shelf)
        return []
    if options.retrain is not None:
        return [retrained(options.retrain, shelf)]
    begun_s = time.monotonic()
    figures = [figure for name in wanted for figure in measured(name, shelf, options.quick)]
    return [*figures, *_elapsed(time.monotonic() - begun_s, wanted, quick=options.quick)]


def _elapsed(spent_s: float, wanted: Sequence[str], *, quick: bool) -> List[Figure]:
    """Return how long the bench took, where it was the whole bench."""
    if quick or tuple(wanted) != tuple(PARTS):
        return []
    return [held(MINUTES, spent_s / 60.0, how='minutes that all parts took together by the wall, '
                 'waiting for others included')]


def _shelf(options: argparse.Namespace) -> Shelf:
    """
    Say where things lie.

    :raises DataError: no data is named
    """
    from benchmarks._training_shelf import Shelf
    data = options.data or os.environ.get('CROWDHMT_DATA')
    if not data:
        raise DataError('no data: give --data, or set CROWDHMT_DATA to the folder that has the '
                        'archives')
    return Shelf(Path(data).expanduser(),
                 (options.checkpoints or default_cache_dir() / 'training').expanduser(),
                 device=_device(options.device))


def _device(name: str) -> str:
    """
    Return where trainings compute.

    :raises ConfigError: this machine has no such device
    """
    if name != 'cpu':
        import torch
        if not torch.cuda.is_available():
            raise ConfigError('--device %s: torch finds no GPU here; leave the option out, or '
                              'install a torch that is made for it' % name)
    return name


def measured(name: str, shelf: Shelf, quick: bool) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    return parts.measured(lambda: PARTS[name](shelf, quick), lambda: CLAIMS[name])


def planned(names: Sequence[str], shelf: Shelf) -> List[Training]:
    """
    List the trainings of parts, or those of a name, each once.

    :raises ConfigError: there is neither a part nor a training of a name
    """
    every = {plan.name: plan for part in PLANS for plan in PLANS[part](shelf)}
    found: Dict[str, Training] = {}
    for name in names:
        if name not in PLANS and name not in every:
            raise ConfigError('bench training --train: %s is neither a part (%s) nor one of the '
                              'trainings (%s)' % (name, ', '.join(PLANS), ', '.join(every)))
        listed = PLANS[name](shelf) if name in PLANS else [every[name]]
        found.update((plan.name, plan) for plan in listed)
    return list(found.values())


def _train(names: Sequence[str], shelf: Shelf) -> None:
    import torch

    from benchmarks._training_shelf import is_done, train_all
    torch.set_num_threads(THREADS)
    plans = planned(names, shelf)
    count = train_all(plans, shelf, parts.say)
    left = [plan.name for plan in plans if not is_done(plan, shelf)]
    parts.say('%d trained; %s' % (
        count, 'others train ' + ', '.join(left) if left else 'all are there'))


def retrained(number: int, shelf: Shelf) -> Figure:
    """
    Repeat one of all trainings, and compare what it reaches.

    :param number: draws it, of all that have a log
    :raises DataError: nothing was trained, or the log is of another training than it would be now
    """
    import torch

    from benchmarks._training_shelf import log_of
    torch.set_num_threads(THREADS)
    every = {plan.name: plan for plan in planned(list(PLANS), shelf) if shelf.log(plan).exists()}
    if not every:
        raise DataError('nothing was trained yet that could be repeated; begin with crowdhmt '
                        'bench training --train PART --data DIR')
    plan = every[random.Random(number).choice(sorted(every))]
    old = log_of(plan, shelf)
    folder = shelf.checkpoints / 'retrained'
    again = replace(shelf, checkpoints=folder, logs=folder)
    if again.log(plan).exists():  # an earlier one came to its end; what was killed goes on
        shutil.rmtree(again.log(plan).parent)
    parts.say('%s is repeated; the first time it took %.0f minutes' % (
        plan.name, old['wall_s'] / 60.0))
    return repeated(plan.name, old, plan.train(again, parts.say))


def repeated(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Figure:
    """
    Compare the accuracies of a training and of its repetition.

    :param old: log of the first
    :param new: log of the second
    """
    differences = {variant: 100.0 * abs(new['accuracy'][variant] - value)
                   for variant, value in old['accuracy'].items()}
    worst = max(differences, key=lambda v: differences[v])
    return held(RETRAINED, differences[worst],
                how='%s repeated: largest difference of %d variants, %s %.2f %% and then '
                '%.2f %%; %s' % (name, len(differences), worst, 100 * old['accuracy'][worst],
                                 100 * new['accuracy'][worst],
                                 'the same file' if old['sha256'] == new['sha256']
                                 else 'another file'))

