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
from crowdhmt_ros.errors import ConfigError, CrowdHMTError, ScenarioError
from crowdhmt_ros.report.write import ReportError
from test.report import synthetic
from test.ros.bags import write_campus_bag


def parsed(*words):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(['demo', *words])


def alone(*words):
    return parsed('--robot', 'vehicle', *words)


def started(tmp_path, *words):
    """Return the process names in order of the start, and each node's parameters."""
    run = RobotRun(demo.settings_of(parsed(*words), tmp_path))
    content = yaml.safe_load((tmp_path / 'parameters.yaml').read_text())
    for command in run.commands.values():
        assert command[command.index('--params-file') + 1] == str(tmp_path / 'parameters.yaml')
        assert '__ns:=/vehicle' in command
    return list(run.commands), {section.rsplit('/', 1)[-1]: values['ros__parameters']
                                for section, values in content.items()}


def test_engines_are_compared_on_real_input_and_where_that_is_asked_for(tmp_path):
    video = tmp_path / 'street.mp4'
    video.touch()
    for words, expected in (((), 'onnxruntime'), (('--video', str(video)), 'auto'),
                            (('--backend', 'auto'), 'auto'),
                            (('--video', str(video), '--backend', 'ncnn'), 'ncnn')):
        settings = demo.settings_of(parsed(*words), tmp_path)
        assert settings.parameters['backend'] == expected


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


@pytest.mark.parametrize('words', [('--video', 'none'), ('--bag', 'none'), ('--bag', '.'),
                                   ('--camera', '63'), ('--scenario', 'nowhere')])
def test_a_wrong_input_is_named_before_a_folder_is_made(words, tmp_path):
    with pytest.raises(CrowdHMTError, match=words[1]):
        demo.run(parsed(*words, '--out', str(tmp_path / 'run')))
    assert not (tmp_path / 'run').exists()


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


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return str(write_campus_bag(tmp_path_factory.mktemp('bags') / 'campus', seconds=1.0))


def test_a_bag_is_played_on_its_own_clock_and_its_player_logs_what_it_sends(tmp_path, bag):
    names, parameters = started(tmp_path, '--bag', bag, '--image-topic', '/front/image',
                                '--rate', '5')
    assert names[-1] == 'bag_player'
    assert parameters['**']['use_sim_time'] is True
    player = parameters['bag_player']
    assert (player['pace'], player['image_topic'], player['rate']) == (
        'original', '/front/image', 5.0)
    assert player['source_log'] == str(tmp_path / 'frames.csv')
    assert not [name for name in parameters['camera_inference'] if 'qos' in name]


def test_in_lockstep_no_frame_is_dropped_on_the_way(tmp_path, bag):
    _, parameters = started(tmp_path, '--bag', bag, '--pace', 'lockstep')
    for topic in ('image_raw', 'image_raw/compressed'):
        name = 'qos_overrides./vehicle/%s.subscription.reliability' % topic
        assert parameters['camera_inference'][name] == 'reliable'


def test_a_topic_that_the_bag_lacks_is_named_with_those_it_has(tmp_path, bag):
    with pytest.raises(ConfigError, match=r'/camera.*/front/image'):
        demo.settings_of(parsed('--bag', bag, '--image-topic', '/camera'), tmp_path)


def standing(tmp_path, *words):
    """Return a run whose robot has answered once, and a function that sets its clock."""
    run = RobotRun(demo.settings_of(parsed(*words), tmp_path))
    run.board.answered, run._first_answer_s = 1, 100.0
    run._raise_standstill(100.0)
    return run


def test_a_robot_that_stops_answering_ends_the_run(tmp_path):
    run = standing(tmp_path)
    run._raise_standstill(129.0)
    run.board.answered = 2
    run._raise_standstill(131.0)
    run._raise_standstill(160.0)
    with pytest.raises(ProcessError, match='no frame was answered for 30 s'):
        run._raise_standstill(161.5)


def test_a_recording_may_pause_but_not_be_ignored(tmp_path, bag):
    run = standing(tmp_path, '--bag', bag)
    run._raise_standstill(900.0)
    run.board.unanswered = 3
    with pytest.raises(ProcessError, match='no frame was answered'):
        run._raise_standstill(900.0)


def test_a_source_that_does_not_end_ends_the_run(tmp_path):
    run = standing(tmp_path, '--seconds', '20')
    run.board.answered = 2
    run._raise_standstill(179.0)
    run.board.answered = 3
    with pytest.raises(ProcessError, match='the run of 20 s has not ended'):
        run._raise_standstill(181.0)


def test_a_pinned_plan_reaches_the_planner(tmp_path):
    _, parameters = started(tmp_path, '--static', 'w10')
    assert parameters['adaptation_planner'] == {'pinned_candidate': 'w10', 'engines_s': 0.0}


class FinishedRun:
    """Stands for a robot whose run is over."""

    answering = True

    def __init__(self, settings):
        self.board = SimpleNamespace()
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
    return alone('--no-live', '--out', str(tmp_path / 'run'))


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
