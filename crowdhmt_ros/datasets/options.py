# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a data set is to be opened."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Tuple

from crowdhmt_ros.datasets.logmel import LogMel
from crowdhmt_ros.errors import DataError, all_problems

SPLITS = ('all', 'train', 'val', 'test')
CHECKS = ('auto', 'items', 'heads', 'none')


@dataclass(frozen=True)
class OpenOptions:
    """
    What `open_dataset` was asked for.

    :param split: 'all', 'train', 'val' or 'test'
    :param size: (height, width) of images, pixels; None: as stored where all are alike, else 224
    :param strict: an unreadable item is an error
    :param held_out: names of the folds or subjects that make the test part
    :param check: 'items' decodes each item, 'heads' looks at the first bytes, 'none' neither;
        'auto' decodes up to 20000 items and looks at the heads of more
    :param coarse: CIFAR-100: the twenty coarse classes
    :param esc10: ESC-50: only the clips of its ten-class part
    :param window_samples: length of an inertial window
    :param spectrogram: how sound becomes an input
    :raises DataError: a value that does not exist
    """

    split: str
    size: Optional[Tuple[int, int]] = None
    strict: bool = False
    held_out: Tuple[str, ...] = ()
    check: str = 'auto'
    coarse: bool = False
    esc10: bool = False
    window_samples: int = 128
    spectrogram: LogMel = field(default_factory=LogMel)

    def __post_init__(self) -> None:
        problems = []
        if self.split not in SPLITS:
            problems.append('no split %r; there are %s' % (self.split, ', '.join(SPLITS)))
        if self.check not in CHECKS:
            problems.append('no check %r; there are %s' % (self.check, ', '.join(CHECKS)))
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            problems.append('size is (height, width) in pixels, not %r' % (self.size,))
        if self.window_samples < 1:
            problems.append('a window of %d samples' % self.window_samples)
        if self.held_out and self.split not in ('all', 'train', 'test'):
            problems.append('held_out makes the splits train and test, not %s' % self.split)
        if problems:
            raise DataError(all_problems(problems))
