# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicle and drone as a user runs them: real processes, keys and sockets."""
import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('nothing_left_running')]
DEMO = [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live']
SECONDS = 20


@pytest.fixture(scope='module')
def pair(robot_environment, tmp_path_factory):
    """Return the report of one run of both robots, and what was said."""
    out = tmp_path_factory.mktemp('pair') / 'run'
    done = subprocess.run([*DEMO, '--seconds', str(SECONDS), '--out', str(out)], text=True,
                          env=robot_environment, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / 'report.json').read_text()), done.stdout, out


def test_no_robot_loses_a_frame_and_both_start_together(pair):
    report, _, _ = pair
    for own in report['robots'].values():
        frames = own['frames']
        assert (frames['lost'], frames['duplicates'], frames['unknown']) == (0, 0, 0)
        assert frames['emitted'] >= 9.5 * SECONDS
    assert report['pair']['frames_lost'] == 0
    assert report['pair']['start_apart_s'] <= 0.2


def test_when_memory_is_tight_the_drone_answers(pair):
    report, said, _ = pair
    assert report['pair']['frames_offloaded_ratio']['memory_tight'] >= 0.2
    assert report['pair']['plans_distinct'] >= 3
    assert report['pair']['placements_in_order'][0].endswith('@local')
    assert report['pair']['placements_in_order'][-1].endswith('@local')
    assert report['robots']['vehicle']['offload']['sent_bytes'] > 0
    assert 'frames that drone answered' in said


def test_each_robot_leaves_a_folder_and_both_one_page(pair):
    _, _, out = pair
    for robot in ('vehicle', 'drone'):
        assert {p.stem for p in (out / robot / 'logs').glob('*.log')} >= {
            'engine', 'mind', 'world', 'recorder'}
    assert 'Plan in force, drone' in (out / 'report.html').read_text()


def test_switched_off_each_works_for_itself(robot_environment, tmp_path):
    out = tmp_path / 'run'
    done = subprocess.run([*DEMO, '--seconds', '6', '--channel', 'off', '--out', str(out)],
                          env=robot_environment, text=True, capture_output=True, timeout=200,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    vehicle = json.loads((out / 'report.json').read_text())['robots']['vehicle']
    assert vehicle['offload']['frames'] == 0
    assert all(way.endswith('@local') for way in vehicle['placements_in_order'])
