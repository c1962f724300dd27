# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The task `campus7`: which data, which network, which front.

Here the campus (scenes), photos and `elastic` (training) meet; `campus7_bundle` measures and
writes what comes out.
"""
from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.campus.scene import CLASSES, independent_scene
from crowdhmt_ros.datasets.campus_photos import PHOTO_WEIGHTS, load_all_photos, load_photos
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.elastic.teaching.images import Images
from crowdhmt_ros.elastic.teaching.mixture import Normalisation
from crowdhmt_ros.elastic.teaching.recipe import Recipe
from crowdhmt_ros.elastic.teaching.recipe_file import read_recipe
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.share import config_folders
from crowdhmt_ros.types import InputSpec, Variant

EDGE = 64
TRAIN_BANDS = ('noon', 'afternoon')
TEST_BANDS = ('noon', 'afternoon', 'dusk')
TRAIN_SCENE_SEED = 71001
TEST_SCENE_SEED = 71002
NORMALISATION = Normalisation()
BACKBONE = Reference('residual', len(CLASSES),
                     {'widths': (32, 64, 128, 192), 'blocks': 2, 'edge': EDGE})
EXITS = (3,)
"""Stages after which the network may answer early."""
SHORTER = ((depth(2),), (depth(1),), (depth(1),), (depth(1),))
"""One block less in each stage; the stem counts as a block of the first."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Amounts:
    """
    How much data.

    :param feature_photos_per_epoch: images of the photo sets' own classes
    :param photos_per_epoch: images
    :param scenes_per_epoch: images
    :param train_scenes: rendered once, per band of `TRAIN_BANDS`
    :param test_scenes: per band of `TEST_BANDS`
    :param test_photo_limit: per test file, 0 for all
    :param crossing_scenes: of the test scenes, to measure what crosses to a peer
    :param calibration_images: from which each variant gets its statistics
    """

    feature_photos_per_epoch: int = 55000
    photos_per_epoch: int = 16000
    scenes_per_epoch: int = 8000
    train_scenes: int = 7000
    test_scenes: int = 6006
    test_photo_limit: int = 0
    crossing_scenes: int = 1001
    calibration_images: int = 4096


@dataclass(frozen=True)
class Scale:
    """
    How long the task is trained.

    :param amounts: how much data
    :param features: recipe under config/recipes of the training on the photo sets' own classes,
        whose features the family starts from
    :param recipe: of the training on the campus's classes
    """

    amounts: Amounts
    features: str
    recipe: str


FULL = Scale(Amounts(), 'campus7_features', 'campus7')
QUICK = Scale(Amounts(2560, 2560, 1536, 1050, 700, 350, 210, 512), 'campus7_features_quick',
              'campus7_quick')


@dataclass(frozen=True)
class Member:
    """
    A variant of the front: the same in all stages that it runs.

    :param width: ratio of the channels
    :param shorter: with one block less in each stage
    :param exit_index: where it answers
    """

    width: float = 1.0
    shorter: bool = False
    exit_index: int = 1

    def variant(self) -> Variant:
        """Describe it as the network takes it."""
        narrow = (channel(self.width),) if self.width < 1.0 else ()
        stages = (*EXITS, len(SHORTER))[self.exit_index]
        return Variant(tuple(
            (*narrow, *(SHORTER[s] if self.shorter else ())) for s in range(stages)),
            self.exit_index)


FRONT: Mapping[str, Member] = {
    'w100d2': Member(),
    'w075d2': Member(0.75),
    'w050d2': Member(0.5),
    'w050d1': Member(0.5, shorter=True),
    'w038d1': Member(0.375, shorter=True),
    'w038d1e0': Member(0.375, shorter=True, exit_index=0),
}
"""Width in %, depth, exit. What other operators make of this network was never both cheaper and
as accurate, see docs/decisions/0001."""


def front() -> Dict[str, Variant]:
    """Name the variants, in the order of `FRONT`."""
    return {name: member.variant() for name, member in FRONT.items()}


def recipe_named(name: str) -> Recipe:
    """
    Read a recipe that comes with the package.

    :param name: of a file in config/recipes, without its ending
    :raises ConfigError: it is missing or malformed
    """
    for folder in config_folders('recipes'):
        path = folder / (name + '.yaml')
        if path.is_file():
            return read_recipe(path)
    raise ConfigError('recipe %s.yaml is missing in config/recipes; install the package anew'
                      % name)


def input_spec() -> InputSpec:
    """Describe the input of every whole graph."""
    n = NORMALISATION
    return InputSpec('image', 'float32', (1, 3, EDGE, EDGE), 'rgb', 'area', n.scale, n.mean, n.std)


def photos(directory: Path, *, train: bool, limit: int = 0) -> Images:
    """
    Load the photos of the classes.

    :param directory: folder with the archives
    :param limit: about as many per file, 0 for all
    :raises DataError: a file is missing or malformed
    """
    data = load_photos(directory, CLASSES, train=train, size=EDGE, limit=limit)
    pixels, labels = data.take(range(len(data)))
    return Images(np.asarray(pixels, np.uint8), labels)


def all_photos(directory: Path, *, limit: int = 0) -> Tuple[Images, int]:
    """
    Load the photos under the photo sets' own classes.

    :param limit: about as many per file, 0 for all
    :returns: photos, and how many classes they have
    :raises DataError: a file is missing or malformed
    """
    data = load_all_photos(directory, size=EDGE, limit=limit)
    pixels, labels = data.take(range(len(data)))
    return Images(np.asarray(pixels, np.uint8), labels), len(data.classes)


def photo_weights() -> Tuple[float, ...]:
    """Share of each class among the photos of an epoch, relative."""
    return tuple(PHOTO_WEIGHTS.get(c, 1.0) for c in CLASSES)


def _render(work: Tuple[int, str, int, int]) -> Tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Render scenes start..stop of a band as the robot's network sees them."""
    seed, band, start, stop = work
    pixels = np.empty((stop - start, EDGE, EDGE, 3), np.uint8)
    labels = np.empty(stop - start, np.int64)
    for row, index in enumerate(range(start, stop)):
        image, labels[row] = independent_scene(seed, index, band)
        resized = cv2.resize(image, (EDGE, EDGE), interpolation=cv2.INTER_AREA)
        pixels[row] = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return pixels, labels


def renderer_digest() -> str:
    """Name the renderer by pictures, so that a cache never outlives a change of it."""
    digest = hashlib.sha256()
    for band in TEST_BANDS:
        digest.update(_render((1, band, 0, 4 * len(CLASSES)))[0].tobytes())
    return digest.hexdigest()[:16]


def scenes(seed: int, band: str, count: int, cache: Path, progress: Progress) -> Images:
    """
    Render a balanced set of independent scenes, or take it from the cache.

    :param seed: names the set
    :param band: light band
    :param count: scenes
    :param cache: folder for rendered sets
    :param progress: called with (done, total)
    """
    path = cache / ('scenes-%s-%d-%s-%d.npz' % (renderer_digest(), seed, band, count))
    if path.exists():
        with np.load(path) as archive:
            return Images(archive['pixels'], archive['labels'])
    chunk = 250
    work = [(seed, band, i, min(i + chunk, count)) for i in range(0, count, chunk)]
    parts: List[Tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(_render, work):
            parts.append(part)
            progress(len(parts), len(work))
    images = Images(np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]))
    cache.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix('.part.npz')
    np.savez(beside, pixels=images.pixels, labels=images.labels)
    os.replace(beside, path)
    return images
