# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How far a command is, for a person at a terminal or a reader of a log."""
from __future__ import annotations


class Bar:
    """A progress bar on a terminal; a line now and then elsewhere."""

    def __init__(self, title: str) -> None:
        """
        Prepare it.

        :param title: what is being done
        """
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
        self._title = title
        self._progress = Progress(
            TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn())
        self._task = self._progress.add_task(title, total=None)
        self._quiet = not self._progress.console.is_terminal
        self._shown = 0

    def __enter__(self) -> Bar:
        if not self._quiet:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._quiet:
            self._progress.stop()

    def __call__(self, done: int, total: int, note: str = '') -> None:
        """Show that `done` of `total` is done."""
        if not self._quiet:
            self._progress.update(
                self._task, completed=done, total=total, description=self._title + note)
        elif 20 * done // max(1, total) > self._shown or done == total:
            self._shown = 20 * done // max(1, total)
            print('%s: %d of %d%s' % (self._title, done, total, note), flush=True)
