# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's processes as they run on a robot, ended as people end them."""
import json
import signal
import time

import pytest

from crowdhmt_ros.report.loss import count_losses
from crowdhmt_ros.report.recording import read_recording

END_S = 6.0
"""Twice two seconds and more: test machines are busy."""


def test_a_run_loses_no_frame_and_ctrl_c_ends_every_process_cleanly(processes, tmp_path):
    events, frames = tmp_path / 'run.jsonl', tmp_path / 'frames.csv'
    processes.start('recorder', {'out': str(events)})
    processes.start('mind', {'tables': 'counted'})
    processes.start('engine', {'source': 'campus', 'seconds': 8.0, 'start_timeout_s': 60.0,
                               'source_log': str(frames),
                               'wait_for_listeners_s': 10.0})
    processes.start('world', {'seconds': 8.0, 'exit_at_end': True})
    processes.wait_for('engine', 'the source has ended', 60.0)
    assert processes.end('world') == 0
    for name in ('engine', 'mind', 'recorder'):
        code, took_s = processes.stop(name)
        assert code == 0, processes.log(name)
        assert took_s < END_S
        assert 'Traceback' not in processes.log(name)
    recording = read_recording(events, frames)
    losses = count_losses(recording)
    assert losses.emitted >= 30  # a busy machine skips frame times, as a camera does
    assert (losses.lost, losses.duplicates, losses.unknown) == (0, 0, 0)
    ratios = [s.battery_ratio for s in recording.samples if s.battery_ratio is not None]
    assert ratios[-1] < ratios[0]
    asked = {d.accuracy_floor for d in recording.decisions}
    assert len(asked - {None}) >= 2
    assert recording.samples[-1].memory_allotted_bytes < recording.samples[0].memory_allotted_bytes


def test_sigterm_in_the_middle_tells_every_frame(processes, tmp_path):
    events, frames = tmp_path / 'run.jsonl', tmp_path / 'frames.csv'
    processes.start('recorder', {'out': str(events)})
    processes.start('engine', {'source': 'campus', 'seconds': 60.0, 'start_timeout_s': 2.0,
                               'rate_hz': 60.0, 'backend_repeat': 120,
                               'source_log': str(frames),
                               'wait_for_listeners_s': 10.0})
    processes.wait_for('engine', 'frames from campus')
    processes.wait_for('recorder', '')
    wait_for_lines(frames, 61)  # the first one names the columns
    code, _ = processes.stop('engine', signal.SIGTERM)
    assert code == 0, processes.log('engine')
    wait_until_told(events, frames)
    processes.stop('recorder')
    losses = count_losses(read_recording(events, frames))
    assert losses.emitted >= 60
    assert (losses.lost, losses.duplicates, losses.unknown) == (0, 0, 0)
    assert losses.superseded_ratio > 0.0


def wait_for_lines(path, count):
    deadline_s = time.monotonic() + 30.0
    while not path.exists() or path.read_text().count('\n') < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def wait_until_told(events, frames):
    deadline_s = time.monotonic() + 10.0
    while count_losses(read_recording(events, frames)).lost and time.monotonic() < deadline_s:
        time.sleep(0.1)


@pytest.mark.parametrize(('name', 'parameters', 'said'), [
    ('engine', {'rate_hz': -5.0}, 'rate_hz is -5.0, it must lie in 0..1000'),
    ('mind', {'accuracy_floor': 7.0}, 'accuracy_floor is 7.0, it must lie in 0..1 or .nan'),
    ('engine', {'source': 'radio'}, "source is 'radio', it must be one of topic, campus"),
    ('recorder', {}, 'out is empty'),
    ('bag_player', {'bag': '/nowhere'}, "bag is '/nowhere', there is no such")])
def test_a_wrong_parameter_ends_the_start_with_one_line(processes, name, parameters, said):
    processes.start(name, parameters)
    assert processes.end(name) == 2
    assert said in processes.log(name)
    assert 'Traceback' not in processes.log(name)
    assert len(processes.log(name).strip().splitlines()) == 1


def test_a_full_disk_ends_the_recording_with_one_line_and_not_the_robot(processes):
    processes.start('recorder', {'out': '/dev/full'})
    processes.start('mind', {'tables': 'counted'})
    processes.wait_for('recorder', 'recording stopped')
    code, _ = processes.stop('recorder')
    assert code == 0
    assert processes.log('recorder').count('recording stopped') == 1
    assert processes.stop('mind')[0] == 0


def test_two_processes_that_start_together_measure_once(processes, tmp_path):
    cache = tmp_path / 'cache'
    events = tmp_path / 'run.jsonl'
    processes.start('recorder', {'out': str(events)})
    for name in ('adaptation_planner', 'mind'):
        processes.start(name, {'cache_dir': str(cache), 'threads': [1], 'calibrate_s': 3.0,
                               'memory_modes': ['fast']})
    for name in ('adaptation_planner', 'mind'):
        processes.wait_for(name, 'candidates to choose from', 60.0)
    measured = [name for name in ('adaptation_planner', 'mind')
                if 'measuring this machine' in processes.log(name)]
    assert len(measured) == 1
    assert len(list(cache.glob('tables-*.json'))) == 1


def test_the_recorder_writes_messages_as_json_lines(processes, tmp_path):
    events = tmp_path / 'run.jsonl'
    processes.start('recorder', {'out': str(events)})
    processes.start('mind', {'tables': 'counted'})
    wait_for_lines(events, 4)
    lines = [json.loads(line) for line in events.read_text().splitlines()[:4]]
    assert {'resources'} <= {line['topic'] for line in lines} <= {'resources', 'plan'}
    assert all(line['received_ns'] > 0 for line in lines)
    resources = next(line for line in lines if line['topic'] == 'resources')
    assert resources['message']['battery_ratio'] is None
