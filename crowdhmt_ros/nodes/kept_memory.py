# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of graphs as calibration has measured it, read from the cache; free of ROS."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Mapping

from crowdhmt_ros.errors import CalibrationError
from crowdhmt_ros.profiling.tables import Row, load_tables, row_key
from crowdhmt_ros.types import NO_READING, EngineOptions, Reading, Segment

_log = logging.getLogger(__name__)


class KeptMemory:
    """
    What the tables in one file say, which another process may write at any time.

    :param path: where calibration keeps its tables; the file need not be there yet
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = 0
        self._rows: Mapping[str, Row] = {}

    def __call__(self, segment: Segment, options: EngineOptions) -> Reading:
        """Return the bytes of a segment under engine options, `NO_READING` where unknown."""
        self._refresh()
        row = self._rows.get(row_key(segment.sha256, options))
        if row is None:
            return NO_READING
        return Reading(row.memory_bytes.mean, row.memory_bytes.source)

    def _refresh(self) -> None:
        try:
            mark = self._path.stat().st_mtime_ns
        except OSError:
            return
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._rows = load_tables(self._path).rows
        except CalibrationError as error:
            _log.warning('%s', error)
