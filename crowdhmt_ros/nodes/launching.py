# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the launch files share: the arguments of a robot, and its processes from `table`.

`launch` and `launch_ros` are imported when a description is asked for: an install by pip does not
have them and does not need them (`crowdhmt up` starts the same processes).
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Tuple

from crowdhmt_ros.nodes.table import GROUPED, GROUPINGS, PACKAGE, processes
from crowdhmt_ros.share import dds_profile

if TYPE_CHECKING:
    from launch import LaunchContext, LaunchDescription

RESPAWN_DELAY_S = 2.0
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
DISCOVERY_ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    'localhost': {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_LOCALHOST_ONLY': '1'},
    'subnet': {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_LOCALHOST_ONLY': '0'},
}
"""Kind of discovery -> environment; the second variable is what Humble reads."""
CHANNELS: Mapping[str, Mapping[str, Any]] = {
    '': {},
    'auto': {'channel': 'auto', 'offload': True, 'data_door': True},
    'zeromq': {'channel': 'zeromq', 'offload': True, 'data_door': True},
    'ros': {'channel': 'ros', 'offload': True, 'data_door': False, 'ros_door': True},
    'off': {'channel': 'off', 'offload': False, 'data_door': False, 'ros_door': False},
}
"""Way between robots -> parameters of all nodes; '' leaves it to the parameter file."""
FLEET = 'vehicle,drone'
ROLES = ('vehicle', 'drone')
ONLY_ON_HUMBLE = 'ROS_LOCALHOST_ONLY'


@dataclass(frozen=True)
class Argument:
    """
    One argument of a launch file.

    :param name: as in `name:=value`
    :param default: value when not given
    :param text: what it does
    :param choices: the only values allowed, empty for any
    """

    name: str
    default: str
    text: str
    choices: Tuple[str, ...] = ()


def arguments(role: str, share: Path) -> Tuple[Argument, ...]:
    """
    Return the arguments of the launch file of a role.

    :param role: 'vehicle' or 'drone'; namespace and configuration by default
    :param share: folder that holds config/
    """
    return (
        Argument('namespace', role, 'namespace of the robot, its name among others'),
        Argument('params_file', str(share / 'config' / f'{role}.yaml'),
                 'YAML file of ROS parameters'),
        Argument('bundle', '', 'name or directory of a bundle; empty leaves it to params_file'),
        Argument('image_topic', '', "camera's topic of sensor_msgs/Image, beside which "
                 "/compressed is taken too; empty is image_raw in the robot's namespace"),
        Argument('use_sim_time', 'false', 'take the time from /clock', ('true', 'false')),
        Argument('discovery', 'localhost', 'how far nodes look for each other',
                 tuple(DISCOVERY_ENVIRONMENT)),
        Argument('processes', GROUPED, 'grouped: few processes; separate: one for each node',
                 GROUPINGS),
        Argument('log_level', 'info', 'least severe messages shown', LOG_LEVELS),
        Argument('respawn', 'true', 'restart a process that crashed', ('true', 'false')),
        Argument('channel', '', 'way to peers: auto, zeromq, ros or off; empty leaves it to '
                 'params_file', tuple(CHANNELS)),
        Argument('keys_dir', '', 'folder of own and trusted keys; empty leaves it to '
                 'params_file'),
    )


def fleet_arguments(share: Path) -> Tuple[Argument, ...]:
    """
    Return the arguments of the launch file of several robots.

    :param share: folder that holds config/
    """
    of_one = ('namespace', 'params_file', 'image_topic', 'keys_dir')
    return (
        Argument('robots', FLEET, 'robots of this machine, by commas: vehicle or drone, or '
                 'role:namespace such as drone:drone2'),
        Argument('params_dir', str(share / 'config'),
                 'folder with a YAML file of ROS parameters for each role, ROLE.yaml'),
        Argument('keys_dir', '', 'folder with a key folder for each robot, named as its '
                 'namespace; empty takes the usual folder'),
        *(argument for argument in arguments(ROLES[0], share) if argument.name not in of_one))


def fleet_members(robots: str) -> Tuple[Tuple[str, str], ...]:
    """
    Return (role, namespace) of each robot.

    :param robots: as in `robots:=vehicle,drone:drone2`
    :raises ValueError: an unknown role, or the same namespace twice
    """
    members = []
    for text in robots.split(','):
        role, _, namespace = text.strip().partition(':')
        if role not in ROLES:
            raise ValueError(f'robots holds {text.strip()!r}, it must be {" or ".join(ROLES)}, '
                             'or role:namespace')
        members.append((role, namespace.strip('/') or role))
    names = [namespace for _, namespace in members]
    if len(set(names)) < len(names):
        raise ValueError(f'robots is {robots!r}, each robot needs a namespace of its own: write '
                         'role:namespace')
    return tuple(members)


def robot_description(role: str, share: Path) -> LaunchDescription:
    """
    Return what `ros2 launch` runs for one robot.

    :param role: as in `arguments`
    :param share: as in `arguments`
    """
    from launch import LaunchDescription
    from launch.actions import OpaqueFunction

    return LaunchDescription([*declared(arguments(role, share)),
                              OpaqueFunction(function=start_processes)])


def fleet_description(share: Path) -> LaunchDescription:
    """
    Return what `ros2 launch` runs for several robots of one machine.

    :param share: as in `arguments`
    """
    from launch import LaunchDescription
    from launch.actions import OpaqueFunction

    return LaunchDescription([*declared(fleet_arguments(share)),
                              OpaqueFunction(function=start_fleet)])


def declared(known: Tuple[Argument, ...]) -> List[Any]:
    """Return the actions that declare arguments."""
    from launch.actions import DeclareLaunchArgument

    return [DeclareLaunchArgument(argument.name, default_value=argument.default,
                                  description=argument.text, choices=argument.choices or None)
            for argument in known]


def start_processes(context: LaunchContext) -> List[Any]:
    """Return the actions that start the robot's processes, all arguments being known."""
    from launch_ros.actions import Node

    given = context.launch_configurations
    return robot_nodes(Node, given, context.environment)


def start_fleet(context: LaunchContext) -> List[Any]:
    """Return the actions that start the processes of every robot of a fleet."""
    from launch_ros.actions import Node

    given = context.launch_configurations
    nodes = []
    for role, namespace in fleet_members(given['robots']):
        keys = Path(given['keys_dir']) if given['keys_dir'] else default_keys_dir(
            context.environment)
        nodes += robot_nodes(Node, {
            **given, 'namespace': namespace, 'image_topic': '',
            'keys_dir': str(keys / namespace),
            'params_file': str(Path(given['params_dir']) / f'{role}.yaml')}, context.environment)
    return nodes


def default_keys_dir(environment: Mapping[str, str]) -> Path:
    """Return the folder of keys where none is given."""
    return Path(environment.get('CROWDHMT_KEYS') or '~/.config/crowdhmt/keys').expanduser()


def robot_nodes(make: Callable[..., Any], given: Mapping[str, str],
                environment: Mapping[str, str]) -> List[Any]:
    """Return the actions that start the processes of one robot, made by `make`."""
    return [make(executable=process.name, **node_options(given, environment))
            for process in processes(given['processes'])]


def node_options(given: Mapping[str, str], environment: Mapping[str, str]) -> Dict[str, Any]:
    """
    Translate the arguments into the options of every process.

    There is no `name` among them: it would rename all nodes of a process alike.

    :param given: value of each argument
    :param environment: of the launch process; ROS_DISTRO is read
    :raises FileNotFoundError: params_file does not exist
    """
    if not Path(given['params_file']).is_file():
        raise FileNotFoundError(f'params_file {given["params_file"]} does not exist: '
                                'give an existing file, or none for the default')
    overrides: Dict[str, Any] = {'use_sim_time': given['use_sim_time'] == 'true'}
    if given['bundle']:
        overrides['bundle'] = given['bundle']
    if given['keys_dir']:
        overrides['keys_dir'] = given['keys_dir']
    overrides.update(CHANNELS[given['channel']])
    humble = environment.get('ROS_DISTRO') == 'humble'
    return {
        'package': PACKAGE,
        'namespace': given['namespace'],
        'parameters': [given['params_file'], overrides],
        'remappings': image_remappings(given['image_topic']),
        'arguments': ['--ros-args', '--log-level', given['log_level']],
        'additional_env': {
            **{name: value for name, value in DISCOVERY_ENVIRONMENT[given['discovery']].items()
               if humble or name != ONLY_ON_HUMBLE}, **dds_profile(environment)},
        'output': 'screen',
        'respawn': given['respawn'] == 'true',
        'respawn_delay': RESPAWN_DELAY_S,
    }


def image_remappings(image_topic: str) -> List[Tuple[str, str]]:
    """
    Return the remappings that bring a camera's frames to camera_inference.

    :param image_topic: raw or compressed topic, '' for none
    """
    suffix = '/compressed'
    base = image_topic[:-len(suffix)] if image_topic.endswith(suffix) else image_topic
    return [('image_raw', base), ('image_raw' + suffix, base + suffix)] if base else []
