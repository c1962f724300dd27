# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt train`: data -> shared weights -> front -> bundle, resumable."""
from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.machine_lock import wait_while_held

if TYPE_CHECKING:
    from crowdhmt_ros.elastic.data import Images, Mixture
    from crowdhmt_ros.elastic.training import Trainer

TASKS = ('campus7',)
CALIBRATION_IMAGES = 4096


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'train', help='train the model family and write the bundle (needs the extra train)')
    parser.add_argument('task', nargs='?', default=TASKS[0], choices=TASKS)
    parser.add_argument('--data', type=Path, default=None,
                        help='folder with the photo archives (default: CROWDHMT_DATA)')
    parser.add_argument('--out', type=Path, required=True, help='folder of the new bundle')
    parser.add_argument('--checkpoint-dir', type=Path, default=None,
                        help='where the training can be resumed from (default: the cache)')
    parser.add_argument('--resume', action='store_true', help='go on from the checkpoint')
    parser.add_argument('--epochs', type=int, default=0,
                        help="one cycle of so many epochs instead of the recipe's")
    parser.add_argument('--seed', type=int, default=7)
    parser.add_argument('--threads', type=int, default=2, help='threads of the training')
    parser.add_argument('--weights', metavar='BUNDLE', default=None,
                        help='do not train: keep weights and accuracies of this bundle, cut it '
                        'anew and measure what crosses the cuts (needs no photos)')
    parser.add_argument('--quick', action='store_true',
                        help='minutes instead of an hour, for trying out; less accurate')
    return parser


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
    return ' '.join(words)


def _configure_threads(count: int) -> None:
    """Let idle training threads sleep; must come before torch is imported."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    os.environ.setdefault('GOMP_SPINCOUNT', '0')
    import torch
    torch.set_num_threads(count)


def run(args: argparse.Namespace) -> int:
    """
    Train and write the bundle.

    :returns: 0
    :raises DataError: data or checkpoint cannot be used
    """
    data = None if args.weights else _data_dir(args.data)
    try:
        _configure_threads(args.threads)
        from crowdhmt_ros.cli import campus7
    except ImportError as e:
        raise DataError('training needs %s; install the extra train' % e.name) from e
    amounts, recipe = campus7.QUICK if args.quick else campus7.FULL
    if args.epochs:
        cycle = dataclasses.replace(recipe.cycles[0], epochs=args.epochs)
        recipe = dataclasses.replace(recipe, cycles=(cycle,))
    cache = (args.checkpoint_dir or default_cache_dir() / 'train').expanduser()
    if data is None:
        _cut(args, amounts, cache)
        return 0
    mixture, sets = _load(data, amounts, cache)
    trainer = _trainer(args, mixture, recipe, cache)
    _train(trainer, recipe.epochs)
    _finish(args, trainer, mixture, sets, cache, (amounts, recipe))
    return 0


def _load(data: Path, amounts: Any, cache: Path) -> Tuple[Mixture, Dict[str, Images]]:
    """Load photos and render scenes: what to learn from, and condition -> test images."""
    from crowdhmt_ros.campus.scene import CLASSES
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.data import PHOTO_WEIGHTS, Mixture, join, load_photos
    with _bar('reading photos') as report:
        photos = load_photos(data, CLASSES, train=True)
        report(1, 2)
        sets = {'photos': load_photos(
            data, CLASSES, train=False, limit=amounts.test_photo_limit)}
        report(2, 2)
    train = []
    for band in campus7.TRAIN_BANDS:
        with _bar('rendering scenes to learn, ' + band) as report:
            train.append(campus7.scenes(
                campus7.TRAIN_SCENE_SEED, band, amounts.train_scenes, cache, report))
    sets.update(_test_scenes(amounts.test_scenes, cache))
    weights = tuple(PHOTO_WEIGHTS.get(c, 1.0) for c in CLASSES)
    return Mixture(photos, join(train), amounts.photos_per_epoch, amounts.scenes_per_epoch,
                   weights), sets


def _test_scenes(count: int, cache: Path) -> Dict[str, Images]:
    from crowdhmt_ros.cli import campus7
    sets = {}
    for band in campus7.TEST_BANDS:
        with _bar('rendering scenes to test, ' + band) as report:
            sets['scenes/' + band] = campus7.scenes(
                campus7.TEST_SCENE_SEED, band, count, cache, report)
    return sets


def _cut(args: argparse.Namespace, amounts: Any, cache: Path) -> None:
    """Write a bundle again with cuts and what was measured of them."""
    from crowdhmt_ros.bundle.reader import open_bundle
    from crowdhmt_ros.cli import campus7
    bundle = open_bundle(args.weights)
    sets = _test_scenes(amounts.crossing_scenes, cache)
    with _bar('measuring') as report:
        digest = campus7.write_cuts(bundle, args.out, sets, cache=cache, progress=report,
                                    crossing_scenes=amounts.crossing_scenes)
    print('bundle %s in %s' % (digest[:16], args.out))


def _trainer(args: argparse.Namespace, mixture: Mixture, recipe: Any, cache: Path) -> Trainer:
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.training import Trainer
    trainer = Trainer(
        campus7.backbone(), mixture, recipe, seed=args.seed, normalisation=campus7.NORMALISATION,
        checkpoint=cache / ('checkpoint-%s.pt' % args.task), pause=_pause)
    if args.resume and trainer.resume():
        print('going on at epoch %d, step %d' % (
            trainer.position.epoch + 1, trainer.position.step))
    return trainer


def _pause() -> None:
    wait_while_held()


def _train(trainer: Trainer, epochs: int) -> None:
    """Train to the end, showing progress and the smoothed loss per epoch."""
    loss = None
    with _bar('training') as report:
        for position, value in trainer.run():
            loss = value if loss is None else 0.98 * loss + 0.02 * value
            done = position.epoch * trainer.steps_per_epoch + position.step + 1
            report(done, epochs * trainer.steps_per_epoch, ' loss %.3f' % loss)


def _finish(args: argparse.Namespace, trainer: Trainer, mixture: Mixture,
            sets: Dict[str, Images], cache: Path, plan: Tuple[Any, Any]) -> None:
    """Recalibrate, export, measure, write and show."""
    from crowdhmt_ros.cli import campus7
    from crowdhmt_ros.elastic.export import export_family
    from crowdhmt_ros.elastic.training import calibration_batches, recalibrate, round_weights
    round_weights(trainer.net)
    front = campus7.front()
    images = calibration_batches(
        mixture, CALIBRATION_IMAGES, args.seed, campus7.NORMALISATION)
    family = export_family(trainer.net, front, recalibrate(trainer.net, front, images))
    with _bar('measuring') as report:
        digest = campus7.write_measured(
            family, args.out, sets, cache=cache,
            origin=campus7.provenance(_command(args), args.seed, *plan), progress=report,
            crossing_scenes=plan[0].crossing_scenes)
    _show(campus7.table(args.out))
    print('bundle %s in %s' % (digest[:16], args.out))


def _show(rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


class _bar:  # noqa: N801 - used as a context manager function
    """A progress bar on a terminal; a line now and then elsewhere."""

    def __init__(self, title: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
        self._title = title
        self._progress = Progress(
            TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn())
        self._task = self._progress.add_task(title, total=None)
        self._quiet = not self._progress.console.is_terminal
        self._shown = 0

    def __enter__(self) -> _bar:
        if not self._quiet:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._quiet:
            self._progress.stop()

    def __call__(self, done: int, total: int, note: str = '') -> None:
        """Show that `done` of `total` is done."""
        if not self._quiet:
            self._progress.update(
                self._task, completed=done, total=total, description=self._title + note)
        elif 20 * done // total > self._shown or done == total:
            self._shown = 20 * done // total
            print('%s: %d of %d%s' % (self._title, done, total, note), flush=True)
