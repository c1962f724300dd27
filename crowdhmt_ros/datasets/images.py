# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image files and image blobs as items: decoded and resized when they are asked for."""
from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets.findings import Findings
from crowdhmt_ros.errors import DataError

SUFFIXES = frozenset(('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm'))
HEADS = (b'\xff\xd8\xff', b'\x89PNG', b'BM', b'RIFF', b'II', b'MM', b'P2', b'P3', b'P5', b'P6')
DEFAULT_SIZE = (224, 224)


def decode_image(data: NDArray[np.uint8], size: Tuple[int, int]) -> NDArray[np.uint8]:
    """
    Return the pixels of an encoded image.

    :param data: shape (bytes,), an image file
    :param size: (height, width) of the result; the image is stretched by `cv2.INTER_AREA`, as
        frames are on the robot
    :returns: shape (height, width, 3), uint8, RGB
    :raises DataError: it cannot be decoded
    """
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as e:  # more pixels than OpenCV allows
        raise DataError('cannot be decoded (%s)' % str(e).splitlines()[0]) from e
    if image is None:
        raise DataError('cannot be decoded' if len(data) else 'is empty')
    if image.shape[:2] != size:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from telling the terminal of each broken image: the findings do, in one line."""
    # Not there in older versions, which have no such messages from memory.
    logging = getattr(cv2.utils, 'logging', None)
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT) if logging else 0
    try:
        yield
    finally:
        if logging:
            logging.setLogLevel(level)


def _read_file(path: str) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as e:
        raise DataError('cannot be read (%s)' % e.strerror) from e


def _image_problem(data: NDArray[np.uint8], thorough: bool) -> str:
    if thorough:
        try:
            decode_image(data, (1, 1))
        except DataError as e:
            return str(e)
        return ''
    if not len(data):
        return 'is empty'
    return '' if data[:4].tobytes().startswith(HEADS) else 'is no image'


@dataclass(frozen=True, eq=False)
class FileImages:
    """
    Image files, kept as bytes of their names: a million take some 30 MB.

    :param root: folder that the others are relative to
    :param folders: relative to the root
    :param folder_of: shape (n,), int32, index into the folders
    :param names: shape (n,), bytes, file names as the file system has them
    :param size: (height, width), pixels
    """

    root: Path
    folders: Tuple[str, ...]
    folder_of: NDArray[np.int32]
    names: NDArray[np.bytes_]
    size: Tuple[int, int]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return os.path.join(self.folders[self.folder_of[index]], os.fsdecode(self.names[index]))

    def read(self, index: int) -> NDArray[np.generic]:
        try:
            return decode_image(_read_file(os.path.join(self.root, self.name(index))), self.size)
        except DataError as e:
            raise DataError('%s %s' % (os.path.join(self.root, self.name(index)), e)) from e

    def problem(self, index: int, thorough: bool) -> str:
        path = os.path.join(self.root, self.name(index))
        try:
            if thorough:
                return _image_problem(_read_file(path), True)
            with open(path, 'rb') as reader:
                return _image_problem(np.frombuffer(reader.read(16), np.uint8), False)
        except OSError as e:
            return 'cannot be read (%s)' % e.strerror
        except DataError as e:
            return str(e)


@dataclass(frozen=True, eq=False)
class BlobImages:
    """
    Image files one after another in an array.

    :param blob: shape (bytes,), uint8
    :param offsets: shape (n + 1,), int64
    :param size: (height, width), pixels
    """

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    size: Tuple[int, int]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def name(self, index: int) -> str:
        return 'image %d' % index

    def _data(self, index: int) -> NDArray[np.uint8]:
        return self.blob[self.offsets[index]:self.offsets[index + 1]]

    def read(self, index: int) -> NDArray[np.generic]:
        try:
            return decode_image(self._data(index), self.size)
        except DataError as e:
            raise DataError('%s %s' % (self.name(index), e)) from e

    def problem(self, index: int, thorough: bool) -> str:
        return _image_problem(self._data(index), thorough)


class FileList:
    """
    Collects image files of many folders before they become items.

    :param root: folder that all lie in
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: Dict[str, int] = {}
        self._folder_of: List[int] = []
        self._names: List[bytes] = []

    def add(self, folder: str, name: str) -> None:
        """Add a file of a folder that is relative to the root."""
        self._folder_of.append(self._folders.setdefault(folder, len(self._folders)))
        self._names.append(os.fsencode(name))

    def items(self, size: Tuple[int, int]) -> FileImages:
        """Return the files as items of one size."""
        return FileImages(self.root, tuple(self._folders), np.array(self._folder_of, np.int32),
                          np.array(self._names, np.bytes_), size)


def image_names(folder: Path, findings: Findings) -> List[str]:
    """
    Return the image files below a folder, sorted, relative to it; others are noted as left out.

    Hidden files are passed over.
    """
    found: List[str] = []
    others: Dict[str, int] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith('.'))
        inside = os.path.relpath(place, folder)
        for name in sorted(n for n in names if not n.startswith('.')):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                found.append(name if inside == '.' else os.path.join(inside, name))
            else:
                others[suffix] = others.get(suffix, 0) + 1
    for suffix, count in sorted(others.items()):
        findings.leave_out(str(folder), '%d file%s %s: no image' % (
            count, '' if count == 1 else 's', suffix or 'without suffix'))
    return found


def subfolders(folder: Path) -> List[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def files_in(folder: Path, suffixes: Sequence[str]) -> List[str]:
    """Return the names of the files in a folder that end so, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.name.lower().endswith(tuple(suffixes))
                      and not e.name.startswith('.'))
