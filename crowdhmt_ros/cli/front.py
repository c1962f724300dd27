# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The front that a recorded plan was chosen from, found again on this machine by its digest."""
from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.bundle.materialise import default_cache_dir, materialise
from crowdhmt_ros.bundle.reader import Bundle
from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.offload.placement import worth_offering
from crowdhmt_ros.profiling.devices import load_device
from crowdhmt_ros.profiling.engine_tables import (
    EngineTables,
    kept_engine_tables,
    load_engine_tables,
    ways_of,
    with_engines,
)
from crowdhmt_ros.profiling.front import build_front, counted_tables, front_sha256
from crowdhmt_ros.profiling.remote_front import build_remote
from crowdhmt_ros.profiling.tables import Tables, load_tables
from crowdhmt_ros.resources.machine import last_level_cache_bytes
from crowdhmt_ros.share import config_folders
from crowdhmt_ros.types import EngineOptions, FrontEntry, RemoteOption, Segment

LOG = logging.getLogger(__name__)
THREADS: Tuple[Tuple[int, ...], ...] = ((1, 2), (1,), (2,))
MEMORY_MODES: Tuple[Tuple[str, ...], ...] = (('fast', 'lean'), ('fast',), ('lean',))


@dataclass(frozen=True)
class KnownFront:
    """
    One front that this machine can build.

    :param sha256: its digest
    :param device: of the tables
    :param entries: candidates that stay here
    :param remote: ways to be helped, made from the same tables
    """

    sha256: str
    device: str
    entries: Tuple[FrontEntry, ...]
    remote: Tuple[RemoteOption, ...] = ()


def kept_tables(bundle: Bundle, folder: Path) -> List[Tables]:
    """Return all tables kept for a bundle on this machine, the newest first."""
    paths = sorted(folder.glob('tables-%s-*.json' % bundle.sha256[:16]),
                   key=lambda p: p.stat().st_mtime, reverse=True)
    found = []
    for path in paths:
        try:
            found.append(load_tables(path))
        except CalibrationError as error:
            LOG.warning('%s', error)
    return found


def profile_names() -> Tuple[str, ...]:
    """Return the names of all energy profiles in config/devices."""
    return tuple(sorted({p.stem for folder in config_folders('devices')
                         for p in folder.glob('*.yaml')}))


def known_fronts(bundle: Bundle, folder: Optional[Path] = None, *,
                 profiles: Optional[Sequence[str]] = None) -> Iterator[KnownFront]:
    """
    Yield every front that can be built here from kept or counted tables.

    :param bundle: what can run
    :param folder: cache; the default one when None
    :param profiles: energy profiles to try; all when None
    """
    cache = Path(folder or default_cache_dir())
    segments = materialise(bundle, cache)
    engines = [None, *kept_engines(bundle, cache)]
    for tables, threads, modes, others in itertools.product(
            [*kept_tables(bundle, cache), counted_tables(bundle, segments)], THREADS,
            MEMORY_MODES, engines):
        rows = tables if others is None else with_engines(tables, others)
        ways = () if others is None else ways_of(others)
        for profile in profiles if profiles is not None else profile_names():
            for cache_bytes in (last_level_cache_bytes(), None):
                front = _front(bundle, rows, profile, segments, threads, modes, cache_bytes, ways)
                if front:
                    yield KnownFront(
                        front_sha256(front), tables.device, front,
                        _remote(bundle, rows, profile, segments, modes, cache_bytes, ways))


def kept_engines(bundle: Bundle, folder: Path) -> List[EngineTables]:
    """Return what other engines were measured to do for a bundle here, the newest first."""
    found = []
    for path in kept_engine_tables(folder, bundle.sha256):
        try:
            found.append(load_engine_tables(path))
        except CalibrationError as error:
            LOG.warning('%s', error)
    return found


def _front(bundle: Bundle, tables: Tables, profile: str, segments: Mapping[str, Segment],
           threads: Sequence[int], modes: Sequence[str], cache_bytes: Optional[float],
           ways: Sequence[EngineOptions]) -> Tuple[FrontEntry, ...]:
    try:
        return build_front(bundle, tables, load_device(profile), segments=segments,
                           threads=threads, memory_modes=modes, cache_bytes=cache_bytes,
                           ways=ways)
    except CalibrationError:  # these tables hold fewer ways to run
        return ()


def _remote(bundle: Bundle, tables: Tables, profile: str, segments: Mapping[str, Segment],
            modes: Sequence[str], cache_bytes: Optional[float], ways: Sequence[EngineOptions]
            ) -> Tuple[RemoteOption, ...]:
    try:
        return worth_offering(build_remote(
            bundle, tables, load_device(profile), segments=segments, memory_modes=modes,
            cache_bytes=cache_bytes, ways=ways))
    except CalibrationError:  # tables from before the bundle had cuts
        return ()


def find_front(bundle: Bundle, sha256: str, folder: Optional[Path] = None
               ) -> Optional[KnownFront]:
    """
    Return the front with a digest.

    :param sha256: as a Plan names it
    :returns: None when this machine has not measured it
    """
    return next((f for f in known_fronts(bundle, folder) if f.sha256 == sha256), None)
