# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Real photos for the campus: CIFAR-10 and CIFAR-100 with their classes mapped to this project's.

The mapping and its reasons are in docs/decisions/0001-campus7-data.md.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

import numpy as np

from crowdhmt_ros.datasets.cifar import read_npz
from crowdhmt_ros.datasets.dataset import ArrayItems, LabelledSet
from crowdhmt_ros.datasets.images import quiet_opencv
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.errors import DataError

LAYOUT = 'campus_photos'
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


def load_photos(directory: Path, classes: Sequence[str], *, train: bool, size: int = 64,
                limit: int = 0) -> LabelledSet:
    """
    Load the mapped photos of the training or the test files into memory.

    :param directory: folder with the cifar*.npz files
    :param classes: this project's classes, in order
    :param train: which files
    :param size: edge of the images, pixels; stretched by `cv2.INTER_AREA` as on the robot
    :param limit: about as many images per file, evenly spread; 0 takes all
    :raises DataError: a file is missing or malformed
    """
    parts = [_load_file(directory / name, mapping, classes, size, limit)
             for name, mapping in (TRAIN_FILES if train else TEST_FILES)]
    pixels = np.concatenate([part.take(range(len(part)))[0] for part in parts])
    return replace(parts[0], layout=LAYOUT, items=ArrayItems(pixels, word='photo'),
                   rows=np.arange(len(pixels), dtype=np.int64),
                   labels=np.concatenate([part.labels for part in parts]))


def load_all_photos(directory: Path, *, size: int = 64, limit: int = 0) -> LabelledSet:
    """
    Load all photos of the training files, under the photo sets' own classes.

    These 110 classes are finer than the campus's, and there are more photos of them.

    :param directory: folder with the cifar*.npz files
    :param size: edge of the images, pixels
    :param limit: about as many images per file, evenly spread; 0 takes all
    :raises DataError: a file is missing or malformed
    """
    classes: List[str] = []
    parts = []
    for name, _ in TRAIN_FILES:
        own = _read(directory / name, size).classes
        part = _load_file(directory / name, {n: (n,) for n in own}, own, size, limit)
        parts.append(replace(part, labels=part.labels + len(classes)))
        classes += own
    pixels = np.concatenate([part.take(range(len(part)))[0] for part in parts])
    return replace(parts[0], layout=LAYOUT, items=ArrayItems(pixels, word='photo'),
                   rows=np.arange(len(pixels), dtype=np.int64), classes=tuple(classes),
                   labels=np.concatenate([part.labels for part in parts]))


def _load_file(path: Path, mapping: Mapping[str, Sequence[str]], classes: Sequence[str],
               size: int, limit: int) -> LabelledSet:
    data = _read(path, size)
    try:
        return _mapped(data, mapping, classes, limit)
    except DataError as e:
        raise _unusable(path, e) from e


def _read(path: Path, size: int) -> LabelledSet:
    if not path.is_file():
        raise DataError('%s is missing; point --data or CROWDHMT_DATA at the folder that has it'
                        % path.name)
    try:
        return read_npz(path, OpenOptions(
            'train' if 'train' in path.stem else 'test', (size, size), check='none'))
    except DataError as e:
        raise _unusable(path, e) from e


def _unusable(path: Path, error: DataError) -> DataError:
    return DataError('%s cannot be used (%s); copy the file again' % (path.name, error))


def _mapped(data: LabelledSet, mapping: Mapping[str, Sequence[str]], classes: Sequence[str],
            limit: int) -> LabelledSet:
    """Decode the photos of mapped classes and give them this project's labels."""
    absent = [n for names in mapping.values() for n in names if n not in data.classes]
    if absent:
        raise DataError('it lacks the classes %s' % ', '.join(absent))
    to_class = {data.classes.index(n): classes.index(c)
                for c, names in mapping.items() for n in names}
    wanted: List[int] = [i for i, y in enumerate(data.labels) if int(y) in to_class]
    if limit:
        wanted = wanted[::max(1, len(wanted) // limit)]
    with quiet_opencv():
        part = data.subset(wanted).in_memory()
    labels = np.array([to_class[int(y)] for y in part.labels], np.int64)
    return replace(part, classes=tuple(classes), labels=labels)
