# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import signal
import sys
import time

import pytest

from crowdhmt_ros.cli.processes import (
    Child,
    Ended,
    Fleet,
    ProcessError,
    ros_environment,
    wait_until,
)

STUBBORN = ('import signal, time\n'
            'signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
            'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
            'print("ready", flush=True)\ntime.sleep(60)\n')
POLITE = ('import signal, sys, time\n'
          'signal.signal(signal.SIGINT, lambda *_: sys.exit(0))\n'
          'print("ready", flush=True)\ntime.sleep(60)\n')


def python(code):
    return [sys.executable, '-c', code]


def start(fleet, name, code):
    child = fleet.start(name, python(code))
    if 'ready' in code:
        assert wait_until(lambda: 'ready' in child.last_words(), 20)
    return child


@pytest.fixture
def fleet(tmp_path):
    made = Fleet(ros_environment(), tmp_path / 'logs')
    yield made
    made.stop_all()


def test_a_process_that_obeys_ends_cleanly_on_the_first_signal(fleet):
    start(fleet, 'polite', POLITE)
    ended = fleet.stop('polite')
    assert ended.code == 0
    assert not ended.crashed


def test_a_process_that_ignores_signals_is_killed(tmp_path):
    child = Child('stubborn', python(STUBBORN), environment=ros_environment(),
                  log_path=tmp_path / 'stubborn.log')
    assert wait_until(lambda: 'ready' in child.last_words(), 20)
    ended = child.stop(grace_s=(0.1, 0.1, 5.0))
    assert ended.code == -signal.SIGKILL
    assert ended.crashed


def test_a_crash_is_seen_with_its_last_words(fleet):
    child = fleet.start('broken', python('import sys; sys.exit("no camera here")'))
    assert wait_until(lambda: child.poll() is not None, 20)
    assert fleet.newly_ended() == (Ended('broken', 1, False),)
    assert child.last_words() == 'no camera here'
    assert fleet.newly_ended() == ()


def test_processes_end_in_the_asked_order(fleet):
    start(fleet, 'a', POLITE)
    start(fleet, 'b', POLITE)
    start(fleet, 'c', POLITE)
    assert [e.name for e in fleet.stop_all(('c', 'a'))] == ['c', 'a', 'b']


def test_children_of_a_process_end_with_it(fleet):
    code = ('import subprocess, sys, time\n'
            'p = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])\n'
            'print("ready", p.pid, flush=True)\ntime.sleep(60)\n')
    child = start(fleet, 'parent', code)
    grandchild = int(child.last_words().split()[-1])
    fleet.stop('parent')

    def gone():
        try:
            with open('/proc/%d/stat' % grandchild) as file:
                return file.read().split()[2] == 'Z'
        except FileNotFoundError:
            return True
    assert wait_until(gone, 10)


def test_a_program_that_does_not_exist_is_one_clear_line(fleet):
    with pytest.raises(ProcessError, match='process ghost cannot be started'):
        fleet.start('ghost', ['/nonexistent/program'])


def test_what_the_user_has_set_stays():
    found = ros_environment({'ROS_DOMAIN_ID': '7', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'})
    assert found['ROS_DOMAIN_ID'] == '7'
    assert found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'SUBNET'


def test_a_run_is_closed_to_other_machines_and_has_its_own_domain():
    found = ros_environment({})
    assert found['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 1 <= int(found['ROS_DOMAIN_ID']) <= 101
    assert len({ros_environment({})['ROS_DOMAIN_ID'] for _ in range(20)}) > 5


def test_waiting_gives_up_in_time():
    started = time.monotonic()
    assert not wait_until(lambda: False, 0.1)
    assert time.monotonic() - started < 2.0
