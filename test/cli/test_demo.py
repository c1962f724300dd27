# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse
from types import SimpleNamespace

import pytest
import yaml

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli import demo
from crowdhmt_ros.cli.processes import ProcessError
from crowdhmt_ros.cli.robot_run import RobotRun, RunSettings, write_scenario
from crowdhmt_ros.errors import ConfigError, ScenarioError, SourceError
from crowdhmt_ros.report.write import ReportError
from test.report import synthetic


def parsed(*words):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(['demo', *words])


def started(tmp_path, *words):
    """Return the process names in order of the start, and each node's parameters."""
    run = RobotRun(demo.settings_of(parsed(*words), tmp_path))
    content = yaml.safe_load((tmp_path / 'parameters.yaml').read_text())
    for command in run.commands.values():
        assert command[command.index('--params-file') + 1] == str(tmp_path / 'parameters.yaml')
        assert '__ns:=/vehicle' in command
    return list(run.commands), {section.rsplit('/', 1)[-1]: values['ros__parameters']
                                for section, values in content.items()}


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
    names, parameters = started(tmp_path, '--seconds', '15')
    assert names == ['recorder', 'engine', 'mind', 'world']
    assert parameters['camera_inference']['source'] == 'campus'
    assert parameters['**']['bundle'] == 'campus7'


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
    names, parameters = started(tmp_path, '--video', str(clip))
    assert names == ['recorder', 'engine', 'mind']
    assert parameters['camera_inference']['source'] == 'video'
    assert parameters['camera_inference']['stop_at_end'] is True


def test_a_bag_is_played_on_its_own_clock(tmp_path):
    bag = tmp_path / 'bag'
    bag.mkdir()
    names, parameters = started(tmp_path, '--bag', str(bag), '--pace', 'lockstep', '--image-topic',
                                '/cam', '--rate', '5')
    assert names[-1] == 'bag_player'
    assert parameters['**']['use_sim_time'] is True
    player = parameters['bag_player']
    assert (player['pace'], player['image_topic'], player['rate']) == ('lockstep', '/cam', 5.0)


def test_a_pinned_plan_reaches_the_planner(tmp_path):
    _, parameters = started(tmp_path, '--static', 'w10')
    assert parameters['adaptation_planner'] == {'pinned_candidate': 'w10'}


def test_a_camera_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match='there is no camera 63'):
        demo.settings_of(parsed('--camera', '63'), tmp_path)


class FinishedRun:
    """Stands for a robot whose run is over."""

    answering = True

    def __init__(self, settings):
        self.board = SimpleNamespace(last_stamp_ns=0)
        synthetic.write_run(settings.out)

    def start(self):
        pass

    def step(self):
        return False

    def stop(self):
        return ()


@pytest.fixture
def finished(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, 'RobotRun', FinishedRun)
    monkeypatch.setattr(demo, 'prepare', lambda *_, **__: None)
    return parsed('--no-live', '--out', str(tmp_path / 'run'))


def test_a_finished_run_leaves_both_reports(finished, capsys):
    assert demo.run(finished) == 0
    assert (finished.out / 'report.json').is_file()
    assert (finished.out / 'report.html').is_file()
    assert '600 emitted, 600 answered' in capsys.readouterr().out


def test_a_full_disk_while_reporting_costs_one_line_and_not_the_run(finished, monkeypatch, capsys):
    def full(*_, **__):
        raise ReportError('report.json cannot be written (No space left on device): free space')
    monkeypatch.setattr(demo.outcome, 'save', full)
    assert demo.run(finished) == 1
    said = capsys.readouterr()
    assert '600 emitted, 600 answered' in said.out
    assert said.err.count('\n') == 1
    assert 'No space left on device' in said.err


def test_a_start_that_fails_is_one_line_and_no_report(finished, monkeypatch, capsys):
    def crash(self):
        raise ProcessError('the camera node cannot start: no such video')
    monkeypatch.setattr(FinishedRun, 'answering', False)
    monkeypatch.setattr(FinishedRun, 'step', crash)
    with pytest.raises(ProcessError, match='no such video'):
        demo.run(finished)
    assert not (finished.out / 'report.html').exists()


def test_a_crash_is_told_and_the_run_still_reported(finished, monkeypatch, capsys):
    def crash(self):
        raise ProcessError('process mind ended with exit code 1: out of memory')
    monkeypatch.setattr(FinishedRun, 'step', crash)
    assert demo.run(finished) == 1
    said = capsys.readouterr()
    assert 'process mind ended' in said.err
    assert (finished.out / 'report.html').is_file()
