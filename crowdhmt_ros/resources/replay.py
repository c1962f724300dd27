# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Readings from a recording instead of from this machine.

Known columns: PX4 (`t_s,voltage_v,current_a,remaining,cpu_load,ram_usage`) and Crazyflie
(`t_ms,vbat_v`); any other CSV whose columns are `t_s` and fields of ResourceSnapshot.
"""
from __future__ import annotations

import bisect
import csv
import math
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.errors import ProbeError
from crowdhmt_ros.types import READING_FIELDS, REPLAYED, Reading

TIMES = {'t_s': 1.0, 't_ms': 1e-3}
COLUMNS = {
    'voltage_v': 'battery_voltage_v',
    'vbat_v': 'battery_voltage_v',
    'current_a': 'battery_current_a',
    'remaining': 'battery_ratio',
    'cpu_load': 'cpu_load_ratio',
}
"""Column of a known recording -> field of ResourceSnapshot."""
RATIO_SUFFIX = '_ratio'
"""Fields of this ending lie in 0..1; PX4 writes -1 where it does not know."""


class TraceProbe:
    """
    Plays recorded rows from its first sample on; between rows the last one holds.

    :param times_s: ascending, relative to the first row
    :param rows: one a time: field -> value
    :param rate: how much faster than recorded
    """

    def __init__(self, times_s: Sequence[float], rows: Sequence[Mapping[str, float]], *,
                 rate: float = 1.0) -> None:
        if not times_s or len(times_s) != len(rows):
            raise ProbeError('a recording needs at least one row, and a time for each')
        self._times_s, self._rows, self._rate = tuple(times_s), tuple(rows), rate
        self._began_s: Optional[float] = None

    @property
    def duration_s(self) -> float:
        """From the first to the last row, as recorded."""
        return self._times_s[-1] - self._times_s[0]

    def sample(self, now_s: float) -> Mapping[str, Reading]:
        """Return the row in force; a clock that jumped back starts the recording anew."""
        if self._began_s is None or now_s < self._began_s:
            self._began_s = now_s
        at_s = self._times_s[0] + (now_s - self._began_s) * self._rate
        index = max(0, bisect.bisect_right(self._times_s, at_s + 1e-9) - 1)
        age_s = max(0.0, at_s - self._times_s[index]) / self._rate
        return {name: Reading(value, REPLAYED, age_s)
                for name, value in self._rows[index].items()}


def read_trace(path: Path, *, rate: float = 1.0) -> TraceProbe:
    """
    Return a recording from a CSV file.

    :raises ProbeError: when it cannot be read or holds no usable column
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProbeError(f'{path} cannot be read as CSV: {error}') from error
    names = tuple(table[0]) if table else ()
    time_name = next((n for n in names if n in TIMES), None)
    fields = {n: COLUMNS.get(n, n) for n in names if COLUMNS.get(n, n) in READING_FIELDS}
    if time_name is None or not fields:
        raise ProbeError('{} needs a column t_s or t_ms and at least one of {}'.format(
            path, ', '.join(sorted(COLUMNS))))
    pairs = [_row(row, time_name, fields) for row in table]
    known = sorted((p for p in pairs if p is not None), key=lambda p: p[0])
    if not known:
        raise ProbeError(f'{path} has no row with a time')
    return TraceProbe([t for t, _ in known], [row for _, row in known], rate=rate)


def _row(row: Mapping[str, Optional[str]], time_name: str, fields: Mapping[str, str]
         ) -> Optional[Tuple[float, Dict[str, float]]]:
    time_s = _number(row.get(time_name))
    if time_s is None:
        return None
    values = ((field, _known(field, _number(row.get(name)))) for name, field in fields.items())
    return time_s * TIMES[time_name], {f: v for f, v in values if v is not None}


def _known(field: str, value: Optional[float]) -> Optional[float]:
    """Return `value`, None where it stands for unknown."""
    if value is None or (field.endswith(RATIO_SUFFIX) and value < 0.0):
        return None
    return value


def _number(text: Optional[str]) -> Optional[float]:
    try:
        value = float(text or '')
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def tegrastats_probe(lines: List[Mapping[str, Reading]], *, period_s: float = 1.0
                     ) -> TraceProbe:
    """Return a recording of parsed tegrastats lines, one every `period_s`."""
    rows = [{n: r.value for n, r in line.items() if r.value is not None} for line in lines]
    return TraceProbe([i * period_s for i in range(len(rows))], rows)
