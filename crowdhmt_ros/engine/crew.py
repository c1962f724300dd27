# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The threads of engines in this process, and the cores that they may use.

An engine starts its threads inside a library that does not tell which they are. On Linux a new
thread inherits the name of the one that starts it, so an engine is made under a name of its own
(`gathering`), and its threads are found by that name later. Cores can be changed while they run;
no frame is lost or late by that. Elsewhere all of this does nothing.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Set

MARK = 'cr-eng-'
"""Begins the names of engine threads; the kernel keeps fifteen letters."""
_TASKS = Path('/proc/self/task')


def _no_callers() -> Sequence[int]:
    return ()


class Crew:
    """
    All engine threads of this process; the cores that the process had at first are its limit.

    :param callers: native ids of the threads that call engines for this robot's own frames
    """

    def __init__(self, callers: Callable[[], Sequence[int]] = _no_callers) -> None:
        self.callers = callers
        self._numbers = itertools.count(1)
        self._placing = threading.Lock()
        affinity = getattr(os, 'sched_getaffinity', None)
        self._allowed: Set[int] = set(affinity(0)) if affinity is not None else set()

    @property
    def allowed(self) -> Set[int]:
        """Cores that this process may use, empty where the system does not tell."""
        return set(self._allowed)

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Let threads that this thread starts inside belong to one engine."""
        own = _TASKS / str(threading.get_native_id()) / 'comm'
        try:
            before = own.read_text().strip()
            own.write_text('%s%d' % (MARK, next(self._numbers)))
        except OSError:  # no such names here: its threads stay where the system puts them
            yield
            return
        try:
            yield
        finally:
            own.write_text(before)

    def place(self, cores: Sequence[int], *, pinned: bool) -> int:
        """
        Say on which cores engine threads run from now on.

        :param cores: () for all that the process may use; others than these are left out
        :param pinned: thread i of each engine on core i alone, callers on the first
        :returns: threads that were told
        """
        usable = [core for core in cores if core in self._allowed]
        if not self._allowed:
            return 0
        told = 0
        with self._placing:
            for caller in self.callers():
                told += _tell(caller, usable[:1] if pinned else usable, self._allowed)
            for threads in self._engines().values():
                for rank, thread in enumerate(threads, start=1):
                    at = usable[rank % len(usable):][:1] if pinned and usable else usable
                    told += _tell(thread, at, self._allowed)
        return told

    def _engines(self) -> Dict[str, List[int]]:
        """Return name -> threads of each engine that has threads of its own, in order."""
        found: Dict[str, List[int]] = {}
        callers = set(self.callers())
        for task in sorted(_TASKS.iterdir(), key=lambda path: int(path.name)):
            try:
                name = (task / 'comm').read_text().strip()
            except OSError:  # it has ended
                continue
            if name.startswith(MARK) and int(task.name) not in callers:
                found.setdefault(name, []).append(int(task.name))
        return found


def _tell(thread: int, cores: Iterable[int], allowed: Set[int]) -> int:
    try:
        os.sched_setaffinity(thread, set(cores) or allowed)
    except OSError:  # it has ended, or another took these cores away
        return 0
    return 1


CREW = Crew()
"""Of this process: threads and their cores are the process's, however many pools it has."""
