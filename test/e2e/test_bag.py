# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings through the real nodes: each frame that was sent is counted, whatever happens."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import psutil
import pytest

from test.ros.bags import write_campus_bag

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('nothing_left_running')]
SECONDS, FRAMES = 6.0, 60


CLIP = 'person-bicycle-car-detection.mp4'
LOCKSTEP = ('--pace', 'lockstep')


def start_demo(environment, recording, out, *words):
    kind = '--video' if recording.suffix == '.mp4' else '--bag'
    return subprocess.Popen(
        [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live', kind,
         str(recording), '--out', str(out), *words], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def clip_path():
    return Path(os.environ.get('CROWDHMT_DATA', ''), 'video', CLIP)


def damage(bag):
    file = next(bag.glob('*.db3'))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle:middle + 40960] = b'\xff' * 40960
    file.write_bytes(data)
    return bag


@pytest.fixture(scope='module')
def demos(robot_environment, ros_domain, tmp_path_factory):
    """Start what does not need the machine for itself at once: name -> (process, folder)."""
    folder = tmp_path_factory.mktemp('demos')
    recordings = {'whole': write_campus_bag(folder / 'bag', seconds=SECONDS),
                  'damaged': damage(write_campus_bag(folder / 'hurt', seconds=SECONDS,
                                                     mcap=False))}
    if clip_path().is_file():
        recordings['clip'] = clip_path()
    domains = set()
    while len(domains) < len(recordings):
        domains.add(ros_domain())
    started = {name: (start_demo({**robot_environment, 'ROS_DOMAIN_ID': domain}, recording,
                                 folder / name, *LOCKSTEP), folder / name)
               for (name, recording), domain in zip(recordings.items(), domains)}
    yield started
    for demo, _ in started.values():
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=60)
    assert [p for p in psutil.process_iter(['cmdline'])
            if str(folder) in ' '.join(p.info['cmdline'] or ())] == []


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


def test_in_lockstep_every_frame_is_answered(demos):
    demo, out = demos['whole']
    frames, said = frames_of(demo, out)
    assert (frames['emitted'], frames['answered'], frames['lost']) == (FRAMES, FRAMES, 0), said
    assert demo.returncode == 0, said


@pytest.mark.data
def test_in_lockstep_every_frame_of_a_whole_clip_is_answered(demos):
    if 'clip' not in demos:
        pytest.skip('the clip %s is not there' % CLIP)
    demo, out = demos['clip']
    frames, said = frames_of(demo, out)
    count = frames_in(clip_path())
    assert count > 400
    assert (frames['emitted'], frames['answered']) == (count, count), said
    assert (frames['lost'], frames['superseded'], frames['duplicates']) == (0, 0, 0), said
    assert demo.returncode == 0, said


def frames_in(clip):
    capture, count = cv2.VideoCapture(str(clip)), 0
    while capture.grab():
        count += 1
    return count


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


def test_a_bag_damaged_in_the_middle_is_reported_up_to_there(demos):
    demo, out = demos['damaged']
    frames, said = frames_of(demo, out)
    assert 10 < frames['answered'] == frames['emitted'] < FRAMES
    assert 'is damaged' in said
    assert demo.returncode == 1
