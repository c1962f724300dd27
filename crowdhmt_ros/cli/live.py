# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The live table on a terminal, and one line a second where there is none."""
from __future__ import annotations

import sys
import textwrap
import time
from typing import Any, List, Mapping, Optional, Tuple

from crowdhmt_ros.cli.board import MB, View
from crowdhmt_ros.report.page import short_text

LINE_EVERY_S = 1.0
BAR_CELLS = 24
BRIEF_CELLS = 160
UNKNOWN = '-'


def figure(value: Optional[float], form: str, scale: float = 1.0) -> str:
    """Return a number as text, a dash when unknown."""
    return UNKNOWN if value is None else form % (value / scale)


def line_of(view: View) -> str:
    """Return one line for logs."""
    return ('%5.1f s | battery %s | memory %s of %s MB | %s | p95 %s of %s ms | %s Hz | '
            'lost %d, superseded %d, late %d | %s | right %s' % (
                view.time_s, figure(view.battery_ratio, '%.0f %%', 0.01),
                figure(view.memory_bytes, '%.1f', MB), figure(view.allotted_bytes, '%.1f', MB),
                view.plan, figure(view.latency_p95_s, '%.1f', 1e-3),
                figure(view.latency_budget_s, '%.0f', 1e-3), figure(view.rate_hz, '%.1f'),
                view.lost, view.superseded, view.late, view.light_band or UNKNOWN,
                figure(view.accuracy_ratio, '%.0f %%', 0.01)))


def peer_line(view: View) -> str:
    """Return placement, peers with their links and what became of offloaded frames."""
    links = ', '.join('%s %s ms, %s MB/s%s' % (
        link.robot_id, figure(link.round_trip_s, '%.1f', 1e-3),
        figure(link.bandwidth_bytes_per_s, '%.0f', MB),
        ', %d failures' % link.failures if link.failures else '') for link in view.links)
    return 'offloaded %.0f %%, degraded %.1f %% | peers: %s' % (
        100 * view.offloaded_ratio, 100 * view.degraded_ratio, links or 'none')


def bar(value: Optional[float], limit: Optional[float]) -> str:
    """Return a bar of value against limit, empty when one is unknown."""
    if value is None or not limit:
        return ''
    filled = round(BAR_CELLS * min(1.0, max(0.0, value / limit)))
    return '#' * filled + '.' * (BAR_CELLS - filled)


def rows_of(view: View, *, brief: bool = False) -> List[Tuple[str, str, str, str]]:
    """
    Return (name, value, bar, style) of each row of the table.

    :param brief: leave out what goes without saying, so that two tables fit on a terminal
    """
    rows = all_rows(view)
    if not brief:
        return rows
    kept = [row for row in rows if row[0] != 'light' and row[:2] != ('cannot meet', 'nothing')]
    return [(name, textwrap.shorten(value, BRIEF_CELLS, placeholder=' ...'), strip, style)
            for name, value, strip, style in kept]


def all_rows(view: View) -> List[Tuple[str, str, str, str]]:
    """Return every row."""
    def judged(value: Optional[float], limit: Optional[float], *, above: bool = False) -> str:
        if value is None or limit is None:
            return ''
        return 'green' if (value >= limit if above else value <= limit) else 'red'

    return [
        ('battery', figure(view.battery_ratio, '%.0f %%', 0.01), bar(view.battery_ratio, 1.0),
         'yellow' if (view.battery_ratio or 1.0) < 0.25 else ''),
        ('memory', '%s of %s MB allotted' % (figure(view.memory_bytes, '%.1f', MB),
                                             figure(view.allotted_bytes, '%.1f', MB)),
         bar(view.memory_bytes, view.allotted_bytes),
         judged(view.memory_bytes, view.allotted_bytes)),
        ('latency p95', '%s of %s ms' % (figure(view.latency_p95_s, '%.1f', 1e-3),
                                         figure(view.latency_budget_s, '%.0f', 1e-3)),
         bar(view.latency_p95_s, view.latency_budget_s),
         judged(view.latency_p95_s, view.latency_budget_s)),
        ('right answers', '%s, floor %s' % (figure(view.accuracy_ratio, '%.0f %%', 0.01),
                                            figure(view.accuracy_floor, '%.0f %%', 0.01)),
         bar(view.accuracy_ratio, 1.0),
         judged(view.accuracy_ratio, view.accuracy_floor, above=True)),
        ('plan', view.plan, '', 'bold'),
        ('because', short_text(view.reason) or UNKNOWN, '', ''),
        ('cannot meet', ', '.join(view.violated) or 'nothing', '',
         'red' if view.violated else ''),
        ('frames', '%s Hz, %d answered, %d lost, %d superseded, %d late, %d degraded' % (
            figure(view.rate_hz, '%.1f'), view.answered, view.lost, view.superseded, view.late,
            view.degraded), '', 'red' if view.lost else ''),
        ('light', view.light_band or UNKNOWN, '', ''),
        *([('peers', peer_line(view), '', 'red' if view.degraded_ratio > 0.2 else '')]
          if view.links or view.offloaded_ratio else []),
        *([('near', view.near, '', 'bold red')] if view.near else []),
    ]


class LineView:
    """One line a second on standard output."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def say(self, text: str) -> None:
        """Print one line of news."""
        print(text, flush=True)

    def show(self, view: View) -> None:
        """Print the line when a second has passed."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + LINE_EVERY_S
            print(line_of(view), flush=True)

    def show_all(self, views: Mapping[str, View]) -> None:
        """Print one line a robot when a second has passed."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + LINE_EVERY_S
        for name, view in views.items():
            print('%-8s %s | %s' % (name, line_of(view), peer_line(view)), flush=True)


class QuietView(LineView):
    """News only."""

    def show(self, view: View) -> None:
        """Show nothing."""

    def show_all(self, views: Mapping[str, View]) -> None:
        """Show nothing."""


class TableView:
    """A table on the terminal, redrawn in place."""

    def __init__(self, title: str) -> None:
        from rich.live import Live
        self._title = title
        self._news = 'starting'
        self._live = Live(refresh_per_second=8, transient=False)

    def __enter__(self) -> TableView:
        self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._live.__exit__(*details)

    def say(self, text: str) -> None:
        """Show one line of news under the table."""
        from rich.text import Text
        self._news = text
        self._live.update(Text(text))

    def show(self, view: View) -> None:
        """Redraw the table."""
        self._live.update(self._table(self._title, view))

    def show_all(self, views: Mapping[str, View]) -> None:
        """Redraw one table a robot, beneath each other."""
        from rich.console import Group
        self._live.update(Group(*(self._table('%s %s' % (self._title, name), view, brief=True)
                                  for name, view in views.items())))

    @staticmethod
    def _table(title: str, view: View, *, brief: bool = False) -> Any:
        from rich.table import Table
        from rich.text import Text
        table = Table(title='%s   %.0f s' % (title, view.time_s), title_justify='left',
                      show_header=False, min_width=76)
        for name, value, strip, style in rows_of(view, brief=brief):
            cell = Text(value, style=style)
            if strip:
                cell.append('  ' + strip, style='dim')
            table.add_row(name, cell)
        return table


def make_view(title: str, *, live: bool) -> Any:
    """
    Return the view that fits this terminal.

    :param title: above the table
    :param live: False asks for plain lines
    """
    return TableView(title) if live and sys.stdout.isatty() else LineView()
