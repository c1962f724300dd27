# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What calibration and the choice of engines have measured, read from the cache; free of ROS."""
from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.engine_tables import load_engine_tables, with_engines
from crowdhmt_ros.profiling.tables import Row, load_tables, row_key
from crowdhmt_ros.types import NO_READING, EngineOptions, Reading, Segment

_log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.5


class _Known:
    """What one reading of the files gave, with what was looked up in it."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.rows = rows
        self.readings: Dict[Tuple[str, EngineOptions], Reading] = {}


class KeptMemory:
    """
    What the tables say, which another process may write at any time; for any thread.

    One thread reads at a time; the others go on with what was known before.

    :param path: where calibration keeps its tables; the file need not be there yet
    :param engines_path: where the trials of other engines are kept, None without any
    :param look_every_s: how soon a change of the files is seen
    """

    def __init__(self, path: Path, *, engines_path: Optional[Path] = None,
                 look_every_s: float = LOOK_EVERY_S) -> None:
        self._path = path
        self._engines_path = engines_path
        self._look_every_s = look_every_s
        self._next_look_s = 0.0
        self._mark: Tuple[int, int] = (0, 0)
        self._known = _Known({})
        self._reading = threading.Lock()

    def __call__(self, segment: Segment, options: EngineOptions) -> Reading:
        """Return the bytes of a segment under engine options, `NO_READING` where unknown."""
        known = self._refreshed()
        key = (segment.sha256, options)
        found = known.readings.get(key)
        if found is None:  # asked for at each frame: names are made once
            row = known.rows.get(row_key(segment.sha256, options))
            found = NO_READING if row is None else Reading(row.memory_bytes.mean,
                                                           row.memory_bytes.source)
            known.readings[key] = found
        return found

    def infer_s(self, segment: Segment, options: EngineOptions) -> Optional[float]:
        """Return the measured time of a segment under engine options, None where unknown."""
        row = self._refreshed().rows.get(row_key(segment.sha256, options))
        return None if row is None or not row.samples else row.infer_s.mean

    def _refreshed(self) -> _Known:
        if time.monotonic() >= self._next_look_s and self._reading.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._reading.release()
        return self._known

    def _look(self) -> None:
        """Read the files if they are others; the lock is held."""
        self._next_look_s = time.monotonic() + self._look_every_s
        mark = (_mark(self._path), _mark(self._engines_path))
        if mark == self._mark or not mark[0]:
            return
        self._mark = mark
        try:
            tables = load_tables(self._path)
        except CalibrationError as error:
            _log.warning('%s', error)
            return
        rows = tables.rows
        try:
            if self._engines_path is not None and mark[1]:
                rows = with_engines(tables, load_engine_tables(self._engines_path)).rows
        except CalibrationError as error:
            _log.warning('%s', error)
        self._known = _Known(rows)  # only now: nobody sees half of it


def _mark(path: Optional[Path]) -> int:
    """Return when a file was written, 0 where there is none."""
    try:
        return path.stat().st_mtime_ns if path is not None else 0
    except OSError:
        return 0
