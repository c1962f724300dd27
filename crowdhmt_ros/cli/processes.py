# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Starting and stopping the robot's processes without `ros2 launch`.

Each is a process group of its own, so that Ctrl-C reaches this program first, which then asks
them to end in a chosen order: SIGINT, then SIGTERM, then SIGKILL. If this program is killed the
kernel asks them (SIGTERM).
"""
from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from crowdhmt_ros.cli.domains import draw_domain
from crowdhmt_ros.cli.interrupts import undisturbed
from crowdhmt_ros.errors import CrowdHMTError
from crowdhmt_ros.share import dds_profile

GRACE_S = (6.0, 2.0, 2.0)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
POLL_S = 0.05
TAIL_LINES = 4
PR_SET_PDEATHSIG = 1


class ProcessError(CrowdHMTError):
    """A process of the robot could not be started or has crashed."""


def ros_environment(base: Optional[Mapping[str, str]] = None, *,
                    domain: Optional[int] = None) -> Dict[str, str]:
    """
    Return an environment in which a robot's processes find each other and nobody else.

    What the user has set stays: ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, on Humble
    ROS_LOCALHOST_ONLY, and a profile for Fast DDS.

    :param base: environment to start from; this process's when None
    :param domain: used where none is set; one that no other run has drawn when None
    """
    found = dict(os.environ if base is None else base)
    if 'ROS_DOMAIN_ID' not in found:
        found['ROS_DOMAIN_ID'] = str(draw_domain() if domain is None else domain)
    if 'ROS_AUTOMATIC_DISCOVERY_RANGE' not in found:
        found['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        found.setdefault('ROS_LOCALHOST_ONLY', '1' if found.get('ROS_DISTRO') == 'humble' else '0')
    found.update(dds_profile(found))
    found['PYTHONUNBUFFERED'] = '1'
    # One robot's engine threads are chosen by its plan: numerical libraries must not add theirs.
    found.setdefault('OMP_NUM_THREADS', '1')
    return found


def ends_with_its_parent() -> Callable[[], None]:
    """
    Return what a new process calls first: it gets SIGTERM when the thread that started it ends.

    Linux's prctl(2); everything is looked up here, since little is allowed between fork and exec.
    """
    parent, prctl, number = os.getpid(), ctypes.CDLL(None).prctl, int(signal.SIGTERM)

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it has ended before we could ask
            os._exit(1)

    return ask


@dataclass(frozen=True)
class Ended:
    """How a process ended: a negative code is the signal that ended it."""

    name: str
    code: int
    asked: bool

    @property
    def crashed(self) -> bool:
        """Whether it ended otherwise than cleanly or as asked."""
        return self.code != 0 and not (self.asked and -self.code in (
            signal.SIGINT, signal.SIGTERM))


class Child:
    """
    One process group with its log file.

    :param name: for people and for the log's name
    :param command: the command line
    :param environment: all of it
    :param log_path: gets both outputs; None leaves them on this terminal
    :raises ProcessError: when it cannot be started
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str],
                 log_path: Optional[Path] = None) -> None:
        self.name = name
        self.log_path = log_path
        self.asked = False
        self.started_s = time.monotonic()
        log: Optional[IO[bytes]] = None
        try:
            if log_path:
                log_path.parent.mkdir(parents=True, exist_ok=True)
                log = open(log_path, 'ab')  # noqa: SIM115 - closed below, the child keeps its copy
            self._process = subprocess.Popen(
                list(command), env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT if log else None, start_new_session=True,
                preexec_fn=ends_with_its_parent())
        except OSError as error:
            raise ProcessError('process %s cannot be started: %s' % (name, error)) from error
        finally:
            if log:
                log.close()

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""
        return self._process.pid

    def poll(self) -> Optional[Ended]:
        """Return how it ended, None while it runs."""
        code = self._process.poll()
        return None if code is None else Ended(self.name, code, self.asked)

    def send(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens when it is gone."""
        self.asked = True
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def stop(self, grace_s: Sequence[float] = GRACE_S) -> Ended:
        """Ask it to end, ever more firmly; returns when it has."""
        for number, patience_s in zip(SIGNALS, grace_s):
            if self.poll() is None:
                self.send(number)
                self.wait(patience_s)
        self._process.wait()
        ended = self.poll()
        assert ended is not None
        return ended

    def wait(self, timeout_s: float) -> Optional[Ended]:
        """Wait until it ends; None after the timeout."""
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def last_words(self, lines: int = TAIL_LINES) -> str:
        """Return the end of the log in one line, '' without a log."""
        if not self.log_path or not self.log_path.is_file():
            return ''
        text = self.log_path.read_text(encoding='utf-8', errors='replace')
        return ' / '.join(line.strip() for line in text.splitlines()[-lines:] if line.strip())


class Fleet:
    """
    All processes of one run.

    :param environment: of each process
    :param log_folder: gets NAME.log of each; None leaves output on this terminal
    """

    def __init__(self, environment: Mapping[str, str], log_folder: Optional[Path] = None) -> None:
        self._environment = dict(environment)
        self._log_folder = log_folder
        self.children: Dict[str, Child] = {}
        self.ended: List[Ended] = []

    def start(self, name: str, command: Sequence[str]) -> Child:
        """
        Start one process.

        :raises ProcessError: when it cannot be started
        """
        log = self._log_folder / (name + '.log') if self._log_folder else None
        child = Child(name, command, environment=self._environment, log_path=log)
        self.children[name] = child
        return child

    def newly_ended(self) -> Tuple[Ended, ...]:
        """Return the processes that ended since the last call; they are forgotten here."""
        found = []
        for name, child in list(self.children.items()):
            ended = child.poll()
            if ended:
                found.append(ended)
                del self.children[name]
        self.ended += found
        return tuple(found)

    def stop(self, name: str) -> Optional[Ended]:
        """Stop one process; None when it was not running any more."""
        child = self.children.pop(name, None)
        if child is None:
            return None
        ended = child.stop()
        self.ended.append(ended)
        return ended

    def stop_all(self, order: Sequence[str] = ()) -> Tuple[Ended, ...]:
        """
        Stop everything: the named ones one after another, then the rest together.

        A further Ctrl-C changes nothing: each has its GRACE_S, then it is killed.

        :returns: how every process of this fleet ended
        """
        with undisturbed():
            for name in order:
                self.stop(name)
            rest = list(self.children.values())
            for child in rest:
                if child.poll() is None:
                    child.send(signal.SIGINT)
            for child in rest:
                self.stop(child.name)
        return tuple(self.ended)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether a condition came true within the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
