# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a data set: collected while it is read, told in one message."""
from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

from crowdhmt_ros.datasets.dataset import Skipped
from crowdhmt_ros.errors import DataError, all_problems

SHOWN = 8
"""Findings that a message spells out; the rest is counted."""
UNREADABLE_RATIO = 0.1
"""With more than this share of unreadable items a data set is taken for damaged."""


def _shown(findings: Sequence[str]) -> str:
    more = len(findings) - SHOWN
    told = all_problems([*findings[:SHOWN], *(['and %d more' % more] if more > 0 else [])])
    return ' '.join(told.splitlines())  # a file name may hold a line break


class Findings:
    """
    Collects what is wrong with one data set.

    A problem makes the data set unusable. An unreadable item is skipped, unless it is one of too
    many. What was left out is no item at all (a text file between images) and counts for nothing.

    :param place: file or folder that messages name
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._problems: List[str] = []
        self._unreadable: List[Skipped] = []
        self._left_out: List[Skipped] = []

    def problem(self, text: str) -> None:
        """Note what makes the data set unusable; without a final stop."""
        self._problems.append(text)

    def skip(self, name: str, reason: str) -> None:
        """Note an item that cannot be read."""
        self._unreadable.append(Skipped(name, reason))

    def leave_out(self, name: str, reason: str) -> None:
        """Note what is no item."""
        self._left_out.append(Skipped(name, reason))

    def stop_if_any(self) -> None:
        """
        End here when there are problems.

        :raises DataError: all problems so far
        """
        if self._problems:
            raise DataError('%s: %s' % (self.place, _shown(self._problems)))

    def settle(self, total: int, strict: bool) -> Tuple[Skipped, ...]:
        """
        Decide on the unreadable items and return all that was not taken.

        :param total: items, with the unreadable ones
        :param strict: one unreadable item is one too many
        :raises DataError: problems, unreadable items under `strict`, or too many of them
        """
        unreadable = self._unreadable
        told = ['%s %s' % skipped for skipped in unreadable]
        if unreadable and (strict or len(unreadable) > UNREADABLE_RATIO * total):
            why = '' if strict else ', more than a tenth: mend or remove them'
            self.problem('%d of %d items cannot be read%s (%s)' % (
                len(unreadable), total, why, _shown(told)))
        self.stop_if_any()
        return (*unreadable, *self._left_out)
