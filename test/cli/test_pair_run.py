# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
import argparse
from types import SimpleNamespace

import pytest
import yaml

from crowdhmt_ros.cli import demo, pair_demo
from crowdhmt_ros.cli.pair_run import CHANNELS, PairRun, PairSettings, channel_parameters
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.errors import ConfigError, ScenarioError
from crowdhmt_ros.nodes.launching import CHANNELS as LAUNCHED
from crowdhmt_ros.nodes.params import PARAMETERS, problems


@pytest.fixture
def pair(tmp_path):
    return PairRun(PairSettings(out=tmp_path, seconds=20.0, parameters={'bundle': 'campus7'}))


def parameters_of(run, robot):
    content = yaml.safe_load((run.settings.out / robot / 'parameters.yaml').read_text())
    return {key.rpartition('/')[2]: section['ros__parameters']
            for key, section in content.items()}


def parsed(*words):
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(['demo', *words])


def test_each_robot_has_a_folder_and_a_namespace_of_its_own(pair, tmp_path):
    assert list(pair.robots) == ['vehicle', 'drone']
    for name, robot in pair.robots.items():
        assert robot.settings.out == tmp_path / name
        assert (tmp_path / name / 'scenario.yaml').is_file()
        for command in robot.commands.values():
            assert '__ns:=/' + name in command


def test_every_parameter_of_every_robot_is_one_that_exists(pair):
    for robot in pair.robots:
        for node, values in parameters_of(pair, robot).items():
            if node != '**':
                known = {k: v for k, v in values.items() if 'qos_overrides' not in k}
                assert set(known) <= set(PARAMETERS[node].__dataclass_fields__)
                assert not problems(PARAMETERS[node], known)


def test_the_robots_trust_each_other_with_keys_made_for_this_run(pair):
    for robot in ('vehicle', 'drone'):
        values = parameters_of(pair, robot)
        assert values['camera_inference']['keys_dir'] == values['offload_server']['keys_dir']
        assert values['camera_inference']['keys_dir'].startswith(str(pair.settings.out))
    assert len({parameters_of(pair, r)['camera_inference']['keys_dir']
                for r in pair.robots}) == 2


def test_the_first_robot_waits_for_the_others_and_they_start_with_it(pair):
    leader, helper = (parameters_of(pair, r) for r in ('vehicle', 'drone'))
    assert leader['scenario_player']['wait_for_robots'] == ['drone']
    assert 'start_of' not in leader['scenario_player']
    assert helper['scenario_player']['start_of'] == 'vehicle'


def test_the_run_ends_with_the_first_robot_and_its_helper_stays_until_then(pair):
    assert parameters_of(pair, 'vehicle')['camera_inference']['stop_at_end'] is True
    assert parameters_of(pair, 'drone')['camera_inference']['stop_at_end'] is False


def test_all_robots_share_one_domain_and_what_the_user_has_set(monkeypatch, tmp_path):
    monkeypatch.setenv('ROS_DOMAIN_ID', '77')
    run = PairRun(PairSettings(out=tmp_path, seconds=20.0))
    assert {r.settings.environment['ROS_DOMAIN_ID'] for r in run.robots.values()} == {'77'}


def test_both_play_the_scenario_of_one_robot_each_with_its_own_view(tmp_path):
    run = PairRun(PairSettings(out=tmp_path, scenario='campus_minute'))
    assert [parameters_of(run, r)['camera_inference']['view'] for r in run.robots] == [
        'vehicle', 'drone']


@pytest.mark.parametrize('channel', CHANNELS)
def test_a_channel_is_what_the_launch_files_make_of_it(channel):
    launched = LAUNCHED[channel]
    for name, value in channel_parameters(channel).items():
        if value is not False or name.partition(':')[2] in launched:
            assert launched[name.partition(':')[2]] == value


def test_an_unknown_channel_is_named():
    with pytest.raises(ConfigError, match="'pigeon'"):
        channel_parameters('pigeon')


@pytest.mark.parametrize(('words', 'several'), [
    ((), True), (('--channel', 'off'), True), (('--robot', 'vehicle'), False),
    (('--alone',), False), (('--camera', '0'), False)])
def test_the_campus_is_for_several_unless_one_is_named(words, several, monkeypatch):
    monkeypatch.setattr(demo.Path, 'exists', lambda self: True)
    assert demo.is_pair(parsed(*words)) is several


def test_a_pinned_plan_holds_for_the_robot_that_is_helped(tmp_path):
    settings = pair_demo.pair_settings(parsed('--static', 'w100d2'), tmp_path)
    run = PairRun(settings)
    assert parameters_of(run, 'vehicle')['adaptation_planner']['pinned_candidate'] == 'w100d2'
    assert 'pinned_candidate' not in parameters_of(run, 'drone')['adaptation_planner']


def test_a_scenario_that_is_not_there_is_named_before_a_folder_is_made(tmp_path):
    with pytest.raises(ScenarioError, match='nowhere'):
        demo.run(parsed('--scenario', 'nowhere', '--out', str(tmp_path / 'run')))
    assert not (tmp_path / 'run').exists()


class Witness:
    """Stands for a robot; notes in which order it is stopped."""

    def __init__(self, name, log):
        self.name, self.log, self.going = name, log, True
        self.answering, self.problem = True, ''
        self.board = SimpleNamespace(update=lambda: None)

    def step(self):
        if self.problem:
            raise ProcessError(self.problem)
        return self.going

    def stop_sources(self):
        self.log.append('frames of ' + self.name)

    def stop_rest(self):
        self.log.append('rest of ' + self.name)
        return (Ended('engine', 0, True),)


def test_a_helper_may_crash_and_the_first_robot_goes_on(pair):
    pair.robots = {name: Witness(name, []) for name in pair.robots}
    pair.robots['drone'].problem = 'process engine ended with exit code -9'
    assert pair.step()
    assert pair.step()
    assert pair.gone == {'drone': 'process engine ended with exit code -9'}


@pytest.mark.parametrize(('robot', 'answering'), [('vehicle', True), ('drone', False)])
def test_a_crash_of_the_first_robot_or_before_the_start_ends_the_run(pair, robot, answering):
    pair.robots = {name: Witness(name, []) for name in pair.robots}
    pair.robots[robot].problem = 'process mind ended with exit code 1'
    pair.robots['drone'].answering = answering
    with pytest.raises(ProcessError, match='mind'):
        pair.step()


def test_frames_of_all_end_before_any_recorder_and_the_end_names_its_robot(pair):
    log = []
    pair.robots = {name: Witness(name, log) for name in pair.robots}
    assert pair.step()
    pair.robots['vehicle'].going = False
    assert not pair.step()
    assert [e.name for e in pair.stop()] == ['vehicle engine', 'drone engine']
    assert log == ['frames of vehicle', 'frames of drone', 'rest of vehicle', 'rest of drone']
