# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: real processes, real messages."""
import json
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('nothing_left_running')]
DEMO = [sys.executable, '-m', 'crowdhmt_ros.cli.main', 'demo', '--no-live',
        '--robot', 'vehicle', '--scenario', 'campus_minute']


def run_demo(environment, out, *words, timeout_s=200):
    done = subprocess.run([*DEMO, '--out', str(out), *words], env=environment, text=True,
                          capture_output=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / 'report.json').read_text()), done.stdout


def assert_every_frame_counted(report):
    frames = report['frames']
    assert (frames['lost'], frames['duplicates'], frames['unknown']) == (0, 0, 0)
    assert frames['answered'] + frames['superseded'] == frames['emitted']


def test_a_day_on_campus_loses_no_frame_and_leaves_a_report(robot_environment, tmp_path):
    out = tmp_path / 'run'
    report, said = run_demo(robot_environment, out, '--seconds', '14')
    assert_every_frame_counted(report)
    assert report['frames']['emitted'] >= 135
    assert report['answers'] >= 0.9 * report['frames']['emitted']
    assert report['plans_distinct'] >= 2
    assert report['accuracy']['all']['count'] == report['answers']
    assert report['energy']['source'] == 'estimated'
    page = (out / 'report.html').read_text()
    assert 'Plans and their reasons' in page
    assert 'report.html' in said
    assert {p.stem for p in (out / 'logs').glob('*.log')} >= {'engine', 'mind', 'world',
                                                              'recorder'}


def test_a_pinned_plan_stays(robot_environment, tmp_path):
    from crowdhmt_ros.bundle.reader import open_bundle
    leanest = open_bundle('campus7').manifest.front[-1]
    report, _ = run_demo(robot_environment, tmp_path / 'run', '--seconds', '5', '--static',
                         leanest)
    assert report['variants_in_order'] == [leanest]
    assert_every_frame_counted(report)


def test_ctrl_c_ends_everything_and_still_reports(robot_environment, tmp_path):
    out = tmp_path / 'run'
    demo = subprocess.Popen([*DEMO, '--out', str(out), '--seconds', '120'], text=True,
                            env=robot_environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline_s = time.monotonic() + 120
        for line in demo.stdout:
            if ' Hz |' in line or time.monotonic() > deadline_s:
                break
        time.sleep(2.0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):  # an impatient user
            demo.send_signal(number)
            time.sleep(0.3)
        said, _ = demo.communicate(timeout=40)
    finally:
        demo.kill()
    assert demo.returncode == 0, said
    assert 'Traceback' not in said
    report = json.loads((out / 'report.json').read_text())
    assert_every_frame_counted(report)


def test_a_broken_bundle_is_one_line_and_starts_nothing(robot_environment, tmp_path):
    (tmp_path / 'bundle').mkdir()
    done = subprocess.run([*DEMO, '--bundle', str(tmp_path / 'bundle'), '--out',
                           str(tmp_path / 'run')], env=robot_environment, text=True,
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert not (tmp_path / 'run').exists()
