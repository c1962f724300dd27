# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the binary version, and one npz file of encoded images.

- CIFAR-10 binary: `data_batch_1..5.bin`, `test_batch.bin`, records of one label byte and 3072
  pixel bytes (three planes of 32x32); `batches.meta.txt` has the names.
- CIFAR-100 binary: `train.bin`, `test.bin`, records of a coarse and a fine label byte and 3072
  pixel bytes; `fine_label_names.txt`, `coarse_label_names.txt`.
- npz: `blob` (files one after another, lossless WebP), `offsets` (n + 1), `y`, `classes`.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.assembling import Found, finish, part_to_read
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet
from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.datasets.images import BlobImages
from crowdhmt_ros.datasets.options import OpenOptions
from crowdhmt_ros.datasets.tables import (
    array_names,
    check_blob,
    read_archive,
    read_lines,
    split_in_name,
)
from crowdhmt_ros.errors import DataError

NAME, NPZ_NAME = 'cifar', 'images_npz'
EDGE = 32
PIXEL_BYTES = 3 * EDGE * EDGE
NPZ_ARRAYS = ('blob', 'offsets', 'y', 'classes')
SUBFOLDERS = ('cifar-10-batches-bin', 'cifar-100-binary')
TEN = {'train': tuple('data_batch_%d.bin' % k for k in range(1, 6)), 'test': ('test_batch.bin',)}
HUNDRED = {'train': ('train.bin',), 'test': ('test.bin',)}


def _folder(path: Path) -> Optional[Path]:
    """Return where the batches lie: here, or in the folder that the download makes."""
    for folder in (path, *(path / name for name in SUBFOLDERS)):
        if (folder / 'test_batch.bin').is_file() or (folder / 'data_batch_1.bin').is_file() \
                or (folder / 'fine_label_names.txt').is_file():
            return folder
    return None


def recognises(path: Path) -> bool:
    """Whether a folder has batches of either set."""
    return path.is_dir() and _folder(path) is not None


def recognises_npz(path: Path) -> bool:
    """Whether a file has encoded images and labels, and no sampling rate."""
    names = array_names(path) if path.is_file() else ()
    return set(NPZ_ARRAYS) <= set(names) and 'rate_hz' not in names


@dataclass(frozen=True, eq=False)
class Records:
    """
    Records of binary batches, mapped from their files.

    :param batches: each of shape (n, label bytes + 3072), uint8
    :param names: of the files
    :param first: index of each batch's first record
    :param label_bytes: before the pixels
    :param size: (height, width) of the results, pixels
    """

    batches: Sequence[NDArray[np.uint8]]
    names: Sequence[str]
    first: Sequence[int]
    label_bytes: int
    size: Tuple[int, int]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def _place(self, index: int) -> Tuple[int, int]:
        batch = int(np.searchsorted(self.first, index, side='right')) - 1
        return batch, index - self.first[batch]

    def name(self, index: int) -> str:
        batch, row = self._place(index)
        return '%s record %d' % (self.names[batch], row)

    def read(self, index: int) -> NDArray[np.generic]:
        batch, row = self._place(index)
        planes = self.batches[batch][row, self.label_bytes:].reshape(3, EDGE, EDGE)
        image = np.ascontiguousarray(planes.transpose(1, 2, 0))
        if self.size != (EDGE, EDGE):
            image = cv2.resize(image, (self.size[1], self.size[0]), interpolation=cv2.INTER_AREA)
        return np.asarray(image, np.uint8)

    def problem(self, index: int, thorough: bool) -> str:
        return ''  # any bytes are pixels


def _class_names(path: Path, count: int, findings: Findings) -> Tuple[str, ...]:
    try:
        names = tuple(line for line in read_lines(path) if line)
    except DataError as e:
        findings.problem(str(e))
        return ()
    if len(names) != count:
        findings.problem('%s has %d names, not %d' % (path.name, len(names), count))
    return names


def _batch(path: Path, record_bytes: int, findings: Findings) -> Optional[NDArray[np.uint8]]:
    if not path.is_file():
        findings.problem('%s is missing' % path.name)
        return None
    size_bytes = path.stat().st_size
    if size_bytes == 0 or size_bytes % record_bytes:
        findings.problem('%s has %d bytes, no whole number of records of %d; copy it again' % (
            path.name, size_bytes, record_bytes))
        return None
    return np.memmap(path, np.uint8, 'r').reshape(-1, record_bytes)


def read(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open the binary version.

    :raises DataError: a missing or cut file, labels beyond the names, no such split
    """
    findings = Findings(path)
    part = part_to_read(options, ('train', 'test'), False, findings)
    folder = _folder(path) or path
    hundred = any((folder / name).exists() for name in ('train.bin', 'fine_label_names.txt'))
    files = HUNDRED if hundred else TEN
    names: List[str] = [n for split in ('train', 'test') if part in ('all', split)
                        for n in files[split]]
    label_bytes = 2 if hundred else 1
    batches = [_batch(folder / name, label_bytes + PIXEL_BYTES, findings) for name in names]
    listed, count = ('batches.meta.txt', 10) if not hundred else \
        (('coarse_label_names.txt', 20) if options.coarse else ('fine_label_names.txt', 100))
    if options.coarse and not hundred:
        findings.problem('CIFAR-10 has no coarse classes')
    classes = _class_names(folder / listed, count, findings)
    findings.stop_if_any()
    there = [batch for batch in batches if batch is not None]
    column = 1 if hundred and not options.coarse else 0
    labels = np.concatenate([batch[:, column] for batch in there])
    first = np.cumsum([0, *(len(batch) for batch in there[:-1])]).tolist()
    size = options.size or (EDGE, EDGE)
    records = Records(there, names, first, label_bytes, size)
    return finish(Found(NAME, part, InputKind.IMAGE, (*size, 3), classes, records,
                        labels.tolist()), options, findings)


def read_npz(path: Path, options: OpenOptions) -> LabelledSet:
    """
    Open an npz file of encoded images; its name says which split it is.

    :raises DataError: arrays that are missing or do not fit together, no such split
    """
    findings = Findings(path)
    said = split_in_name(path)
    part = part_to_read(options, (said,) if said else (), False, findings)
    archive = read_archive(path, NPZ_ARRAYS)
    check_blob(archive, findings)
    offsets = archive['offsets'].astype(np.int64)
    blob = np.asarray(archive['blob'], np.uint8)
    size = options.size or _stored_size(blob, offsets)
    items = BlobImages(blob, offsets, size)
    return finish(Found(NPZ_NAME, part, InputKind.IMAGE, (*size, 3),
                        tuple(str(c) for c in archive['classes']), items,
                        archive['y'].astype(np.int64).tolist()), options, findings)


def _stored_size(blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Tuple[int, int]:
    """Return (height, width) of the first image that can be decoded; 32x32 without one."""
    for start, stop in zip(offsets[:16], offsets[1:17]):
        image = cv2.imdecode(blob[start:stop], cv2.IMREAD_COLOR) if stop > start else None
        if image is not None:
            return int(image.shape[0]), int(image.shape[1])
    return EDGE, EDGE
