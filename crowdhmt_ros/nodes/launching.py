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
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Tuple

from crowdhmt_ros.nodes.table import GROUPED, GROUPINGS, PACKAGE, processes

if TYPE_CHECKING:
    from launch import LaunchContext, LaunchDescription

RESPAWN_DELAY_S = 2.0
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
DISCOVERY_ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    'localhost': {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_LOCALHOST_ONLY': '1'},
    'subnet': {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'ROS_LOCALHOST_ONLY': '0'},
}
"""Kind of discovery -> environment; the second variable is what Humble reads."""
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
    )


def robot_description(role: str, share: Path) -> LaunchDescription:
    """
    Return what `ros2 launch` runs for one robot.

    :param role: as in `arguments`
    :param share: as in `arguments`
    """
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default,
                              description=argument.text, choices=argument.choices or None)
        for argument in arguments(role, share)]
    return LaunchDescription([*declared, OpaqueFunction(function=start_processes)])


def start_processes(context: LaunchContext) -> List[Any]:
    """Return the actions that start the robot's processes, all arguments being known."""
    from launch_ros.actions import Node

    given = context.launch_configurations
    return [Node(executable=process.name, **node_options(given, context.environment))
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
    humble = environment.get('ROS_DISTRO') == 'humble'
    return {
        'package': PACKAGE,
        'namespace': given['namespace'],
        'parameters': [given['params_file'], overrides],
        'remappings': image_remappings(given['image_topic']),
        'arguments': ['--ros-args', '--log-level', given['log_level']],
        'additional_env': {
            name: value for name, value in DISCOVERY_ENVIRONMENT[given['discovery']].items()
            if humble or name != ONLY_ON_HUMBLE},
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
