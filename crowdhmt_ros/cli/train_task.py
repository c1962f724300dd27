# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`crowdhmt train TASK` for tasks that a YAML file describes: data -> family and its log, resumable.

What is left in --out: family.pt (shared tensors and statistics), log.json (how it was trained,
what it reaches, sha256 of family.pt), and the checkpoint.
"""
from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.cli.front_file import read_front
from crowdhmt_ros.cli.progress import Bar
from crowdhmt_ros.cli.train_progress import on_bar, pause
from crowdhmt_ros.cli.variant_names import variant_names
from crowdhmt_ros.elastic.store import save_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.ranks import own_device, ranks_from_environment
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.report.write import write_whole
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.material import Labelled, Material, folds_of, open_material
from crowdhmt_ros.tasks.members import fitted, read_members
from crowdhmt_ros.tasks.recipes import named_recipe, with_epochs, with_phases
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.tasks.training import (
    Trained,
    calibrated,
    shown_variants,
    train_task,
    untrained,
)
from crowdhmt_ros.types import Variant, variant_to_json

FAMILY, LOG = 'family.pt', 'log.json'
LOG_FORMAT, LOG_VERSION = 'crowdhmt-training', 1


def run(args: argparse.Namespace, data: Path) -> int:
    """
    Train a task's family and write it.

    :param data: folder with the task's files
    :returns: 0
    :raises DataError: data, checkpoint or family cannot be used
    :raises ConfigError: the task or the recipe cannot be followed
    """
    task = read_task(args.task)
    recipe = _recipe(args, task)
    listed = _listed(args.variants, task)
    checkpoint = _checkpoint(args, task)
    held_out = _held_out(args, task, data)
    with Bar('reading data') as bar:
        material = open_material(task, data, held_out=held_out, limit=args.limit, seed=args.seed,
                                 cache_dir=default_cache_dir())
        bar(1, 1)
    print(material.described)
    # Whoever joins has looked for a checkpoint: the first rank writes none before all are there.
    ranks = ranks_from_environment(args.device)
    with Bar('training, %') as bar:
        trained = train_task(
            task, material, seed=args.seed, checkpoint=checkpoint, resume=args.resume,
            recipe=recipe, members=tuple(listed.values()), start=args.start,
            device=own_device(args.device), report=on_bar(bar), pause=pause, ranks=ranks)
    if not ranks.is_first:
        return 0
    variants = listed or _shown(trained.net)
    statistics = calibrated(trained.net, material.train, variants.values(), trained.statistics)
    path = args.out / FAMILY
    save_family(trained.net, path, backbone=task.backbone, statistics=statistics,
                scaling=material.scaling)
    reached = _reached(task, material, trained.net, variants, statistics)
    log = _log(args, task, material, trained, variants)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    log.update({'held_out': list(held_out), **reached, 'family_sha256': digest})
    write_whole(args.out / LOG, json.dumps(log, indent=1) + '\n')
    _show(trained.net, variants, reached)
    print('family %s in %s' % (digest[:16], path))
    return 0


def _recipe(args: argparse.Namespace, task: Task) -> Recipe:
    recipe = named_recipe(args.recipe or task.recipe)
    if args.phases:
        recipe = with_phases(recipe, [n.strip() for n in args.phases.split(',')])
    return with_epochs(recipe, args.epochs / recipe.epochs) if args.epochs else recipe


def _checkpoint(args: argparse.Namespace, task: Task) -> Path:
    """Return the checkpoint's file; one that is there is not overwritten by a new training."""
    path = Path(args.checkpoint_dir or args.out).expanduser() / ('checkpoint-%s.pt' % task.name)
    if path.exists() and not args.resume:
        raise DataError('%s is the checkpoint of a training; go on with --resume, or delete it'
                        % path)
    return path


def _held_out(args: argparse.Namespace, task: Task, data: Path) -> Tuple[str, ...]:
    """Return the folds or subjects that are tested on; none for the default."""
    named = tuple(name.strip() for name in args.held_out.split(',') if name.strip())
    if not args.fold:
        return named
    if named:
        raise DataError('--fold and --held-out both say what is tested on; give one of them')
    folds = folds_of(task, data)
    if args.fold > len(folds):
        raise DataError('--fold is %d; there are %d folds' % (args.fold, len(folds)))
    return folds[args.fold - 1]


def _listed(path: Any, task: Task) -> Dict[str, Variant]:
    """Return name -> variant of a list of variants or a front, nothing where none is given."""
    if path is None:
        return {}
    if path.suffix == '.json':
        found = [member.variant for member in read_front(path)]
        return dict(zip(variant_names(found, len(task.exits) + 1), found))
    return fitted(read_members(path).variants, untrained(task, 0))


def _shown(net: Supernet) -> Dict[str, Variant]:
    found = shown_variants(net)
    return dict(zip(variant_names(found, len(net.structure.exits)), found))


def _reached(task: Task, material: Material, net: Supernet, variants: Mapping[str, Variant],
             statistics: Any) -> Dict[str, Any]:
    """Measure the variants on the test part and on what was held back."""
    def measured(labelled: Labelled) -> Dict[str, float]:
        return accuracies(net, variants, statistics, labelled, balanced=task.balanced)

    with Bar('measuring accuracy') as bar:
        test = measured(material.test)
        bar(1, 2)
        held_back = measured(material.held_back) if len(material.held_back) else {}
        bar(2, 2)
    return {'accuracy': test, 'held_back_accuracy': held_back}


def _log(args: argparse.Namespace, task: Task, material: Material, trained: Trained,
         variants: Mapping[str, Variant]) -> Dict[str, Any]:
    net = trained.net
    return {
        'format': LOG_FORMAT, 'format_version': LOG_VERSION, 'command': command_of(args),
        'described': material.described,
        'definition': asdict(replace(task, recipe=Path(task.recipe).name)),
        'classes': list(material.classes),
        'counts': {'train': material.train.steps(1), 'held_back': len(material.held_back),
                   'test': len(material.test)},
        **trained.log.to_json(),
        'variants': {name: {**variant_to_json(v), 'macs': net.plan(v).macs}
                     for name, v in variants.items()}}


def command_of(args: argparse.Namespace) -> str:
    """Return the command that makes this family again, without this machine's paths."""
    task = args.task if '/' not in args.task else Path(args.task).name
    words = ['crowdhmt train %s --data DIR --out DIR --seed %d --threads %d' % (
        task, args.seed, args.threads)]
    named: Sequence[Tuple[str, Any]] = (
        ('ranks', args.ranks if args.ranks > 1 else ''),
        ('recipe', args.recipe), ('phases', args.phases), ('epochs', args.epochs),
        ('fold', args.fold), ('held-out', args.held_out), ('limit', args.limit),
        ('device', args.device if args.device != 'cpu' else ''),
        ('variants', args.variants and args.variants.name),
        ('start', 'FAMILY' if args.start else ''))
    return ' '.join([*words, *('--%s %s' % (name, value) for name, value in named if value)])


def _show(net: Supernet, variants: Mapping[str, Variant], reached: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table('variant', 'MMAC', 'accuracy, test', 'accuracy, held back')
    macs = {name: net.plan(variant).macs for name, variant in variants.items()}
    for name in sorted(macs, key=lambda v: -macs[v]):
        held: List[str] = ['%.4f' % reached['held_back_accuracy'][name]] \
            if reached['held_back_accuracy'] else ['']
        table.add_row(name, '%.2f' % (macs[name] / 1e6), '%.4f' % reached['accuracy'][name], *held)
    Console().print(table)
