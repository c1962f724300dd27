# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The seam to whatever tells about this machine.

To add a board, write one module with a class that has `sample`, and give it to the monitor
before the general ones: the first probe that knows a value wins.
"""
from __future__ import annotations

from typing import Mapping, Protocol

from crowdhmt_ros.types import Reading


class Probe(Protocol):
    """A source of readings. What it cannot read it leaves out; it never answers 0 instead."""

    def sample(self, now_s: float) -> Mapping[str, Reading]:
        """
        Return what can be read at this moment.

        :param now_s: node clock
        :returns: names from `types.READING_FIELDS` -> reading
        :raises ProbeError: when a value that was read cannot be right; one clear sentence
        """
