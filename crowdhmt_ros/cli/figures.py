# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A figure beside its target: what every bench returns."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

LOWER, HIGHER = 'lower', 'higher'


@dataclass(frozen=True)
class Figure:
    """
    One measured figure.

    :param key: its name, the same for ever
    :param value: None when it could not be measured
    :param target: None for a figure that only informs
    :param better: 'lower' or 'higher'
    :param holds: whether the target is met; None for a figure that only informs
    :param how: one line: what was measured, over how much
    """

    key: str
    value: Optional[float]
    target: Optional[float]
    better: str
    holds: Optional[bool]
    how: str

    def as_dict(self) -> Dict[str, Any]:
        """Return the figure as it stands in the JSON file."""
        value = self.value if self.value is None or math.isfinite(self.value) else None
        return {'key': self.key, 'value': value, 'target': self.target,
                'better': self.better, 'holds': self.holds, 'how': self.how}


def claim(key: str, value: Optional[float], target: float, *, better: str, how: str,
          also: bool = True) -> Figure:
    """
    Return a figure with a target; what was not measured does not hold.

    :param also: a further condition for it to hold
    """
    met = value is not None and math.isfinite(value) and (
        value <= target if better == LOWER else value >= target)
    return Figure(key, value, target, better, met and also, how)


def inform(key: str, value: Optional[float], *, better: str = LOWER, how: str) -> Figure:
    """Return a figure without a target."""
    return Figure(key, value, None, better, None, how)


def number_text(value: Optional[float]) -> str:
    """Return a number as it stands in the table."""
    return '-' if value is None else '%.4g' % value


def table_text(figures: Sequence[Figure]) -> str:
    """Return the figures as a table for people."""
    rows = [('figure', 'value', 'target', '', 'how')]
    for f in figures:
        sign = {LOWER: '<=', HIGHER: '>='}[f.better] if f.target is not None else ''
        mark = {True: 'holds', False: 'FALLS SHORT', None: ''}[f.holds]
        rows.append((f.key, number_text(f.value),
                     '%s %s' % (sign, number_text(f.target)) if sign else '', mark, f.how))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return '\n'.join('  '.join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[4]]).rstrip()
                     for row in rows)


def falls_short(figures: Sequence[Figure]) -> List[str]:
    """Return the keys of the figures that do not hold."""
    return [f.key for f in figures if f.holds is False]
