# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recording through the real nodes: every frame that was sent is counted, whatever happens."""
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from test.ros.bags import write_campus_bag

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('nothing_left_running')]
SECONDS, FRAMES = 6.0, 60


def start_demo(environment, bag, out, *words):
    return subprocess.Popen(
        [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live', '--bag', str(bag),
         '--out', str(out), *words], env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)


def frames_of(demo, out, timeout_s=150):
    try:
        said, _ = demo.communicate(timeout=timeout_s)
    finally:
        demo.kill()
    assert (out / 'report.json').is_file(), said
    assert 'Traceback' not in said
    return json.loads((out / 'report.json').read_text())['frames'], said


def engine_of(out):
    return next(p for p in psutil.process_iter(['cmdline'])
                if 'engine' in (p.info['cmdline'] or ()) and str(out) in ' '.join(
                    p.info['cmdline']))


def test_in_lockstep_every_frame_is_answered(robot_environment, tmp_path):
    bag = write_campus_bag(tmp_path / 'bag', seconds=SECONDS)
    demo = start_demo(robot_environment, bag, tmp_path / 'run', '--pace', 'lockstep')
    frames, said = frames_of(demo, tmp_path / 'run')
    assert (frames['emitted'], frames['answered'], frames['lost']) == (FRAMES, FRAMES, 0), said
    assert demo.returncode == 0, said


def test_frames_that_a_stalled_engine_never_answered_are_lost(robot_environment, tmp_path):
    bag, out = write_campus_bag(tmp_path / 'bag', seconds=SECONDS), tmp_path / 'run'
    demo = start_demo(robot_environment, bag, out)
    deadline_s = time.monotonic() + 120
    log = out / 'frames.csv'
    while not log.is_file() or log.read_text().count('\n') < FRAMES // 2:
        assert time.monotonic() < deadline_s
        assert demo.poll() is None
        time.sleep(0.05)
    engine_of(out).send_signal(signal.SIGSTOP)
    frames, said = frames_of(demo, out)
    assert frames['emitted'] == FRAMES
    assert frames['lost'] >= FRAMES // 4, said
    assert frames['answered'] + frames['superseded'] + frames['lost'] == FRAMES
    assert demo.returncode == 1


def test_a_bag_damaged_in_the_middle_is_reported_up_to_there(robot_environment, tmp_path):
    bag, out = write_campus_bag(tmp_path / 'bag', seconds=SECONDS, mcap=False), tmp_path / 'run'
    file = next(bag.glob('*.db3'))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle:middle + 40960] = b'\xff' * 40960
    file.write_bytes(data)
    demo = start_demo(robot_environment, bag, out, '--pace', 'lockstep')
    frames, said = frames_of(demo, out)
    assert 10 < frames['answered'] == frames['emitted'] < FRAMES
    assert 'is damaged' in said
    assert demo.returncode == 1
