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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Sequence

from benchmarks import parts
from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim
from crowdhmt_ros.errors import ConfigError, DataError

if TYPE_CHECKING:
    from benchmarks._training_shelf import Plan, Shelf

HOLDS_MACHINE = False
"""Accuracies need no quiet machine; parts that measure latency hold it while they do."""
SEEDS = (1, 2)
HAR_FOLDS, ESC_FOLDS = range(1, 6), range(1, 4)
BACKBONE, RETRAINED = 'cifar100_backbone_accuracy', 'retrained_diff_pt'
RETRAINED_TARGET = 1.0
THREADS = 1
"""Of a training: alike for all, so that their times compare; two processes fill two cores."""


def _gap(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_gap import gap_figures
    return gap_figures(shelf, parts.say, quick=quick)


def _gap_plans(shelf: Shelf) -> List[Plan]:
    from benchmarks._training_gap import plans
    return plans(shelf)


def _exits(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_exits import Family, exit_figures
    from benchmarks._training_shelf import opened
    families = [Family(shelf.file(plan), opened(plan, shelf).task, plan.seed)
                for plan in _cifar100_families(shelf)[:1 if quick else None]]
    return exit_figures(families, shelf.data, quick=quick, say=parts.say)


def _cifar100_families(shelf: Shelf) -> List[Plan]:
    from benchmarks._training_shelf import Plan
    return [Plan('cifar100-family-%d' % s, 'cifar100', s, listed=True) for s in SEEDS]


def _cifar100_backbones(shelf: Shelf) -> List[Plan]:
    from benchmarks._training_shelf import Plan
    return [Plan('cifar100-alone-full-%d' % s, 'cifar100', s, alone='full') for s in SEEDS]


def _cifar100_plans(shelf: Shelf) -> List[Plan]:
    pairs = zip(_cifar100_families(shelf), _cifar100_backbones(shelf))
    return [plan for pair in pairs for plan in pair]


def _random(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_logs import read_runs
    from benchmarks._training_random import random_figures
    from benchmarks._training_shelf import evaluated, opened
    backbones = {p.seed: evaluated(p, shelf)[1]['full'] for p in _cifar100_backbones(shelf)}
    listed = {plan.name: plan for plan in _cifar100_families(shelf)}
    for plan in listed.values():
        opened(plan, shelf)  # its file is the one that its log names
    found = [(run, shelf.file(listed[run.name])) for run in read_runs(shelf.logs)
             if run.name in listed]
    mean = sum(backbones.values()) / len(backbones)
    own = claim(BACKBONE, mean, CLAIMS['random'][BACKBONE][0], better=HIGHER,
                how='ResNet18 at half width trained alone, mean over seeds: ' + ', '.join(
                    '%d: %.4f' % pair for pair in backbones.items()))
    return [own, *random_figures(found, shelf.data, backbones=backbones, quick=quick,
                                 say=parts.say)]


def _fronts(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_fronts import front_figures
    from benchmarks._training_logs import read_runs
    return front_figures(read_runs(shelf.logs), shelf.checkpoints, shelf.data, quick=quick,
                         say=parts.say)


def _front_plans(shelf: Shelf) -> List[Plan]:
    from benchmarks._training_shelf import Plan
    har = [Plan('har-fold%d-%d' % (f, SEEDS[0]), 'har', SEEDS[0], fold=f) for f in HAR_FOLDS]
    return [*har, *(Plan('esc10-fold%d-%d' % (f, s), 'esc10', s, fold=f)
                    for s in SEEDS for f in ESC_FOLDS)]


def _baselines(shelf: Shelf, quick: bool) -> List[Figure]:
    from benchmarks._training_baselines import baseline_figures
    return baseline_figures(_quarter_families(shelf), shelf, quick=quick, say=parts.say)


def _quarter_families(shelf: Shelf) -> List[Plan]:
    """List the families that baselines are compared with; these train by their own command."""
    from benchmarks._training_gap import plans_of
    return [plans_of(seed, shelf)[0] for seed in SEEDS]


PARTS: Dict[str, Callable[[Shelf, bool], List[Figure]]] = {
    'gap': _gap, 'random': _random, 'exits': _exits, 'fronts': _fronts, 'baselines': _baselines}
"""Part -> what measures it, from what was trained."""
PLANS: Dict[str, Callable[[Shelf], List[Plan]]] = {
    'gap': _gap_plans, 'random': _cifar100_plans, 'exits': _cifar100_families,
    'fronts': _front_plans, 'baselines': _quarter_families}
"""Part -> the trainings that it rests on; parts may share some."""
CLAIMS: Dict[str, parts.Claims] = {
    'gap': {'recycle_gap_mean_pt': (0.5, LOWER), 'recycle_gap_max_pt': (1.5, LOWER),
            'training_cost_ratio': (0.40, LOWER)},
    'random': {BACKBONE: (0.68, HIGHER), 'largest_member_lost_pt': (0.5, LOWER),
               'cifar100_loss_pt_at_4x': (3.0, LOWER), 'cifar100_loss_pt_at_10x': (8.0, LOWER),
               'random_variants_near_front': (0.9, HIGHER)},
    'exits': {'exit_speedup': (1.3, HIGHER)},
    'fronts': {'har_accuracy': (0.94, HIGHER), 'har_accuracy_worst': (0.88, HIGHER),
               'har_macs_span': (8.0, HIGHER), 'esc10_accuracy': (0.80, HIGHER),
               'esc10_macs_span': (8.0, HIGHER)},
    'baselines': {'baseline_margin_pt': (1.0, HIGHER), 'baseline_margin_ofa_pt': (0.0, HIGHER)}}
"""Part -> its claims, said to fall short where the part could not be measured."""


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
    return [figure for name in wanted for figure in measured(name, shelf, options.quick)]


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
                 (options.checkpoints or default_cache_dir() / 'training').expanduser())


def measured(name: str, shelf: Shelf, quick: bool) -> List[Figure]:
    """Return the figures of a part; its claims, not held, with the reason where it failed."""
    return parts.measured(lambda: PARTS[name](shelf, quick), lambda: CLAIMS[name])


def planned(names: Sequence[str], shelf: Shelf) -> List[Plan]:
    """
    List the trainings of parts, or those of a name, each once.

    :raises ConfigError: there is neither a part nor a training of a name
    """
    every = {plan.name: plan for part in PLANS for plan in PLANS[part](shelf)}
    found: Dict[str, Plan] = {}
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

    :param number: draws the training
    :raises DataError: the one that is drawn was never done
    """
    import torch

    from benchmarks._training_shelf import log_of, train
    torch.set_num_threads(THREADS)
    every = {plan.name: plan for plan in planned(list(PLANS), shelf)}
    plan = every[random.Random(number).choice(sorted(every))]
    old = log_of(plan, shelf)
    folder = shelf.checkpoints / 'retrained'
    again = replace(shelf, checkpoints=folder, logs=folder)
    if again.log(plan).exists():  # an earlier one came to its end; what was killed goes on
        shutil.rmtree(again.log(plan).parent)
    parts.say('%s is repeated; the first time it took %.0f minutes' % (
        plan.name, old['wall_s'] / 60.0))
    return repeated(plan.name, old, train(plan, again, parts.say))


def repeated(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Figure:
    """
    Compare the accuracies of a training and of its repetition.

    :param old: log of the first
    :param new: log of the second
    """
    differences = {variant: 100.0 * abs(new['accuracy'][variant] - value)
                   for variant, value in old['accuracy'].items()}
    worst = max(differences, key=lambda v: differences[v])
    return claim(RETRAINED, differences[worst], RETRAINED_TARGET, better=LOWER,
                 how='%s repeated: largest difference of %d variants, %s %.2f %% and then '
                 '%.2f %%; %s' % (name, len(differences), worst, 100 * old['accuracy'][worst],
                                  100 * new['accuracy'][worst],
                                  'the same file' if old['sha256'] == new['sha256']
                                  else 'another file'))

