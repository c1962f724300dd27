# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Processes of the bench that run in turns."""
import json
import sys

import pytest

pytest.importorskip('numpy')
from benchmarks.lanes import Lane, turns
from crowdhmt_ros.cli.processes import ProcessError

CHILD = 'test.cli.test_lanes_bench'


def test_lanes_run_in_turns_and_the_first_run_of_a_turn_is_not_counted():
    rested = []
    lanes = {name: Lane(CHILD, {'seconds': seconds}, rest=rested.append)
             for name, seconds in (('slow', 2.0), ('fast', 1.0))}
    try:
        assert {name: lane.first for name, lane in lanes.items()} == {
            'slow': {'ready': 2.0}, 'fast': {'ready': 1.0}}
        assert turns(lanes, 3, 4) == [{'slow': 2.0, 'fast': 1.0}] * 3
        assert len(rested) == 2 + 6
    finally:
        for lane in lanes.values():
            lane.end()


def test_a_lane_that_ends_is_an_error_with_its_last_words():
    with pytest.raises(ProcessError, match='exit code 3: no such thing'):
        Lane(CHILD, {'seconds': None})
    lane = Lane(CHILD, {'seconds': 1.0})
    with pytest.raises(ProcessError, match='exit code 4'):
        lane.ask(0)
    lane.end()


def main(request):
    if request['seconds'] is None:
        sys.stderr.write('no such thing\n')
        sys.exit(3)
    print(json.dumps({'ready': request['seconds']}), flush=True)
    for line in sys.stdin:
        if not int(line):
            sys.exit(4)
        print(json.dumps([9.0] + [request['seconds']] * (int(line) - 1)), flush=True)


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
