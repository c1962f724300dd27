# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Processes that stay loaded and run when they are told to, one at a time.

What is compared runs in turns, seconds apart at most, so that what slows the machine down slows
all of it; and in several sets of fresh processes, as memory lies otherwise in each.
"""
from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional

from benchmarks import timing
from crowdhmt_ros.cli.processes import ProcessError, ros_environment

END_S, LONGEST_S = 20.0, 600.0


class Lane:
    """A child that answers each line of JSON with one, the first when it is ready."""

    def __init__(self, module: str, request: Any, *, timeout_s: float = LONGEST_S,
                 rest: Callable[[int], None] = lambda pid: None) -> None:
        """
        Start `python -m MODULE REQUEST` and wait until it is ready.

        :param timeout_s: within which an answer comes, else the process is killed
        :param rest: called with its process identifier behind each answer
        :raises ProcessError: it ended before
        """
        self._module, self._timeout_s, self._rest = module, timeout_s, rest
        self._said = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115 - see end()
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, json.dumps(request)], env=ros_environment(),
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        try:
            self.first: Any = self._read()
        except BaseException:
            self._process.kill()
            self.end()
            raise

    def __enter__(self) -> Lane:
        """Return itself; it is ended behind."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End it."""
        self.end()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, request: Any, *, timeout_s: Optional[float] = None) -> Any:
        """
        Send a request and return the answer.

        :param timeout_s: instead of that of all answers
        :raises ProcessError: the process has ended
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ProcessError(self._ended()) from error
        return self._read(timeout_s)

    def _read(self, timeout_s: Optional[float] = None) -> Any:
        assert self._process.stdout is not None
        timer = threading.Timer(timeout_s or self._timeout_s, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            raise ProcessError(self._ended())
        self._rest(self._process.pid)
        return json.loads(line)

    def _ended(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        return '%s ended by itself with exit code %s: %s' % (
            self._module, code, ' / '.join(self._said.read().strip().splitlines()[-3:]))

    def end(self) -> None:
        """Let it end by itself, else end it."""
        try:
            self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._said.close()


def turns(lanes: Mapping[str, Lane], count: int, runs: int) -> List[Dict[str, float]]:
    """
    Let lanes run in turns.

    :param lanes: title -> a child that answers a number of runs with the seconds of each
    :param count: of rounds
    :param runs: in a turn; the first is not counted, its caches were another's
    :returns: title -> median seconds of a turn, by round
    :raises ProcessError: one has ended
    """
    return [{title: statistics.median(lanes[title].ask(runs)[1:])
             for title in timing.order(list(lanes), number)} for number in range(count)]
