# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicle and drone in two network namespaces whose link is cut."""
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from benchmarks import _link

CUT_S = 3.0
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.78.0.2', 5000))
print('up', flush=True)
while True:
    data, sender = s.recvfrom(2000)
    s.sendto(data, sender)
"""
ASK = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
times, lost = [], 0
for _ in range(20):
    start = time.monotonic()
    s.sendto(b'x' * 1000, ('10.78.0.2', 5000))
    try:
        s.recv(2000)
        times.append(time.monotonic() - start)
    except OSError:
        lost += 1
print(min(times, default=0.0), lost)
"""


@pytest.fixture(scope='module', autouse=True)
def may_make_namespaces():
    reason = _link.why_not()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def link():
    with _link.LinkedPair(_link.Shape()) as found:
        yield found
    left = subprocess.run(['ip', 'netns', 'list'], text=True, capture_output=True, check=True)
    assert not set(found.namespaces) & set(left.stdout.split())


@pytest.fixture
def asked(link):
    echo = subprocess.Popen([*link.prefix(1), sys.executable, '-c', ECHO], text=True,
                            stdout=subprocess.PIPE)
    assert echo.stdout.readline() == 'up\n'

    def ask():
        done = subprocess.run([*link.prefix(0), sys.executable, '-c', ASK], text=True,
                              capture_output=True, check=True)
        fastest, lost = done.stdout.split()
        return float(fastest), int(lost)

    yield ask
    echo.kill()
    echo.communicate()


def test_a_link_delays_slows_loses_and_is_cut(link, asked):
    assert asked()[1] == 0
    link.reshape(delay_s=0.02)
    assert asked()[0] >= 0.04
    link.reshape(delay_s=0.0, bytes_per_s=50e3)
    assert asked()[0] >= 0.04
    link.reshape(**vars(_link.Shape(cut=True)))
    assert asked()[1] == 20
    link.reshape(**vars(_link.Shape(loss_ratio=0.5)))
    time.sleep(0.1)
    assert 0 < asked()[1] < 20


def test_a_direction_keeps_order_delay_rate_and_queue():
    shape = _link.Shape(delay_s=0.5, bytes_per_s=1000.0, queue_s=0.15)
    way = _link.Direction(seed=0)
    for packet in (b'a' * 100, b'b' * 100, b'c' * 100):
        way.enter(packet, 10.0, shape)
    assert way.next_s() == pytest.approx(10.6)
    assert way.due(10.59) == []
    assert way.due(11.0) == [b'a' * 100, b'b' * 100]  # the third would wait 0.2 s for its turn
    way.enter(b'd', 12.0, replace(shape, cut=True))
    assert way.next_s() == float('inf')


@pytest.mark.ros
@pytest.mark.usefixtures('nothing_left_running')
def test_a_cut_loses_no_frame_and_help_comes_back(robot_environment, monkeypatch, tmp_path):
    for name, value in robot_environment.items():
        monkeypatch.setenv(name, value)
    from benchmarks._pair_network import run_network
    outcome = run_network(tmp_path, cuts=1, cut_s=CUT_S, stage_s=0.0)
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.frames > 10 * CUT_S
    assert outcome.resume_s[0] is not None
    assert os.listdir(tmp_path / 'drone')
