# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files start, evaluated by a stand-in; by `launch` itself where it is."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from crowdhmt_ros.nodes import launching
from crowdhmt_ros.nodes.params import PARAMETERS, problems
from crowdhmt_ros.nodes.table import PROCESSES, ROBOT

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
ROBOT_PROCESSES = [process for process in PROCESSES if process.kind == ROBOT]
PROFILE_OF = {'humble': 'FASTRTPS_DEFAULT_PROFILES_FILE',
              'kilted': 'FASTDDS_DEFAULT_PROFILES_FILE'}


def load(path):
    spec = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_launch = load(Path(__file__).with_name('fake_launch.py'))


@pytest.fixture
def started(monkeypatch):
    fake_launch.install(monkeypatch)

    def run(name='vehicle', environment=None, **given):
        description = load(ROOT / 'launch' / f'{name}.launch.py').generate_launch_description()
        return fake_launch.evaluate(description, given, environment)

    return run


def test_there_is_a_launch_file_for_each_role():
    assert {path.name for path in FILES} >= {'vehicle.launch.py', 'drone.launch.py'}


@pytest.mark.parametrize('role', ['vehicle', 'drone'])
def test_by_default_the_grouped_processes_of_a_robot_start_in_the_namespace_of_its_role(
        started, role):
    nodes = started(role)
    assert [node['executable'] for node in nodes] == [p.name for p in ROBOT_PROCESSES]
    for node in nodes:
        assert node['package'] == 'crowdhmt_ros'
        assert node['namespace'] == role
        assert node['parameters'] == [str(ROOT / 'config' / f'{role}.yaml'),
                                      {'use_sim_time': False}]
        assert node['respawn'] is True
        assert node['remappings'] == []


def test_separate_starts_one_process_for_each_node(started):
    names = [name for process in ROBOT_PROCESSES for name in process.nodes]
    assert [node['executable'] for node in started(processes='separate')] == names
    assert len(names) > len(ROBOT_PROCESSES)


def test_every_argument_reaches_the_processes(started, tmp_path):
    params_file = tmp_path / 'mine.yaml'
    params_file.write_text('{}')
    nodes = started(
        namespace='robots/one', params_file=str(params_file), bundle='/somewhere/mine',
        image_topic='/front/image', use_sim_time='true', log_level='debug', respawn='false')
    for node in nodes:
        assert node['namespace'] == 'robots/one'
        assert node['parameters'] == [
            str(params_file), {'use_sim_time': True, 'bundle': '/somewhere/mine'}]
        assert node['remappings'] == [('image_raw', '/front/image'),
                                      ('image_raw/compressed', '/front/image/compressed')]
        assert node['arguments'] == ['--ros-args', '--log-level', 'debug']
        assert node['respawn'] is False


def test_a_compressed_topic_may_be_named_with_its_suffix():
    assert launching.image_remappings('/cam/compressed') == launching.image_remappings('/cam')


@pytest.mark.parametrize(('given', 'distro', 'expected'), [
    ({}, 'kilted', {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}),
    ({'discovery': 'subnet'}, 'kilted', {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}),
    ({}, 'humble', {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_LOCALHOST_ONLY': '1'}),
    ({'discovery': 'subnet'}, 'humble',
     {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_LOCALHOST_ONLY': '0'}),
])
def test_discovery_is_closed_unless_opened(started, given, distro, expected):
    for node in started(environment={'ROS_DISTRO': distro}, **given):
        profile = node['additional_env'].pop(PROFILE_OF[distro])
        assert profile.endswith('config/fastdds/discovery.xml')
        assert node['additional_env'] == expected


@pytest.mark.parametrize(('name', 'value'), [
    ('discovery', 'everywhere'), ('processes', 'many'), ('log_level', 'loud'),
    ('use_sim_time', 'perhaps')])
def test_a_value_out_of_the_choices_is_refused(started, name, value):
    with pytest.raises(RuntimeError, match=name):
        started(**{name: value})


def test_a_missing_params_file_is_named(started):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.yaml does not exist'):
        started(params_file='nowhere.yaml')


def test_a_fleet_starts_each_robot_with_its_own_configuration_and_keys(started, tmp_path):
    nodes = started('fleet', keys_dir=str(tmp_path), channel='ros')
    executables = [process.name for process in ROBOT_PROCESSES]
    assert [(n['namespace'], n['executable']) for n in nodes] == [
        (robot, name) for robot in ('vehicle', 'drone') for name in executables]
    for node in nodes:
        file, overrides = node['parameters']
        assert file == str(ROOT / 'config' / f'{node["namespace"]}.yaml')
        assert overrides['keys_dir'] == str(tmp_path / node['namespace'])
        assert (overrides['channel'], overrides['ros_door'], overrides['data_door']) == (
            'ros', True, False)


def test_a_fleet_may_hold_several_of_one_role_under_names_of_their_own(started):
    nodes = started('fleet', robots='vehicle, drone:left, drone:right')
    assert list(dict.fromkeys(n['namespace'] for n in nodes)) == ['vehicle', 'left', 'right']
    assert [n['parameters'][0].rpartition('/')[2] for n in nodes
            if n['namespace'] == 'right'] == ['drone.yaml'] * len(ROBOT_PROCESSES)


@pytest.mark.parametrize(('robots', 'said'), [
    ('vehicle,boat', "holds 'boat'"), ('drone,drone', 'a namespace of its own'),
    ('', "holds ''")])
def test_a_fleet_that_cannot_be_is_named(started, robots, said):
    with pytest.raises(ValueError, match=said):
        started('fleet', robots=robots)


def test_every_parameter_of_a_channel_exists_and_is_in_range():
    for values in launching.CHANNELS.values():
        for name, value in values.items():
            owners = [p for p in PARAMETERS.values() if name in p.__dataclass_fields__]
            assert owners
            assert not [text for owner in owners for text in problems(owner, {name: value})]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_reading_a_launch_file_imports_nothing_heavy(path):
    code = ('import importlib.util, sys\n'
            f'spec = importlib.util.spec_from_file_location("it", {str(path)!r})\n'
            'spec.loader.exec_module(importlib.util.module_from_spec(spec))\n'
            'print(*sorted({name.split(".")[0] for name in sys.modules}))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True, cwd=ROOT)
    assert not {'rclpy', 'numpy', 'cv2', 'onnxruntime', 'torch'} & set(done.stdout.split())


@pytest.mark.parametrize('path', sorted((ROOT / 'config').glob('*.yaml')), ids=lambda p: p.name)
def test_configuration_files_hold_parameters_that_exist_and_are_in_range(path):
    for key, section in yaml.safe_load(path.read_text(encoding='utf-8')).items():
        node = key.rpartition('/')[2]
        values = section['ros__parameters']
        assert key == f'/**/{node}', 'a bare node name holds without a namespace only'
        assert set(values) <= set(PARAMETERS[node].__dataclass_fields__)
        assert not problems(PARAMETERS[node], values)


@pytest.mark.skipif(not importlib.util.find_spec('launch_ros'),
                    reason='launch_ros is not on PyPI: this runs where a ROS distribution is')
def test_the_real_launch_takes_the_description():
    from launch import LaunchContext
    description = load(ROOT / 'launch' / 'vehicle.launch.py').generate_launch_description()
    context = LaunchContext()
    found = [action for entity in description.entities for action in entity.visit(context) or []]
    assert len(found) == len(ROBOT_PROCESSES)
