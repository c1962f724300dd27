# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a process ends, whatever its nodes do."""
import signal
import subprocess
import sys

import pytest

rclpy = pytest.importorskip('rclpy')
from rclpy.node import Node  # noqa: E402

from crowdhmt_ros.nodes import process  # noqa: E402

EVERY_S = 0.02


class Faulty(Node):
    """Ends as it is told: by an exception in a callback, by itself, or badly in `close`."""

    finished = False
    closed = False
    exit_code = 0

    def __init__(self, name, *, error=None, exit_code=None, close_error=None):
        super().__init__(name)
        self._error, self._exit, self._close_error = error, exit_code, close_error
        self.create_timer(EVERY_S, self._act)

    def start(self):
        pass

    def _act(self):
        if self._error is not None:
            raise self._error
        if self._exit is not None:
            self.exit_code, self.finished = self._exit, True

    def close(self):
        self.closed = True
        if self._close_error is not None:
            raise self._close_error


@pytest.fixture
def run(monkeypatch):
    """Run nodes of these options in one process; returns them afterwards."""
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    made = []

    def start(*options):
        def create(name, share):
            made.append(Faulty(name, **options[int(name[-1])]))
            return made[-1]

        monkeypatch.setattr(process, '_create', create)
        return process.run([f'node{number}' for number in range(len(options))], [])

    start.made = made
    yield start
    for number, handler in handlers:
        signal.signal(number, handler)


def test_an_exception_that_no_one_catches_closes_every_node(run):
    with pytest.raises(ZeroDivisionError):
        run({'error': ZeroDivisionError('a defect')}, {})
    assert [node.closed for node in run.made] == [True, True]
    assert not rclpy.ok()


def test_a_node_that_cannot_be_closed_keeps_no_other_from_it(run):
    with pytest.raises(OSError, match='full'):
        run({'exit_code': 0}, {'close_error': OSError('full')})
    assert [node.closed for node in run.made] == [True, True]
    assert not rclpy.ok()


@pytest.mark.parametrize('code', [0, 2])
def test_a_node_that_ends_by_itself_gives_the_exit_code(run, code):
    assert run({'exit_code': code}, {}) == code
    assert all(node.closed for node in run.made)


@pytest.mark.parametrize('thread_left', [False, True])
def test_a_defect_is_a_traceback_and_code_1(thread_left):
    script = f"""
import threading, time
from crowdhmt_ros.nodes import process
def fail(names, args):
    if {thread_left}:
        threading.Thread(target=time.sleep, args=(60,)).start()
    raise ZeroDivisionError('a defect')
process.run = fail
raise SystemExit(process.main_of('mind'))
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 1
    assert 'ZeroDivisionError: a defect' in done.stderr
