# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`LabelledSet`: labelled inputs of one split, read one by one or in batches, whatever the layout.

Items are read when asked for; nothing here holds a data set in memory unless `in_memory` is
called. Robots do not read data sets: the room serves training and benches (P IV-A, tasks T1..T4).
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.errors import DataError


class InputKind(str, Enum):
    """What one input is."""

    IMAGE = 'image'
    """uint8, (height, width, 3), RGB."""
    WINDOW = 'window'
    """float32, (samples, channels), in the unit of the sensor."""
    SPECTROGRAM = 'spectrogram'
    """float32, (1, mel bands, frames), natural logarithm of the power."""


class Skipped(NamedTuple):
    """
    One thing that was not taken, and why.

    :param name: file, or place in a file
    :param reason: without a final stop
    """

    name: str
    reason: str


class Items(Protocol):
    """Inputs that are read by index."""

    def __len__(self) -> int:
        """Return the number of items."""

    def name(self, index: int) -> str:
        """Return what a person finds the item by: its file, or its place in one."""

    def read(self, index: int) -> NDArray[np.generic]:
        """
        Return one input.

        :raises DataError: it cannot be read
        """

    def problem(self, index: int, thorough: bool) -> str:
        """
        Say why an item cannot be read, '' when it can.

        :param thorough: decode it; otherwise look at its first bytes
        """


@dataclass(frozen=True, eq=False)
class ArrayItems:
    """
    Inputs that lie in memory.

    :param values: shape (n, ...)
    :param scale: what one step of integer values is worth; None leaves values as they are
    :param names: of the items, or none
    :param bad: what is known to be wrong with items
    :param word: what an item without a name is called in messages
    """

    values: NDArray[np.generic]
    scale: Optional[float] = None
    names: Sequence[str] = ()
    bad: Mapping[int, str] = field(default_factory=dict)
    word: str = 'item'

    def __len__(self) -> int:
        return len(self.values)

    def name(self, index: int) -> str:
        return self.names[index] if self.names else '%s %d' % (self.word, index)

    def read(self, index: int) -> NDArray[np.generic]:
        return np.asarray(self.read_rows(np.array([index]))[0])

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return several inputs, shape (len(rows), ...)."""
        if self.scale is None:
            return np.asarray(self.values[rows])
        return np.asarray(self.values[rows] * np.float64(self.scale), np.float32)

    def problem(self, index: int, thorough: bool) -> str:
        if index in self.bad:
            return self.bad[index]
        value = self.values[index]
        if value.dtype.kind == 'f' and not np.isfinite(value.astype(np.float64)).all():
            return 'has values that are not finite'
        return ''


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """
    Inputs with their classes.

    :param layout: name of the layout that was read
    :param split: name of the part
    :param kind: what an input is
    :param shape: of one input
    :param classes: names, in the order of the labels
    :param items: inputs, more than this set where it is a part
    :param rows: shape (n,), int64, which of the items are in this set
    :param labels: shape (n,), int64, indices into the classes
    :param groups: shape (n,), int64, indices into `group_names`; None where the layout has none
    :param group_names: folds or subjects
    :param group_word: 'fold', 'subject', or '' without groups
    :param skipped: what could not be read, and files that are no items
    """

    layout: str
    split: str
    kind: InputKind
    shape: Tuple[int, ...]
    classes: Tuple[str, ...]
    items: Items
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: Optional[NDArray[np.int64]] = None
    group_names: Tuple[str, ...] = ()
    group_word: str = ''
    skipped: Tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Return what a person finds an item by."""
        return self.items.name(int(self.rows[index]))

    def item(self, index: int) -> Tuple[NDArray[np.generic], int]:
        """
        Return one input and its label.

        :param index: 0..n-1
        :raises DataError: the input cannot be read (any more)
        """
        return self.items.read(int(self.rows[index])), int(self.labels[index])

    def take(self, indices: Sequence[int]) -> Tuple[NDArray[np.generic], NDArray[np.int64]]:
        """
        Return a batch.

        :param indices: each 0..n-1; may repeat
        :returns: inputs, shape (len(indices), `*shape`), and labels, shape (len(indices),)
        :raises DataError: an input cannot be read (any more)
        """
        chosen = np.asarray(indices, np.int64)
        if isinstance(self.items, ArrayItems):
            return self.items.read_rows(self.rows[chosen]), self.labels[chosen]
        kind = np.uint8 if self.kind is InputKind.IMAGE else np.float32
        inputs: NDArray[np.generic] = np.empty((len(chosen), *self.shape), kind)
        for k, row in enumerate(self.rows[chosen]):
            inputs[k] = self.items.read(int(row))
        return inputs, self.labels[chosen]

    def subset(self, indices: Sequence[int], split: str = '') -> LabelledSet:
        """
        Return a part; the items are shared, not copied.

        :param indices: each 0..n-1
        :param split: name of the part; '' keeps the name
        """
        chosen = np.asarray(indices, np.int64)
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen],
                       groups=None if self.groups is None else self.groups[chosen],
                       split=split or self.split)

    def in_memory(self, limit_bytes: int = 2 * 1024 ** 3) -> LabelledSet:
        """
        Read everything once, for sets that an epoch visits again and again.

        :param limit_bytes: refuse more
        :raises DataError: it would take more, or an input cannot be read
        """
        size_bytes = len(self) * int(np.prod(self.shape)) * (
            1 if self.kind is InputKind.IMAGE else 4)
        if size_bytes > limit_bytes:
            raise DataError('%d inputs take %d MiB of memory, %d are allowed: read them in batches'
                            % (len(self), size_bytes >> 20, limit_bytes >> 20))
        inputs, labels = self.take(range(len(self)))
        names = [self.name(i) for i in range(len(self))]
        return replace(self, items=ArrayItems(inputs, names=names),
                       rows=np.arange(len(self), dtype=np.int64), labels=labels)

    def describe(self) -> str:
        """Return one line: the layout that was taken, how much there is, what was skipped."""
        parts = ['%s layout, split %s: %d %ss of %s in %d classes' % (
            self.layout, self.split, len(self), self.kind.value,
            'x'.join(map(str, self.shape)), len(self.classes))]
        if self.groups is not None:
            count = len(np.unique(self.groups))
            parts.append('%d %s%s' % (count, self.group_word, '' if count == 1 else 's'))
        if self.skipped:
            parts.append('%d skipped' % len(self.skipped))
        return ', '.join(parts)

