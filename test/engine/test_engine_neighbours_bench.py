# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bench of neighbours: an engine whose threads still spin is waited for."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPINS_BEHIND_ITS_ANSWER = """
import sys, threading, time
def spin():
    end_s = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end_s:
        pass
    open(sys.argv[2], 'w').close()
threading.Thread(target=spin, daemon=True).start()
print('answered', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bench(monkeypatch):
    pytest.importorskip('torch', reason='torch is not installed (extra train)')
    pytest.importorskip('onnx', reason='onnx is not installed (extra train)')
    if not Path('/proc/self/task').is_dir():
        pytest.skip('no /proc')
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _engine_neighbours
    return _engine_neighbours


@pytest.fixture
def answered(tmp_path):
    """Yield a function that starts a process, which spins for some time behind its answer."""
    started = []

    def start(spins_s):
        mark = tmp_path / 'asleep'
        started.append(subprocess.Popen(
            [sys.executable, '-c', SPINS_BEHIND_ITS_ANSWER, str(spins_s), str(mark)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == 'answered\n'
        return started[-1], mark
    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_turn_begins_when_the_threads_of_the_last_one_sleep(bench, answered):
    process, asleep = answered(0.5)
    assert not asleep.exists()
    bench.until_asleep(process.pid, most_s=60.0)
    assert asleep.exists()


def test_an_engine_that_never_comes_to_rest_is_an_error(bench, answered):
    process, asleep = answered(60.0)
    with pytest.raises(RuntimeError, match='still runs'):
        bench.until_asleep(process.pid, most_s=0.1)
    assert not asleep.exists()


def test_a_turn_takes_as_many_runs_as_its_time_wants_and_five_at_least(bench):
    network = object.__new__(bench.Network)
    for fastest_s, alone, beside in ((0.007, 15, 58), (0.026, 5, 16), (0.3, 5, 5)):
        network.times_s = {'1': 0.4, '2': fastest_s}
        assert network.runs(bench.Condition(0)) == alone
        assert network.runs(bench.Condition(1)) == beside
