# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Small drawings: one panel is a strip over time with lines, steps and background bands.

Colours come from the page's style sheet by class name, so that a dark page is readable too.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import List, Mapping, Optional, Sequence, Tuple

Points = Sequence[Tuple[float, Optional[float]]]
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 64, 12, 26, 20
INNER = WIDTH - LEFT - RIGHT
MAX_POINTS = 1500


@dataclass(frozen=True)
class Line:
    """
    One series of a panel.

    :param points: (time in s, value), None breaks the line
    :param style: class in the style sheet, such as 'a', 'b', 'limit'
    :param name: shown in the legend, '' for none
    :param steps: the value holds until the next point
    """

    points: Points
    style: str
    name: str
    steps: bool = False


@dataclass(frozen=True)
class Shade:
    """A named stretch of time behind the lines."""

    start_s: float
    stop_s: float
    style: str


@dataclass(frozen=True)
class Axis:
    """
    The vertical axis.

    :param low: value at the bottom
    :param high: value at the top
    :param ticks: (value, text) of the grid lines
    """

    low: float
    high: float
    ticks: Tuple[Tuple[float, str], ...]


def nice_step(span: float, count: int = 4) -> float:
    """Return a step of 1, 2, 2.5 or 5 times a power of ten that cuts a span into about `count`."""
    raw = max(span, 1e-12) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)


def axis_for(values: Sequence[float], *, scale: float = 1.0, unit: str = '',
             floor: Optional[float] = 0.0, ceiling: Optional[float] = None) -> Axis:
    """
    Choose an axis that holds all values.

    :param values: in the unit of the data
    :param scale: data units in one shown unit
    :param unit: text after the numbers
    :param floor: lowest value shown, None to fit the data
    :param ceiling: highest value shown, None to fit the data
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low = min(finite) if floor is None else floor
    high = max(finite) if ceiling is None else ceiling
    if high <= low:
        high = low + scale
    step = nice_step((high - low) / scale) * scale
    low = math.floor(low / step + 1e-9) * step
    high = math.ceil(high / step - 1e-9) * step if ceiling is None else high
    count = round((high - low) / step)
    ticks = tuple((low + i * step, '%g%s' % (round((low + i * step) / scale, 10), unit))
                  for i in range(count + 1))
    return Axis(low, high, ticks)


def thin(points: Points, limit: int = MAX_POINTS) -> Points:
    """Drop points evenly where there are more than a strip can show."""
    stride = -(-len(points) // limit) if points else 1
    return [*points[:-1:stride], points[-1]] if stride > 1 else points


class Panel:
    """
    One strip over time.

    :param title: shown above
    :param duration_s: right end of the time axis
    :param axis: vertical axis
    :param height: of the plotted area in pixels
    """

    def __init__(self, title: str, duration_s: float, axis: Axis, *, height: int = 110) -> None:
        self._title = title
        self._duration_s = max(duration_s, 1e-9)
        self._axis = axis
        self._height = height

    def x(self, time_s: float) -> float:
        """Return the pixel column of a time, clipped to the panel."""
        return LEFT + INNER * min(1.0, max(0.0, time_s / self._duration_s))

    def y(self, value: float) -> float:
        """Return the pixel row of a value, clipped to the panel."""
        ratio = (value - self._axis.low) / (self._axis.high - self._axis.low)
        return TOP + self._height * (1.0 - min(1.0, max(0.0, ratio)))

    def draw(self, lines: Sequence[Line], shades: Sequence[Shade] = ()) -> str:
        """Return the drawing as one <svg> element."""
        total = TOP + self._height + BOTTOM
        parts = ['<svg viewBox="0 0 %d %d" role="img" aria-label="%s">'
                 % (WIDTH, total, escape(self._title, quote=True))]
        parts += [self._shade(shade) for shade in shades]
        parts += self._grid()
        parts.append('<text class="title" x="%d" y="15">%s</text>' % (LEFT, escape(self._title)))
        parts += self._legend([line for line in lines if line.name])
        parts += [self._path(line) for line in lines]
        return ''.join([*parts, '</svg>'])

    def _shade(self, shade: Shade) -> str:
        left, right = self.x(shade.start_s), self.x(shade.stop_s)
        return '<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>' % (
            shade.style, left, TOP, max(0.0, right - left), self._height)

    def _grid(self) -> List[str]:
        parts = []
        for value, text in self._axis.ticks:
            row = self.y(value)
            parts.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>'
                         % (LEFT, LEFT + INNER, row, row))
            parts.append('<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>'
                         % (LEFT - 6, row + 3.5, escape(text)))
        step = nice_step(self._duration_s, 8)
        for i in range(int(self._duration_s / step + 1e-9) + 1):
            parts.append('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%g s</text>'
                         % (self.x(i * step), TOP + self._height + 14, i * step))
        return parts

    def _legend(self, lines: Sequence[Line]) -> List[str]:
        parts: List[str] = []
        right = float(LEFT + INNER)
        for line in reversed(lines):
            right -= 6.2 * len(line.name)
            parts.append('<text class="tick" x="%.1f" y="15">%s</text>'
                         % (right, escape(line.name)))
            parts.append('<line class="line %s" x1="%.1f" x2="%.1f" y1="11.5" y2="11.5"/>'
                         % (line.style, right - 22, right - 5))
            right -= 36
        return parts

    def _path(self, line: Line) -> str:
        moves: List[str] = []
        row: Optional[float] = None
        for time_s, value in thin(line.points):
            if value is None or not math.isfinite(value):
                row = None
                continue
            column, new_row = self.x(time_s), self.y(value)
            if row is None:
                moves.append('M%.1f %.1f' % (column, new_row))
            elif line.steps:
                moves.append('H%.1fV%.1f' % (column, new_row))
            else:
                moves.append('L%.1f %.1f' % (column, new_row))
            row = new_row
        return '<path class="line %s" d="%s"/>' % (line.style, ''.join(moves))


def step_chart(title: str, bands: Sequence[Tuple[float, float, str]], duration_s: float, *,
               order: Sequence[str], shades: Sequence[Shade] = (),
               styles: Optional[Mapping[str, str]] = None, in_margin: bool = False) -> str:
    """
    Draw which of several named things was in force when: one row a name, richest on top.

    :param bands: (start in s, stop in s, name)
    :param order: names from top to bottom
    :param styles: name -> class in the style sheet, 'bar' where there is none
    :param in_margin: short names stand left of the chart instead of beside their bars
    """
    rows, row_height = list(order), 22
    axis = Axis(0.0, float(max(1, len(rows))), ())
    panel = Panel(title, duration_s, axis, height=row_height * max(1, len(rows)))
    drawing = panel.draw((), shades).replace('</svg>', '')
    parts = [drawing]
    for start, stop, name in bands:
        top = TOP + rows.index(name) * row_height
        left, right = panel.x(start), panel.x(stop)
        parts.append('<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="3">'
                     '<title>%s: %.1f s to %.1f s</title></rect>' % (
                         (styles or {}).get(name, 'bar'), left, top + 4,
                         max(1.5, right - left), row_height - 8, escape(name), start, stop))
    for i, name in enumerate(rows):
        used = [b for b in bands if b[2] == name]
        late = bool(used) and panel.x(used[0][0]) > LEFT + INNER / 2
        column, anchor = (panel.x(used[0][0]) - 8, 'end') if late else (
            panel.x(used[-1][1]) + 8 if used else LEFT + 8, 'start')
        if column > LEFT + INNER - 120 and anchor == 'start':
            column, anchor = LEFT + 8, 'start'
        if in_margin:
            column, anchor = LEFT - 6, 'end'
        covered = anchor == 'start' and any(
            panel.x(start) <= column < panel.x(stop) for start, stop, _ in used)
        parts.append('<text class="label%s" x="%.1f" y="%d" text-anchor="%s">%s</text>' % (
            ' inside' if covered else '', column, TOP + i * row_height + 15, anchor, escape(name)))
    return ''.join([*parts, '</svg>'])
