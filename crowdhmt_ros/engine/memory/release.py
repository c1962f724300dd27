# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Give the memory of a mapped weight file back while it stays mapped (Linux).

Its pages are clean copies of the file: dropping them loses nothing, and the next read maps them
again, from the page cache where the kernel still has them. What was written to is never dropped.
"""
from __future__ import annotations

import ctypes
import logging
import mmap
import os
from pathlib import Path
from typing import List, Sequence, Tuple

Range = Tuple[int, int]
"""(first, behind the last), of a file or of memory."""

_DONTNEED = 4
_log = logging.getLogger(__name__)


def mapped_ranges(path: str, wanted: Sequence[Range]) -> Tuple[Range, ...]:
    """
    Return where parts of a file lie in this process, as long as nobody wrote there.

    :param path: of the file
    :param wanted: (first, behind the last) byte in the file
    :returns: whole pages, (address, address behind); none where /proc does not tell
    """
    found: List[Range] = []
    for start, stop, offset in _mappings(path):
        for first, behind in wanted:
            low = max(first, offset) // mmap.PAGESIZE * mmap.PAGESIZE
            high = min(-(-behind // mmap.PAGESIZE) * mmap.PAGESIZE, offset + stop - start)
            if low < high:
                found.append((start + low - offset, start + high - offset))
    return tuple(found)


class Release:
    """
    Drops pages of memory that is mapped from a file.

    :param ranges: (address, address behind), whole pages of mappings that stay
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._calls = [(ctypes.c_void_p(start), ctypes.c_size_t(stop - start))
                       for start, stop in ranges]
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise

    def __call__(self) -> None:
        """Give the pages back; a refusal of the kernel only costs memory."""
        for address, length in self._calls:
            if self._madvise(address, length, _DONTNEED):
                _log.warning('weights stay in memory: %s', os.strerror(ctypes.get_errno()))
                self._calls = []
                return


def _mappings(path: str) -> List[Tuple[int, int, int]]:
    """
    Return (address, address behind, offset in the file) of a file's mappings.

    Engines map for reading and writing. A mapping that somebody did write to is left out: its
    own pages would be lost.
    """
    found: List[Tuple[int, int, int]] = []
    real = os.path.realpath(path)
    ours = False
    for line in Path('/proc/self/smaps').read_text().splitlines():
        parts = line.split(None, 5)
        if not parts[0].endswith(':'):
            ours = len(parts) == 6 and parts[5] == real
            if ours:
                start, stop = (int(p, 16) for p in parts[0].split('-'))
                found.append((start, stop, int(parts[2], 16)))
        elif ours and parts[0] == 'Anonymous:' and parts[1] != '0':
            found.pop()
            ours = False
    return found
