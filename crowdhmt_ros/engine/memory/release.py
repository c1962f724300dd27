# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Give the memory of a mapped weight file back while it stays mapped (Linux).

Its pages are clean copies of the file: dropping them loses nothing, and the next read maps them
again, from the page cache where the kernel still has them. What was written to is never dropped.
"""
from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import weakref
from typing import List, Optional, Sequence, Tuple

Range = Tuple[int, int]
"""(first, behind the last), of a file or of memory."""
Mapped = Tuple[int, int, int]
"""(address, address behind, offset in the file)."""

_RANDOM, _DONTNEED = 1, 4
_log = logging.getLogger(__name__)


def mapped_ranges(path: str, wanted: Sequence[Range], *,
                  known: Optional[Sequence[Mapped]] = None) -> Tuple[Range, ...]:
    """
    Return where parts of a file lie in this process, as long as nobody wrote there.

    :param path: of the file
    :param wanted: (first, behind the last) byte in the file
    :param known: what `mappings` said of it, None to look now
    :returns: whole pages, (address, address behind); none where /proc does not tell
    """
    found: List[Range] = []
    for start, stop, offset in mappings(path) if known is None else known:
        for first, behind in wanted:
            low = max(first, offset) // mmap.PAGESIZE * mmap.PAGESIZE
            high = min(-(-behind // mmap.PAGESIZE) * mmap.PAGESIZE, offset + stop - start)
            if low < high:
                found.append((start + low - offset, start + high - offset))
    return tuple(found)


class Advice:
    """
    Tells the kernel how memory that is mapped from a file is used.

    :param ranges: (address, address behind), whole pages of mappings that stay
    :param kind: of madvise
    """

    def __init__(self, ranges: Sequence[Range], kind: int) -> None:
        self._calls = [(ctypes.c_void_p(start), ctypes.c_size_t(stop - start))
                       for start, stop in ranges]
        self._kind = kind
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise

    def __call__(self) -> None:
        """Say it; a refusal of the kernel only costs memory or time."""
        for address, length in self._calls:
            if self._madvise(address, length, self._kind):
                _log.warning('the kernel takes no advice about mapped weights: %s',
                             os.strerror(ctypes.get_errno()))
                self._calls = []
                return


class Release(Advice):
    """
    Drops pages of memory that is mapped from a file.

    :param ranges: (address, address behind), whole pages of mappings that stay
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__(ranges, _DONTNEED)


class Stream:
    """
    Parts of a mapped file that are fetched before they are used and dropped behind it.

    :param path: of the file
    :param wanted: (first, behind the last) byte in the file
    :param known: what `mappings` says of it
    :param charged: drop what the kernel keeps of the file as well, unless others map it: a memory
        group is charged for that; otherwise only this process's pages are dropped
    """

    def __init__(self, path: str, wanted: Sequence[Range], *, known: Sequence[Mapped],
                 charged: bool) -> None:
        self._wanted = [(start, stop - start) for start, stop in wanted]
        self._charged = charged
        self._release = Release(mapped_ranges(path, wanted, known=known))
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def fetch(self) -> None:
        """Let the kernel read; it does so while this process goes on."""
        for start, size in self._wanted:
            os.posix_fadvise(self._file, start, size, os.POSIX_FADV_WILLNEED)

    def drop(self) -> None:
        """Give the pages back."""
        self._release()
        for start, size in self._wanted if self._charged else ():
            os.posix_fadvise(self._file, start, size, os.POSIX_FADV_DONTNEED)


def release_code(library: str) -> None:
    """
    Give back a library's code and constants.

    Loading a graph runs through megabytes of code that running it never comes to. What is used
    again comes again from the page cache, a millisecond for all of an engine's.

    :param library: path of a shared library
    """
    Release([(start, stop) for start, stop, _ in mappings(library, writable=False)])()


def read_singly(known: Sequence[Mapped]) -> None:
    """Keep the kernel from reading megabytes around each page of a mapped file that is missing."""
    Advice([(start, stop) for start, stop, _ in known], _RANDOM)()


def mappings(path: str, *, writable: bool = True) -> Tuple[Mapped, ...]:
    """
    Return (address, address behind, offset in the file) of a file's mappings.

    A mapping that somebody did write to is left out: its own pages would be lost.

    :param writable: whether those count that may be written to; engines map weights so
    :returns: none where /proc does not tell
    """
    found: List[Mapped] = []
    real = os.path.realpath(path)
    ours = False
    with contextlib.suppress(OSError), open('/proc/self/smaps') as stream:
        for line in stream:  # not read at once: it may be a megabyte
            parts = line.split(None, 5)
            if not parts[0].endswith(':'):
                ours = (len(parts) == 6 and parts[5].rstrip('\n') == real
                        and (writable or 'w' not in parts[1]))
                if ours:
                    start, stop = (int(p, 16) for p in parts[0].split('-'))
                    found.append((start, stop, int(parts[2], 16)))
            elif ours and parts[0] == 'Anonymous:' and parts[1] != '0':
                found.pop()
                ours = False
    return tuple(found)
