# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""However the command is ended, no process of the run is left."""
import os
import signal
import subprocess
import sys
import time

import pytest

from crowdhmt_ros.cli.interrupts import one_request, undisturbed
from crowdhmt_ros.cli.processes import wait_until

SLOW_TO_END = ('import os, signal, sys, time\n'
               'def end(*_):\n    time.sleep(2.5)\n    sys.exit(0)\n'
               'signal.signal(signal.SIGINT, end)\n'
               'os.write(1, b"%d\\n" % os.getpid())\ntime.sleep(120)\n')
UP = ('import sys\nfrom crowdhmt_ros.cli import main, up\n'
      'up.command_lines = lambda _: {n: [sys.executable, "-c", %r] for n in ("mind", "engine")}\n'
      'raise SystemExit(main.main(["up", "vehicle"]))\n' % SLOW_TO_END)
"""`crowdhmt up` whose processes only sleep, and take their time to end."""


def is_alive(pid):
    try:
        with open('/proc/%d/stat' % pid) as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.fixture
def up():
    """Return the running command and the process ids of its two processes."""
    process = subprocess.Popen([sys.executable, '-c', UP], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, start_new_session=True)
    pids = [int(process.stdout.readline()) for _ in range(2)]
    yield process, pids
    for pid in [process.pid, *pids]:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=20)


@pytest.mark.parametrize(('number', 'pauses_s'), [
    (signal.SIGTERM, ()), (signal.SIGHUP, ()), (signal.SIGINT, (0.0,)),
    (signal.SIGINT, (1.3, 0.2)), (signal.SIGTERM, (1.3,))])
def test_asked_to_end_once_or_more_it_stops_every_process(up, number, pauses_s):
    process, pids = up
    process.send_signal(number)
    for pause_s in pauses_s:
        time.sleep(pause_s)
        process.send_signal(number)
    assert process.wait(30) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert process.stderr.read() == 'stopping\n'


def test_killed_itself_it_leaves_no_process(up):
    process, pids = up
    process.kill()
    process.wait(20)
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids), 20)


def test_two_signals_at_once_are_one_request():
    with one_request():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with undisturbed():
            signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_the_caller_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with one_request():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
