# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Training and test images: real photos with their class mapping, and batches of both domains.

The mapping and its reasons are in docs/decisions/0001-campus7-data.md.
"""
from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.errors import DataError

CIFAR10: Mapping[str, Tuple[str, ...]] = {
    'car': ('automobile',),
    'bird': ('bird',),
    'other': ('dog', 'horse', 'ship'),
}
CIFAR100: Mapping[str, Tuple[str, ...]] = {
    'pedestrian': ('baby', 'boy', 'girl', 'man', 'woman'),
    'bicycle': ('bicycle',),
    'car': ('pickup_truck',),
    'building': ('castle', 'house', 'skyscraper'),
    'green_space': ('forest', 'maple_tree', 'oak_tree', 'palm_tree', 'pine_tree', 'willow_tree'),
    'other': (
        'apple', 'aquarium_fish', 'bear', 'bed', 'bottle', 'bowl', 'camel', 'can', 'cattle',
        'chair', 'clock', 'cloud', 'couch', 'cup', 'dolphin', 'elephant', 'fox', 'keyboard',
        'lamp', 'leopard', 'lion', 'mushroom', 'orange', 'pear', 'plate', 'rabbit', 'road', 'sea',
        'shark', 'skunk', 'squirrel', 'sweet_pepper', 'table', 'telephone', 'television', 'tiger',
        'wardrobe', 'whale', 'wolf'),
}
"""Class of this project -> classes of the photo set; what is in neither is left out."""

TRAIN_FILES = (('cifar10_train5k.npz', CIFAR10), ('cifar100_train50k.npz', CIFAR100))
TEST_FILES = (('cifar10_test5k.npz', CIFAR10), ('cifar100_test5k.npz', CIFAR100))

PHOTO_WEIGHTS: Mapping[str, float] = {'other': 1.6, 'bird': 1.2, 'bicycle': 0.7}
"""Share of a class among the photos of an epoch, relative to 1."""


@dataclass(frozen=True, eq=False)
class Images:
    """
    Labelled images of one domain.

    :param pixels: shape (n, size, size, 3), uint8, RGB
    :param labels: shape (n,), int64, indices into the classes
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _open(path: Path) -> Dict[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {k: archive[k] for k in ('blob', 'offsets', 'y', 'classes')}
    except FileNotFoundError:
        raise DataError('%s is missing; point --data or CROWDHMT_DATA at the folder that has it'
                        % path.name) from None
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise DataError('%s is not a photo archive with blob, offsets, y and classes (%s); '
                        'copy the file again' % (path.name, str(e).splitlines()[0])) from e


def _check(name: str, archive: Mapping[str, NDArray[np.generic]]) -> None:
    offsets, labels = archive['offsets'], archive['y']
    problem = ''
    if offsets.ndim != 1 or len(offsets) != len(labels) + 1:
        problem = '%d offsets for %d labels' % (offsets.size, labels.size)
    elif np.any(np.diff(offsets.astype(np.int64)) <= 0) or offsets[-1] > archive['blob'].size:
        problem = 'offsets that do not ascend within the blob'
    elif labels.size and int(labels.max()) >= len(archive['classes']):
        problem = 'a label beyond its %d classes' % len(archive['classes'])
    if problem:
        raise DataError('%s has %s; copy the file again' % (name, problem))


def _decode(name: str, archive: Mapping[str, NDArray[np.generic]], index: int, size: int
            ) -> NDArray[np.uint8]:
    start, stop = (int(archive['offsets'][index + k]) for k in (0, 1))
    blob = archive['blob'][start:stop].astype(np.uint8)
    image = cv2.imdecode(blob, cv2.IMREAD_COLOR)
    if image is None:
        raise DataError('%s: image %d cannot be decoded; copy the file again' % (name, index))
    resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)


def _load_file(
        path: Path, mapping: Mapping[str, Sequence[str]], classes: Sequence[str], size: int,
        limit: int) -> Images:
    archive = _open(path)
    _check(path.name, archive)
    source = [str(c) for c in archive['classes']]
    absent = [n for names in mapping.values() for n in names if n not in source]
    if absent:
        raise DataError('%s lacks the classes %s' % (path.name, ', '.join(absent)))
    to_class = {source.index(n): classes.index(c) for c, names in mapping.items() for n in names}
    wanted = [i for i, y in enumerate(archive['y']) if int(y) in to_class]
    if limit:
        wanted = wanted[::max(1, len(wanted) // limit)]
    pixels = np.empty((len(wanted), size, size, 3), np.uint8)
    for row, index in enumerate(wanted):
        pixels[row] = _decode(path.name, archive, index, size)
    return Images(pixels, np.array([to_class[int(archive['y'][i])] for i in wanted], np.int64))


def load_photos(
        directory: Path, classes: Sequence[str], *, train: bool, size: int = 64,
        limit: int = 0) -> Images:
    """
    Load the mapped photos of the training or the test files.

    :param directory: folder with the cifar*.npz files
    :param classes: this project's classes, in order
    :param train: which files
    :param size: edge of the images, pixels; stretched by `cv2.INTER_AREA` as on the robot
    :param limit: about as many images per file, evenly spread; 0 takes all
    :raises DataError: a file is missing or malformed
    """
    parts = [_load_file(directory / name, mapping, classes, size, limit)
             for name, mapping in (TRAIN_FILES if train else TEST_FILES)]
    return join(parts)


def join(parts: Sequence[Images]) -> Images:
    """Put several sets of equal image size together."""
    return Images(np.concatenate([p.pixels for p in parts]),
                  np.concatenate([p.labels for p in parts]))


def balanced_draw(
        images: Images, count: int, rng: np.random.Generator, weights: Sequence[float]
        ) -> NDArray[np.int64]:
    """
    Draw indices so that each class gets its share, each image of it about equally often.

    :param count: number of indices
    :param weights: per class its share relative to the others
    """
    present = [c for c in range(len(weights)) if np.any(images.labels == c)]
    total = sum(weights[c] for c in present)
    drawn: List[NDArray[np.int64]] = []
    for c in present:
        members = np.flatnonzero(images.labels == c)
        wanted = round(count * weights[c] / total)
        rounds = [rng.permutation(members) for _ in range(-(-wanted // len(members)))]
        drawn.append(np.concatenate(rounds)[:wanted] if rounds else members[:0])
    return rng.permutation(np.concatenate(drawn))


def _warp(image: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut out a shifted, perhaps zoomed and mirrored part, `size` pixels wide."""
    edge = image.shape[0]
    zoom = 1.0 if rng.random() < 0.5 else rng.uniform(0.8, 1.1)
    shift = rng.integers(-edge // 8, edge // 8 + 1, 2)
    scale = size / edge * zoom
    centre = edge / 2.0
    matrix = np.array([[scale, 0.0, size / 2.0 - scale * (centre + shift[0])],
                       [0.0, scale, size / 2.0 - scale * (centre + shift[1])]])
    # Pixel centres lie at half-integers; without this a pure shift would blur.
    matrix[:, 2] += (scale - 1.0) / 2.0
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.asarray(cv2.warpAffine(
        np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _jitter(batch: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change brightness, contrast and colour of each image of (n, h, w, 3), values 0..255."""
    n = len(batch)
    gain = rng.uniform(0.7, 1.25, (n, 1, 1, 1)) * rng.uniform(0.94, 1.06, (n, 1, 1, 3))
    offset = rng.uniform(-20.0, 20.0, (n, 1, 1, 1))
    batch *= gain.astype(np.float32)
    batch += offset.astype(np.float32)
    return np.clip(batch, 0.0, 255.0, out=batch)


def augmented_batch(
        pixels: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """
    Return varied copies of images.

    :param pixels: shape (n, edge, edge, 3), uint8
    :param size: edge of the result, pixels
    :returns: shape (n, size, size, 3), float32, 0..255
    """
    warped = np.stack([_warp(p, size, rng) for p in pixels]).astype(np.float32)
    return _jitter(warped, rng)


@dataclass(frozen=True, eq=False)
class Mixture:
    """
    What one epoch draws from: both domains, each balanced over the classes.

    :param photos: real photos
    :param scenes: rendered scenes
    :param photos_per_epoch: images
    :param scenes_per_epoch: images
    :param photo_weights: per class its share of the photos, relative
    """

    photos: Images
    scenes: Images
    photos_per_epoch: int
    scenes_per_epoch: int
    photo_weights: Tuple[float, ...]

    def order(self, rng: np.random.Generator) -> Tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return domain (0 photos, 1 scenes) and index of each image of an epoch, shuffled."""
        even = [1.0] * len(self.photo_weights)
        parts = [balanced_draw(self.photos, self.photos_per_epoch, rng, self.photo_weights)]
        if len(self.scenes.labels):
            parts.append(balanced_draw(self.scenes, self.scenes_per_epoch, rng, even))
        domain = np.concatenate([np.full(len(p), d, np.int64) for d, p in enumerate(parts)])
        shuffle = rng.permutation(len(domain))
        return domain[shuffle], np.concatenate(parts)[shuffle]

    def take(self, domain: NDArray[np.int64], index: NDArray[np.int64]) -> Images:
        """Gather the images that `order` named."""
        sources = (self.photos, self.scenes)
        pixels = np.stack([sources[d].pixels[i] for d, i in zip(domain, index)])
        labels = np.array([sources[d].labels[i] for d, i in zip(domain, index)], np.int64)
        return Images(pixels, labels)


def batches(
        mixture: Mixture, batch_size: int, seed: int, epoch: int
        ) -> Iterator[Tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """
    Yield (step, domain, index) of each full batch of an epoch; a function of seed and epoch.

    :param batch_size: images per batch
    :param seed: of the whole training
    :param epoch: from 0
    """
    domain, index = mixture.order(np.random.default_rng((seed, epoch)))
    for step in range(len(domain) // batch_size):
        rows = slice(step * batch_size, (step + 1) * batch_size)
        yield step, domain[rows], index[rows]
