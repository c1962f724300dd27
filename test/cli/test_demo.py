# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest
import yaml

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli import demo
from crowdhmt_ros.cli.robot_run import RobotRun, RunSettings, write_scenario
from crowdhmt_ros.errors import ConfigError, ScenarioError, SourceError


def parsed(*words):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(['demo', *words])


def commands_of(tmp_path, *words):
    run = RobotRun(demo.settings_of(parsed(*words), tmp_path))
    return {name: ' '.join(line) for name, line in run.commands.items()}


def test_the_folder_of_a_run_is_never_one_that_holds_something(tmp_path):
    (tmp_path / 'report.json').write_text('{}')
    with pytest.raises(ConfigError, match='is not empty'):
        demo.choose_folder(tmp_path)
    assert demo.choose_folder(tmp_path / 'new' / 'one').is_dir()


def test_without_a_name_the_next_free_folder_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.choose_folder(None).name == 'crowdhmt-report-1'
    assert demo.choose_folder(None).name == 'crowdhmt-report-2'


def test_a_file_where_the_folder_should_be_is_one_clear_line(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='name another folder'):
        demo.choose_folder(tmp_path / 'file')


@pytest.mark.parametrize('kind', ['video', 'bag'])
def test_a_missing_input_is_named(kind, tmp_path):
    with pytest.raises(SourceError, match='there is no %s' % kind):
        demo.settings_of(parsed('--' + kind, str(tmp_path / 'none')), tmp_path)


def test_a_length_below_a_second_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='at least 1'):
        demo.settings_of(parsed('--seconds', '0'), tmp_path)


def test_the_campus_needs_the_world_and_starts_the_recorder_first(tmp_path):
    commands = commands_of(tmp_path, '--seconds', '15')
    assert list(commands) == ['recorder', 'engine', 'mind', 'world']
    assert "camera_inference:source:='campus'" in commands['engine']
    assert '__ns:=/vehicle' in commands['world']


def test_the_day_is_compressed_to_the_wished_length(tmp_path):
    settings = RunSettings(out=tmp_path, seconds=15.0, seed=5)
    scenario = write_scenario(settings)
    original = load_scenario(settings.scenario)
    assert scenario.duration_s == 15.0
    assert scenario.seed == 5
    assert scenario.time_compression_ratio == pytest.approx(
        original.time_compression_ratio * original.duration_s / 15.0)
    assert yaml.safe_load((tmp_path / 'scenario.yaml').read_text())['duration_s'] == 15.0


def test_an_unknown_scenario_is_named(tmp_path):
    with pytest.raises(ScenarioError, match='there is no scenario'):
        write_scenario(RunSettings(out=tmp_path, scenario='nowhere'))


def test_a_video_is_played_by_the_engine_itself(tmp_path):
    clip = tmp_path / 'clip.mp4'
    clip.write_bytes(b'')
    commands = commands_of(tmp_path, '--video', str(clip))
    assert 'world' not in commands
    assert 'bag_player' not in commands
    assert "camera_inference:source:='video'" in commands['engine']
    assert 'stop_at_end:=true' in commands['engine']


def test_a_bag_is_played_on_its_own_clock(tmp_path):
    bag = tmp_path / 'bag'
    bag.mkdir()
    commands = commands_of(tmp_path, '--bag', str(bag), '--pace', 'lockstep', '--image-topic',
                           '/cam', '--rate', '5')
    assert 'use_sim_time:=true' in commands['engine']
    assert "bag_player:pace:='lockstep'" in commands['bag_player']
    assert "bag_player:image_topic:='/cam'" in commands['bag_player']
    assert 'bag_player:rate:=5.0' in commands['bag_player']


def test_a_pinned_plan_reaches_the_planner(tmp_path):
    assert "adaptation_planner:pinned_candidate:='w10'" in commands_of(
        tmp_path, '--static', 'w10')['mind']
