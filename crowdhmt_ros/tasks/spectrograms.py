# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Spectrograms of sounds, computed once and kept in a file: every fold and seed reads them."""
from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from crowdhmt_ros.datasets import LabelledSet
from crowdhmt_ros.datasets.audio import BlobSounds, FileSounds
from crowdhmt_ros.errors import DataError

FOLDER = 'spectrograms'


def kept_spectrograms(data: LabelledSet, cache_dir: Optional[Path]) -> NDArray[np.generic]:
    """
    Return the spectrograms of a part, from the file where they are kept, or computed.

    :param cache_dir: None to compute them anew
    :returns: float32 (n, 1, bands, frames)
    :raises DataError: a sound cannot be read
    """
    key = None if cache_dir is None else _key(data)
    if cache_dir is None or key is None:
        return data.take(range(len(data)))[0]
    path = cache_dir / FOLDER / (key + '.npy')
    whole = _read(path, (len(data.items), *data.shape))
    if whole is None:
        whole = _computed(data)
        _write(path, whole)
    values = np.asarray(whole[data.rows])
    lost = np.flatnonzero(np.isnan(values).any(axis=(1, 2, 3)))
    for row in lost:  # silent only where the part does not need it
        values[row] = data.item(int(row))[0]
    return values


def _key(data: LabelledSet) -> Optional[str]:
    """Name all sounds of a data set and how they become spectrograms; None for others."""
    items = data.items
    digest = hashlib.sha256()
    if isinstance(items, BlobSounds):
        digest.update(np.ascontiguousarray(items.blob).data)
        digest.update(np.ascontiguousarray(items.offsets).data)
    elif isinstance(items, FileSounds):
        for name in items.names:
            try:
                state = (items.folder / name).stat()
                digest.update(repr((name, state.st_size, state.st_mtime_ns)).encode())
            except OSError:
                digest.update(repr((name, None)).encode())
    else:
        return None
    digest.update(repr(items.spec).encode())
    return digest.hexdigest()[:32]


def _computed(data: LabelledSet) -> NDArray[np.float32]:
    """Compute the spectrograms of all sounds; what cannot be read is not a number."""
    found = np.full((len(data.items), *data.shape), np.nan, np.float32)
    for index in range(len(data.items)):
        try:
            found[index] = data.items.read(index)
        except DataError:
            continue
    return found


def _read(path: Path, shape: object) -> Optional[NDArray[np.float32]]:
    try:
        found = np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return found if isinstance(found, np.ndarray) and found.shape == shape \
        and found.dtype == np.float32 else None


def _write(path: Path, values: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another training may write the same file at the same time.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.save(file, values)
    os.replace(file.name, path)
