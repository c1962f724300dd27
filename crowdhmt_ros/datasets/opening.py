# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One door for every layout."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Optional, Sequence, Tuple, Union

from crowdhmt_ros.datasets import cifar, esc, har, imagenet, images_by_class, statefarm
from crowdhmt_ros.datasets.dataset import LabelledSet
from crowdhmt_ros.datasets.logmel import LogMel
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """
    How one layout is told and read.

    :param recognises: whether a path looks like it; opens no item
    :param read: opens it
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, OpenOptions], LabelledSet]


LAYOUTS: Mapping[str, Layout] = {
    esc.NPZ_NAME: Layout(esc.recognises_npz, esc.read_npz),
    har.NPZ_NAME: Layout(har.recognises_npz, har.read_npz),
    cifar.NPZ_NAME: Layout(cifar.recognises_npz, cifar.read_npz),
    cifar.NAME: Layout(cifar.recognises, cifar.read),
    esc.NAME: Layout(esc.recognises, esc.read),
    statefarm.NAME: Layout(statefarm.recognises, statefarm.read),
    har.NAME: Layout(har.recognises, har.read),
    imagenet.NAME: Layout(imagenet.recognises, imagenet.read),
    images_by_class.NAME: Layout(images_by_class.recognises, images_by_class.read),
}
"""By name; recognised in this order, the general one last."""


def recognise(path: Path) -> str:
    """
    Return the name of the layout that a path has.

    :raises DataError: it has none
    """
    for name, layout in LAYOUTS.items():
        if layout.recognises(path):
            return name
    there = sorted(p.name for p in path.iterdir())[:6] if path.is_dir() else [path.name]
    raise DataError('%s has no layout that is known here (it has %s); layouts: %s' % (
        path, ', '.join(there) or 'nothing', ', '.join(LAYOUTS)))


def open_dataset(
        path: Union[Path, str], layout: str = 'auto', *, split: str,
        size: Optional[Tuple[int, int]] = None, strict: bool = False,
        held_out: Sequence[str] = (), check: str = 'auto', coarse: bool = False,
        esc10: bool = False, window_samples: int = 128, spectrogram: Optional[LogMel] = None,
        ) -> LabelledSet:
    """
    Open a data set; its inputs are read when they are asked for.

    :param path: folder or npz file
    :param layout: 'auto', or one of `LAYOUTS`; `LabelledSet.layout` says which was taken
    :param split: 'all', 'train', 'val' or 'test'. Where a layout has no splits of its own but
        folds or subjects, 'test' is some of them, whole, and 'train' the others
    :param size: (height, width) of images, pixels; by default as stored for CIFAR, else 224x224
    :param strict: an unreadable item is an error; otherwise it is skipped, up to a tenth
    :param held_out: names of the folds or subjects of the test part, whatever splits the layout
        has of its own; by default the last fifth of them
    :param check: 'items' decodes each item, 'heads' looks at the first bytes, 'none' neither;
        'auto' decodes up to 20000 items and looks at the heads of more
    :param coarse: CIFAR-100: the twenty coarse classes
    :param esc10: ESC-50: only the clips of its ten-class part
    :param window_samples: length of an inertial window
    :param spectrogram: how sound becomes an input
    :returns: the split, with what was skipped
    :raises DataError: all that is wrong with the data set or the options, in one line
    """
    place = Path(path)
    options = OpenOptions(split, size, strict, tuple(map(str, held_out)), check, coarse, esc10,
                          window_samples, spectrogram or LogMel())
    if layout != 'auto' and layout not in LAYOUTS:
        raise DataError('no layout %r; there are auto, %s' % (layout, ', '.join(LAYOUTS)))
    if not place.exists():
        raise DataError('%s does not exist' % place)
    name = recognise(place) if layout == 'auto' else layout
    if layout != 'auto' and place.is_dir() == name.endswith('_npz'):
        raise DataError('%s is a %s, the layout %s is a %s' % (
            place, *(('folder', name, 'file') if place.is_dir() else ('file', name, 'folder'))))
    opened = LAYOUTS[name].read(place, options)
    logger.info('%s: %s', place, opened.describe())
    return opened
