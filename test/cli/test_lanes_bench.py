# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Processes of the bench that run in turns."""
import json
import os
import sys
import time

import pytest

pytest.importorskip('numpy')
from benchmarks.lanes import Lane, turns
from crowdhmt_ros.cli.processes import ProcessError

CHILD = 'test.cli.test_lanes_bench'


def test_lanes_run_in_turns_and_the_first_run_of_a_turn_is_not_counted():
    rested = []
    with Lane(CHILD, {'seconds': 2.0}, rest=rested.append) as slow, \
            Lane(CHILD, {'seconds': 1.0}, rest=rested.append) as fast:
        assert (slow.first, fast.first) == ({'ready': 2.0}, {'ready': 1.0})
        assert turns({'slow': slow, 'fast': fast}, 3, 4) == [{'slow': 2.0, 'fast': 1.0}] * 3
        assert len(rested) == 2 + 6
    assert not slow.alive
    assert not fast.alive


def test_a_lane_that_does_not_answer_or_does_not_come_to_rest_is_ended():
    with Lane(CHILD, {'seconds': 1.0}) as lane:
        with pytest.raises(ProcessError, match='exit code -9'):
            lane.ask(-1, timeout_s=0.5)
        assert not lane.alive
    seen = []

    def never(pid):
        seen.append(pid)
        raise RuntimeError('still runs')
    with pytest.raises(RuntimeError, match='still runs'):
        Lane(CHILD, {'seconds': 1.0}, rest=never)
    assert not os.path.exists('/proc/%d' % seen[0])


def test_a_lane_that_ends_is_an_error_with_its_last_words():
    with pytest.raises(ProcessError, match='exit code 3: no such thing'):
        Lane(CHILD, {'seconds': None})
    with Lane(CHILD, {'seconds': 1.0}) as lane, \
            pytest.raises(ProcessError, match='exit code 4'):
        lane.ask(0)


def main(request):
    if request['seconds'] is None:
        sys.stderr.write('no such thing\n')
        sys.exit(3)
    print(json.dumps({'ready': request['seconds']}), flush=True)
    for line in sys.stdin:
        if not int(line):
            sys.exit(4)
        if int(line) < 0:
            time.sleep(60.0)
        print(json.dumps([9.0] + [request['seconds']] * (int(line) - 1)), flush=True)


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
