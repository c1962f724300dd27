# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`crowdhmt train`: data -> shared weights -> front -> bundle, resumable.

`campus7` ends in a bundle, here; other tasks, which a YAML file describes, in a family
(`train_task`).
"""
from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.cli.progress import Bar
from crowdhmt_ros.cli.train_progress import on_bar, pause
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.share import config_folders

if TYPE_CHECKING:
    from crowdhmt_ros.cli.campus7 import Amounts
    from crowdhmt_ros.elastic.supernet import Supernet
    from crowdhmt_ros.elastic.teaching.images import Images
    from crowdhmt_ros.elastic.teaching.mixture import Mixture
    from crowdhmt_ros.elastic.teaching.recipe import Recipe
    from crowdhmt_ros.elastic.teaching.trainer import Trainer

CAMPUS7 = 'campus7'
CALIBRATION_BATCH = 256
DEVICES = ('cpu', 'cuda')


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'train', help='train the model family and write the bundle (needs the extra train)')
    parser.add_argument('task', nargs='?', default=CAMPUS7, metavar='TASK',
                        help='%s, or the path of a YAML file (default: %s)' % (
                            ', '.join(task_names()), CAMPUS7))
    parser.add_argument('--data', type=Path, default=None,
                        help="folder with the task's files (default: CROWDHMT_DATA)")
    parser.add_argument('--out', type=Path, required=True,
                        help='folder of the new bundle; of family.pt and log.json for tasks '
                        'other than campus7')
    parser.add_argument('--checkpoint-dir', type=Path, default=None,
                        help='where the training can be resumed from (default: --out; for '
                        'campus7 the cache, and its trained family is left there)')
    parser.add_argument('--resume', action='store_true', help='go on from the checkpoint')
    parser.add_argument('--start', metavar='FAMILY', type=Path, default=None,
                        help='file of a family whose tensors training starts from, instead of '
                        'features learnt first')
    parser.add_argument('--phases', metavar='NAME,...', default='',
                        help='run only these phases of the recipe')
    parser.add_argument('--epochs', type=int, default=0,
                        help='scale the recipe to so many epochs in all, features included')
    parser.add_argument('--seed', type=int, default=7)
    parser.add_argument('--threads', type=int, default=2, help='threads of the training')
    parser.add_argument('--device', choices=DEVICES, default=DEVICES[0],
                        help='where the training computes; all else is done by the processor')
    parser.add_argument('--weights', metavar='BUNDLE', default=None,
                        help='do not train: keep weights and accuracies of this bundle, cut it '
                        'anew and measure what crosses the cuts (needs no photos)')
    parser.add_argument('--quick', action='store_true',
                        help='minutes instead of an hour, for trying out; less accurate')
    _add_task_options(parser.add_argument_group('tasks other than campus7'))
    return parser


def _add_task_options(group: Any) -> None:
    group.add_argument('--recipe', default='', help="another one than the task's: its name in "
                       'config/recipes, or the path of a YAML file')
    group.add_argument('--variants', type=Path, default=None, metavar='FILE',
                       help='variants to train by name, calibrate and measure: benchmarks/'
                       'variants.yaml, or a front that crowdhmt search wrote')
    group.add_argument('--held-out', default='', metavar='NAME,...',
                       help='folds or subjects to test on (default: the last fifth of them)')
    group.add_argument('--fold', type=int, default=0, metavar='N',
                       help="test on the task's N-th fold, from 1")
    group.add_argument('--ranks', type=int, default=1, metavar='N',
                       help='train in so many processes on this machine, which share each batch '
                       'and --threads')
    group.add_argument('--limit', type=int, default=None, metavar='N',
                       help='learn from so many inputs at most')


def task_names() -> Tuple[str, ...]:
    """Name what can be trained: campus7, and the tasks in config/tasks."""
    found = {p.stem for folder in config_folders('tasks') for p in folder.glob('*.yaml')}
    return (CAMPUS7, *sorted(found))


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is asked for, as far as the result depends on it."""

    amounts: Amounts
    features: Optional[Recipe]
    recipe: Recipe
    start_sha256: str


def _data_dir(given: Any) -> Path:
    named = given or os.environ.get('CROWDHMT_DATA')
    if not named:
        raise DataError('no folder with photos is named; give --data or set CROWDHMT_DATA')
    return Path(named)


def _command(args: argparse.Namespace) -> str:
    """Return the command that makes these weights again, without this machine's paths."""
    words = ['crowdhmt train', args.task, '--out DIR', '--seed %d' % args.seed]
    if args.epochs:
        words.append('--epochs %d' % args.epochs)
    if args.quick:
        words.append('--quick')
    if args.start:
        words.append('--start FAMILY')
    if args.phases:
        words.append('--phases %s' % args.phases)
    return ' '.join(words)


def configure_threads(count: int) -> None:
    """Let idle training threads sleep; must come before torch is imported."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    os.environ.setdefault('GOMP_SPINCOUNT', '0')
    import torch
    torch.set_num_threads(count)


def run(args: argparse.Namespace) -> int:
    """
    Train and write the bundle.

    :returns: 0
    :raises DataError: data, checkpoint or family cannot be used
    :raises ConfigError: the recipe has no such phase
    """
    if min(args.threads, args.ranks) < 1 or min(args.epochs, args.fold, args.limit or 0) < 0:
        raise DataError('--threads and --ranks take at least 1, --epochs, --fold and --limit at '
                        'least 0')
    _refuse_others_options(args)
    data = None if args.weights else _data_dir(args.data)
    try:
        configure_threads(args.threads)
        from crowdhmt_ros.cli import campus7
    except ImportError as e:
        raise DataError('training needs %s; install the extra train' % e.name) from e
    if data is not None and args.task != CAMPUS7:
        from crowdhmt_ros.cli import train_ranks, train_task
        return train_ranks.run(args, data) if args.ranks > 1 else train_task.run(args, data)
    cache = (args.checkpoint_dir or default_cache_dir() / 'train').expanduser()
    if data is None:
        _cut(args, (campus7.QUICK if args.quick else campus7.FULL).amounts, cache)
        return 0
    plan = _plan(args)
    photos = _photos(data, plan.amounts)
    net = _net(args)
    if plan.features is not None:
        _learn_features(args, net, data, plan.amounts, plan.features, cache)
    mixture, sets = _with_scenes(photos, plan.amounts, cache)
    _train(_trainer(args, net, mixture, plan.recipe, cache / 'checkpoint-campus7.pt'))
    _finish(args, net, mixture, sets, cache, plan)
    return 0


def _refuse_others_options(args: argparse.Namespace) -> None:
    """
    Refuse options that the task does not have.

    :raises ConfigError: they are given
    """
    campus7: List[Tuple[str, Any]] = [('--weights', args.weights), ('--quick', args.quick)]
    others = [('--recipe', args.recipe), ('--variants', args.variants),
              ('--held-out', args.held_out), ('--fold', args.fold), ('--limit', args.limit),
              ('--ranks', args.ranks > 1)]
    given = [name for name, value in (others if args.task == CAMPUS7 else campus7) if value]
    if given:
        raise ConfigError('task %s takes no %s; leave it out' % (args.task, ' and '.join(given)))


def _plan(args: argparse.Namespace) -> _Plan:
    """Read the recipe and take of it what is asked for."""
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.tasks.recipes import with_epochs, with_phases
    scale = campus7.QUICK if args.quick else campus7.FULL
    features = None if args.start else campus7.recipe_named(scale.features)
    recipe = campus7.recipe_named(scale.recipe)
    if args.phases:
        recipe = with_phases(recipe, [n.strip() for n in args.phases.split(',')])
    if args.epochs:
        ratio = args.epochs / (recipe.epochs + (features.epochs if features else 0))
        recipe = with_epochs(recipe, ratio)
        features = features and with_epochs(features, ratio)
    return _Plan(scale.amounts, features, recipe, _digest(args.start))


def _digest(path: Optional[Path]) -> str:
    if path is None:
        return ''
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError('family %s cannot be read (%s)' % (path, error.strerror)) from error


def _net(args: argparse.Namespace) -> Supernet:
    """Make the backbone elastic, and take over the tensors to start from."""
    import torch

    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.store import elastic_of, load_tensors
    torch.manual_seed(args.seed)
    net = elastic_of(campus7.BACKBONE, campus7.EXITS)
    if args.start is not None:
        load_tensors(net, args.start)
    return net


def _learn_features(args: argparse.Namespace, net: Supernet, data: Path, amounts: Amounts,
                    recipe: Recipe, cache: Path) -> None:
    """Train a family of the same backbone on the photo sets' own classes, and start from it."""
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.store import elastic_of, take_over
    from crowdhmt_ros.elastic.teaching.images import Images
    from crowdhmt_ros.elastic.teaching.mixture import Mixture
    photos, classes = campus7.all_photos(data, limit=amounts.feature_photos_per_epoch)
    finer = elastic_of(replace(campus7.BACKBONE, classes=classes), campus7.EXITS)
    mixture = Mixture(photos, Images(photos.pixels[:0], photos.labels[:0]),
                      amounts.feature_photos_per_epoch, 0, (1.0,) * classes,
                      campus7.NORMALISATION)
    _train(_trainer(args, finer, mixture, recipe, cache / 'checkpoint-campus7-features.pt'))
    take_over(net, finer)


def _photos(data: Path, amounts: Amounts) -> Tuple[Images, Images]:
    """Load photos to learn from and to test on."""
    from crowdhmt_ros.cli import campus7
    with Bar('reading photos') as report:
        train = campus7.photos(data, train=True)
        report(1, 2)
        test = campus7.photos(data, train=False, limit=amounts.test_photo_limit)
        report(2, 2)
    return train, test


def _with_scenes(photos: Tuple[Images, Images], amounts: Amounts, cache: Path
                 ) -> Tuple[Mixture, Dict[str, Images]]:
    """Render scenes: what to learn from, and condition -> test images."""
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.teaching.images import join
    from crowdhmt_ros.elastic.teaching.mixture import Mixture
    train = []
    for band in campus7.TRAIN_BANDS:
        with Bar('rendering scenes to learn, ' + band) as report:
            train.append(campus7.scenes(
                campus7.TRAIN_SCENE_SEED, band, amounts.train_scenes, cache, report))
    sets = {'photos': photos[1], **_test_scenes(amounts.test_scenes, cache)}
    return Mixture(photos[0], join(train), amounts.photos_per_epoch, amounts.scenes_per_epoch,
                   campus7.photo_weights(), campus7.NORMALISATION), sets


def _test_scenes(count: int, cache: Path) -> Dict[str, Images]:
    from crowdhmt_ros.cli import campus7
    sets = {}
    for band in campus7.TEST_BANDS:
        with Bar('rendering scenes to test, ' + band) as report:
            sets['scenes/' + band] = campus7.scenes(
                campus7.TEST_SCENE_SEED, band, count, cache, report)
    return sets


def _cut(args: argparse.Namespace, amounts: Amounts, cache: Path) -> None:
    """Write a bundle again with cuts and what was measured of them."""
    from crowdhmt_ros.bundle.reader import open_bundle
    from crowdhmt_ros.cli import campus7_bundle
    bundle = open_bundle(args.weights)
    sets = _test_scenes(amounts.crossing_scenes, cache)
    with Bar('measuring') as report:
        digest = campus7_bundle.write_cuts(
            bundle, args.out, sets, cache=cache, progress=report,
            crossing_scenes=amounts.crossing_scenes)
    print('bundle %s in %s' % (digest[:16], args.out))


def _trainer(args: argparse.Namespace, net: Supernet, mixture: Mixture, recipe: Recipe,
             checkpoint: Path) -> Trainer:
    from crowdhmt_ros.elastic.teaching.place import place_for
    from crowdhmt_ros.elastic.teaching.trainer import Trainer
    trainer = Trainer(
        net, recipe, mixture, seed=args.seed, place=place_for(args.device, recipe.precision),
        checkpoint_path=checkpoint, checkpoint_steps=50,
        pause=pause)
    if args.resume and trainer.resume():
        at = trainer.position
        print('training is done already' if at.phase == len(recipe.phases) else
              'going on with phase %s, epoch %d, step %d' % (
                  recipe.phases[at.phase].phase, at.epoch + 1, at.step))
    return trainer


def _train(trainer: Trainer) -> None:
    """Train to the end, showing the phase and its smoothed losses."""
    with Bar('training, %') as bar:
        trainer.run(on_bar(bar))


def _finish(args: argparse.Namespace, net: Supernet, mixture: Mixture,
            sets: Dict[str, Images], cache: Path, plan: _Plan) -> None:
    """Calibrate, export, measure, write and show."""
    import torch

    from crowdhmt_ros.cli import campus7, campus7_bundle
    from crowdhmt_ros.elastic.export import export_family
    from crowdhmt_ros.elastic.scaling import InputScaling
    from crowdhmt_ros.elastic.store import save_family
    from crowdhmt_ros.elastic.transformation import calibrate, round_weights
    net.cpu().eval()
    round_weights(net)
    front = campus7.front()
    statistics: Dict[str, Tuple[torch.Tensor, torch.Tensor]] = {}
    images = mixture.unvaried(
        -(-plan.amounts.calibration_images // CALIBRATION_BATCH), CALIBRATION_BATCH, 0)
    with Bar('calibrating') as report:
        for number, variant in enumerate(front.values(), 1):
            statistics = calibrate(net, [variant], images, statistics)
            report(number, len(front))
    path = cache / ('family-%s.pt' % args.task)
    colours = campus7.NORMALISATION
    save_family(net, path, backbone=campus7.BACKBONE, statistics=statistics,
                scaling=InputScaling(colours.mean, colours.std, colours.scale))
    family = export_family(net, front, statistics, torch.zeros(1, 3, campus7.EDGE, campus7.EDGE))
    with Bar('measuring accuracy') as report:
        accuracy, macs = campus7_bundle.measured(family, sets, cache=cache, progress=report)
    with Bar('measuring what crosses cuts') as report:
        digest = campus7_bundle.write_measured(
            family, accuracy, args.out, sets, cache=cache,
            origin=campus7_bundle.provenance(_command(args), args.seed, plan.amounts, plan.recipe,
                                             features=plan.features, start=plan.start_sha256),
            progress=report, crossing_scenes=plan.amounts.crossing_scenes)
    _show(campus7_bundle.table(accuracy, macs))
    print('family in %s\nbundle %s in %s' % (path, digest[:16], args.out))


def _show(rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
