# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Lay a bundle out for engines: graphs and their initialisers in one flat folder of a cache.

The weight store holds every tensor of the family once; the graphs address their
initialisers as external data. `materialise` computes each initialiser by its recipe
(``tensor[slices] * scale``), checks its sha256 and writes it where the graphs expect it, so
that an engine maps it into memory. Files appear by renaming and a stamp is written last: an
interrupted run leaves nothing that looks complete, and two processes may do it at once.
"""
from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import (
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from crowdhmt_ros.bundle.entries import Manifest, Recipe, StoreTensor
from crowdhmt_ros.bundle.reader import Bundle, file_sha256
from crowdhmt_ros.errors import BundleError
from crowdhmt_ros.types import Segment

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

STAMP_NAME = 'complete.json'
_log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """Return $CROWDHMT_CACHE, or the user's cache folder."""
    named = os.environ.get('CROWDHMT_CACHE')
    if named:
        return Path(named).expanduser()
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'crowdhmt'


def materialise(bundle: Bundle, cache_dir: Union[str, Path],
                segment_ids: Optional[Iterable[str]] = None,
                progress: Optional[Progress] = None, *,
                verify: bool = False) -> Mapping[str, Segment]:
    """
    Make segments ready to compile; what is there and fresh is used as it is.

    :param bundle: where they come from
    :param cache_dir: the files go to ``<cache_dir>/<first 16 digits of the bundle's sha256>``
    :param segment_ids: which ones, all of the bundle when None
    :param progress: called with (bytes done, bytes in all) while files are written
    :param verify: compare every byte of what is there; else sizes and times only
    :returns: segment_id -> segment with its file on this device
    :raises BundleError: unknown segment, damaged store, full disk or unwritable folder
    """
    wanted = tuple(bundle.manifest.segments if segment_ids is None else dict.fromkeys(segment_ids))
    for segment_id in wanted:
        bundle.segment(segment_id)
    folder = Path(cache_dir).expanduser().absolute() / bundle.sha256[:16]
    if not _is_fresh(bundle, folder, wanted, verify):
        _build_locked(bundle, folder, wanted, progress, verify)
    return {segment_id: _segment(bundle, folder, segment_id) for segment_id in wanted}


def _build_locked(bundle: Bundle, folder: Path, wanted: Sequence[str],
                  progress: Optional[Progress], verify: bool) -> None:
    """Build under a lock, unless another process did so while this one waited."""
    needed = _needed_bytes(bundle, wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if _is_fresh(bundle, folder, wanted, verify):
                return
            merged = tuple(dict.fromkeys((*_stamped_segments(bundle, folder), *wanted)))
            needed = _needed_bytes(bundle, merged)
            _build(bundle, folder, merged, progress)
    except OSError as error:
        raise BundleError(_no_room(folder, needed, error)) from error


def _no_room(folder: Path, needed: int, error: OSError) -> str:
    mend = 'or set CROWDHMT_CACHE to a folder elsewhere'
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        try:
            free = '%d bytes are free' % shutil.disk_usage(folder).free
        except OSError:
            free = 'the free space is not known'
        return '%s is full: the bundle needs %d bytes there, %s; make room %s' % (
            folder, needed, free, mend)
    return 'the cache %s cannot be written (%s), %d bytes are needed; mend its permissions %s' % (
        folder, error.strerror or error, needed, mend)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with open(folder / '.lock', 'w') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(bundle: Bundle, folder: Path, segment_ids: Sequence[str],
           progress: Optional[Progress]) -> None:
    _log.info('preparing %d segments of bundle %s in %s',
              len(segment_ids), bundle.manifest.name, folder)
    _remove_leftovers(folder)
    with contextlib.suppress(FileNotFoundError):
        (folder / STAMP_NAME).unlink()
    total = _needed_bytes(bundle, segment_ids)
    done = 0
    with _replacing(folder / bundle.manifest.initialisers_file) as stream:
        for size_bytes in _write_initialisers(bundle, segment_ids, stream):
            done += size_bytes
            if progress is not None:
                progress(done, total)
    for segment_id in segment_ids:
        done += _copy_graph(bundle, folder, segment_id)
        if progress is not None:
            progress(done, total)
    with _replacing(folder / STAMP_NAME) as stream:
        stream.write(json.dumps(_stamp(bundle, folder, segment_ids), indent=1).encode())


def _remove_leftovers(folder: Path) -> None:
    """Delete what interrupted runs left; the lock is held, so nobody writes them now."""
    for leftover in folder.glob('.new-*'):
        leftover.unlink()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file under another name and give it its own name once it is on the disk."""
    descriptor, name = tempfile.mkstemp(prefix='.new-', dir=path.parent)
    try:
        with os.fdopen(descriptor, 'wb') as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _write_initialisers(bundle: Bundle, segment_ids: Sequence[str],
                        stream: BinaryIO) -> Iterator[int]:
    """Write the recipes of some segments, holes between them; yields bytes written."""
    manifest = bundle.manifest
    store = _open_store(bundle)
    for index in recipe_indices(manifest, segment_ids):
        recipe = manifest.recipes[index]
        content = compute_recipe(store, manifest.tensors, recipe)
        if hashlib.sha256(content).hexdigest() != recipe.sha256:
            raise BundleError('bundle %s: recipe %d (%s) gives other bytes than its sha256 says; '
                              'get the bundle again' % (manifest.name, index, recipe.tensor))
        stream.seek(recipe.offset)
        stream.write(content)
        yield recipe.size_bytes
    stream.truncate(manifest.initialisers_bytes)


def _open_store(bundle: Bundle) -> np.ndarray:
    try:
        return np.fromfile(bundle.weights_path, dtype=np.uint8)
    except OSError as error:
        raise BundleError('%s cannot be read (%s)' % (
            bundle.weights_path, error.strerror or error)) from error


def recipe_indices(manifest: Manifest, segment_ids: Iterable[str]) -> Tuple[int, ...]:
    """Return the recipes that some segments read, each once, ascending."""
    return tuple(sorted({index for segment_id in segment_ids
                         for index in manifest.segments[segment_id].recipes}))


def compute_recipe(store: np.ndarray, tensors: Mapping[str, StoreTensor],
                   recipe: Recipe) -> bytes:
    """
    Compute one initialiser.

    :param store: bytes of weights.bin, uint8 (N,)
    :param tensors: the manifest's tensors
    :param recipe: what to compute, checked against the tensors
    :returns: little endian, of the recipe's type, C order
    """
    source = _tensor(store, tensors[recipe.tensor])
    value = source[tuple(slice(start, stop) for start, stop in recipe.slices)]
    if recipe.scale is not None:
        scale = _tensor(store, tensors[recipe.scale])
        axes = [1] * value.ndim
        axes[recipe.scale_axis] = -1
        value = value.astype('<f4') * scale.reshape(axes)
    return value.astype(_little_endian(recipe.dtype), copy=False).tobytes()


def _tensor(store: np.ndarray, tensor: StoreTensor) -> np.ndarray:
    content = store[tensor.offset:tensor.offset + tensor.size_bytes]
    if content.size != tensor.size_bytes:
        raise BundleError('tensor %s ends beyond weights.bin' % tensor.name)
    return content.view(_little_endian(tensor.dtype)).reshape(tensor.shape)


def _little_endian(dtype: str) -> str:
    return str(np.dtype(dtype).newbyteorder('<').str)


def _copy_graph(bundle: Bundle, folder: Path, segment_id: str) -> int:
    entry = bundle.segment(segment_id)
    content = (bundle.directory / entry.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != bundle.file_sha256(entry.file):
        raise BundleError('%s was changed since the bundle was opened; get the bundle again'
                          % entry.file)
    with _replacing(folder / PurePosixPath(entry.file).name) as stream:
        stream.write(content)
    return len(content)


def _needed_bytes(bundle: Bundle, segment_ids: Sequence[str]) -> int:
    manifest = bundle.manifest
    sizes = {entry.path: entry.size_bytes for entry in manifest.files}
    return (sum(manifest.recipes[i].size_bytes for i in recipe_indices(manifest, segment_ids))
            + sum(sizes[manifest.segments[s].file] for s in segment_ids))


def _file_names(bundle: Bundle, segment_ids: Iterable[str]) -> List[str]:
    return [bundle.manifest.initialisers_file] + [
        PurePosixPath(bundle.segment(s).file).name for s in segment_ids]


def _stamp(bundle: Bundle, folder: Path, segment_ids: Sequence[str]) -> Dict[str, object]:
    return {'bundle_sha256': bundle.sha256, 'segments': list(segment_ids),
            'files': {name: _file_mark(folder / name)
                      for name in _file_names(bundle, segment_ids)}}


def _file_mark(path: Path) -> List[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_stamp(folder: Path) -> Mapping[str, object]:
    try:
        found = json.loads((folder / STAMP_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamped_segments(bundle: Bundle, folder: Path) -> Tuple[str, ...]:
    """Return what an earlier run prepared here and may still be in use."""
    stamp = _read_stamp(folder)
    segments = stamp.get('segments')
    if stamp.get('bundle_sha256') != bundle.sha256 or not isinstance(segments, list):
        return ()
    return tuple(s for s in segments if isinstance(s, str) and s in bundle.manifest.segments)


def _is_fresh(bundle: Bundle, folder: Path, wanted: Sequence[str], verify: bool) -> bool:
    if not set(wanted) <= set(_stamped_segments(bundle, folder)):
        return False
    marks = _read_stamp(folder).get('files')
    if not isinstance(marks, dict):
        return False
    try:
        same = all(marks.get(name) == _file_mark(folder / name)
                   for name in _file_names(bundle, wanted))
        return same and (not verify or _is_intact(bundle, folder, wanted))
    except OSError:
        return False


def _is_intact(bundle: Bundle, folder: Path, wanted: Sequence[str]) -> bool:
    manifest = bundle.manifest
    for segment_id in wanted:
        entry = bundle.segment(segment_id)
        name = PurePosixPath(entry.file).name
        if file_sha256(folder / name) != bundle.file_sha256(entry.file):
            return False
    with open(folder / manifest.initialisers_file, 'rb') as stream:
        for index in recipe_indices(manifest, wanted):
            recipe = manifest.recipes[index]
            stream.seek(recipe.offset)
            if hashlib.sha256(stream.read(recipe.size_bytes)).hexdigest() != recipe.sha256:
                return False
    return True


def _segment(bundle: Bundle, folder: Path, segment_id: str) -> Segment:
    entry = bundle.segment(segment_id)
    recipes = bundle.manifest.recipes
    return Segment(
        segment_id=segment_id, sha256=bundle.file_sha256(entry.file),
        path=str(folder / PurePosixPath(entry.file).name),
        inputs=entry.inputs, outputs=entry.outputs,
        weight_bytes=sum(recipes[i].size_bytes for i in set(entry.recipes)),
        early_exit=next((e for e in bundle.early_exits(entry.variant_id)
                         if entry.role == 'exit' and e.cut_id == entry.cut_id), None))
