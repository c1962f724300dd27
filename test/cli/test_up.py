# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import sys

import pytest

from crowdhmt_ros.cli import up
from crowdhmt_ros.cli.processes import Fleet, ros_environment, wait_until
from crowdhmt_ros.errors import ConfigError


def parsed(*words):
    parser = argparse.ArgumentParser()
    up.add_parser(parser.add_subparsers())
    return parser.parse_args(['up', *words])


def test_pauses_double_up_to_the_longest_and_start_over_after_a_healthy_stretch():
    back_off = up.BackOff(1.0, 5.0, healthy_after_s=30.0)
    assert [back_off.pause_s(0.1) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert back_off.pause_s(31.0) == 1.0


def step_until_ended(keeper, now_s):
    events = []

    def ended():
        events.extend(keeper.step(now_s))
        return bool(events)
    assert wait_until(ended, 20)
    return events


def test_a_crashed_process_is_started_again_and_a_clean_end_is_the_end(tmp_path):
    mark = tmp_path / 'started_before'
    code = ('import pathlib, sys\nm = pathlib.Path(%r)\nfirst = not m.exists()\nm.touch()\n'
            'sys.exit(3 if first else 0)\n' % str(mark))
    keeper = up.Keeper(Fleet(ros_environment(), tmp_path / 'logs'),
                       {'a': [sys.executable, '-c', code]})
    keeper.start()
    (ended, pause_s), = step_until_ended(keeper, 100.0)
    assert (ended.code, pause_s) == (3, 1.0)
    assert keeper.step(100.5) == ()
    assert keeper.alive
    (ended, pause_s), = step_until_ended(keeper, 101.1)
    assert (ended.code, pause_s) == (0, None)
    assert not keeper.alive


def test_a_wrong_parameter_ends_everything_with_exit_code_2(monkeypatch, capsys):
    refusing = [sys.executable, '-c', 'import sys; sys.exit(2)']
    sleeping = [sys.executable, '-c', 'import time; time.sleep(60)']
    monkeypatch.setattr(up, 'command_lines', lambda _: {'mind': refusing, 'engine': sleeping})
    assert up.run(parsed('vehicle')) == 2
    assert capsys.readouterr().err == ('mind refused its parameters (see above): mend them and '
                                       'start again\n')


@pytest.mark.parametrize('topic', ['/camera/image', '/camera/image/compressed', '/camera/image/'])
def test_a_compressed_topic_and_its_raw_one_are_the_same_camera(topic):
    words = up.command_lines(parsed('vehicle', '--image-topic', topic))['engine']
    assert 'image_raw:=/camera/image' in words
    assert 'image_raw/compressed:=/camera/image/compressed' in words


def test_the_nodes_of_the_table_are_started_in_the_roles_namespace():
    commands = up.command_lines(parsed('drone', '--image-topic', '/camera/image', '--use-sim-time',
                                       '-p', 'rate_hz:=5.0'))
    assert set(commands) == {'engine', 'mind'}
    words = ' '.join(commands['engine'])
    assert '__ns:=/drone' in words
    assert 'image_raw:=/camera/image' in words
    assert 'image_raw/compressed:=/camera/image/compressed' in words
    assert 'use_sim_time:=true' in words
    assert words.endswith('-p rate_hz:=5.0')


def test_a_missing_parameter_file_is_named():
    with pytest.raises(ConfigError, match=r'there is no file .*none\.yaml'):
        up.command_lines(parsed('vehicle', '--params-file', '/x/none.yaml'))


def test_a_parameter_without_a_value_is_refused():
    with pytest.raises(ConfigError, match='write NAME:=VALUE'):
        up.command_lines(parsed('vehicle', '-p', 'rate_hz=5'))


def test_channel_and_keys_reach_every_process(tmp_path):
    lines = up.command_lines(parsed('drone', '--channel', 'ros', '--keys-dir', str(tmp_path)))
    for line in lines.values():
        assert "channel:='ros'" in line
        assert 'ros_door:=true' in line
        assert 'data_door:=false' in line
        assert "keys_dir:='%s'" % tmp_path in line
    plain = up.command_lines(parsed('drone'))
    assert not [word for line in plain.values() for word in line if word.startswith('channel')]
