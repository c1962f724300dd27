# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which nodes run in which process, for the launch files and for `crowdhmt up` alike.

This file imports nothing of ROS: a launch file reads it before ROS is set up.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

PACKAGE = 'crowdhmt_ros'
ROBOT = 'robot'
DEMO = 'demo'
TOOL = 'tool'
GROUPED = 'grouped'
SEPARATE = 'separate'
GROUPINGS = (GROUPED, SEPARATE)


@dataclass(frozen=True)
class NodeEntry:
    """
    One node: where its class is.

    :param name: node name, also its module and its executable
    :param class_name: class in `crowdhmt_ros.nodes.<name>`
    :param kind: 'robot' (on every robot), 'demo' or 'tool'
    :param text: what it does, one line
    :param shares_engine: takes the engine of its process as `share`
    """

    name: str
    class_name: str
    kind: str
    text: str
    shares_engine: bool = False

    @property
    def module(self) -> str:
        """Import path of the module."""
        return f'{PACKAGE}.nodes.{self.name}'


@dataclass(frozen=True)
class Process:
    """
    One operating system process and the nodes in it.

    :param name: executable: `ros2 run crowdhmt_ros NAME`; by pip `crowdhmt-NAME`
    :param nodes: names of its nodes, created in this order
    :param kind: as in `NodeEntry`
    """

    name: str
    nodes: Tuple[str, ...]
    kind: str = ROBOT

    @property
    def console_script(self) -> str:
        """Name of the command that pip installs."""
        return f'crowdhmt-{self.name.replace("_", "-")}'


NODES: Tuple[NodeEntry, ...] = (
    NodeEntry('camera_inference', 'CameraInferenceNode', ROBOT,
              'camera and model in one node: takes frames, answers each, switches by plan',
              shares_engine=True),
    NodeEntry('offload_server', 'OffloadServerNode', ROBOT,
              'runs segments for trusted peers under a lease; tells the fleet what it offers',
              shares_engine=True),
    NodeEntry('resource_monitor', 'ResourceMonitorNode', ROBOT,
              'samples battery, memory, processor; publishes them at 1 Hz and on a sharp change'),
    NodeEntry('adaptation_planner', 'AdaptationPlannerNode', ROBOT,
              'decides once a second which variant runs and how'),
    NodeEntry('scenario_player', 'ScenarioPlayerNode', DEMO,
              'plays a scenario of the built-in campus: battery, memory allotment, requirements'),
    NodeEntry('bag_player', 'BagPlayerNode', TOOL,
              'publishes a recorded bag, at its own pace or one frame an answer'),
    NodeEntry('recorder', 'RecorderNode', TOOL,
              'writes results, feedback, plans and resources to a file of JSON lines'),
)

PROCESSES: Tuple[Process, ...] = (
    Process('engine', ('camera_inference', 'offload_server')),
    Process('mind', ('resource_monitor', 'adaptation_planner')),
    Process('world', ('scenario_player',), DEMO),
)
"""The default grouping."""


def node_entry(name: str) -> NodeEntry:
    """
    Find a node.

    :raises KeyError: no node has this name
    """
    return {entry.name: entry for entry in NODES}[name]


def processes(
    grouping: str = GROUPED, *, kinds: Tuple[str, ...] = (ROBOT,),
) -> Tuple[Process, ...]:
    """
    Return the processes to start.

    :param grouping: 'grouped' (engine, mind, ...) or 'separate' (one process a node)
    :param kinds: which kinds of process to include
    :raises ValueError: unknown grouping
    """
    if grouping not in GROUPINGS:
        raise ValueError(f'processes is {grouping!r}, it must be one of {", ".join(GROUPINGS)}')
    chosen = tuple(process for process in PROCESSES if process.kind in kinds)
    if grouping == GROUPED:
        return chosen
    return tuple(Process(name, (name,), process.kind)
                 for process in chosen for name in process.nodes)


def process_named(name: str) -> Process:
    """
    Find a process of the default grouping, or the process that holds just the node NAME.

    :raises KeyError: neither a process nor a node has this name
    """
    for process in PROCESSES:
        if process.name == name:
            return process
    return Process(name, (name,), node_entry(name).kind)


def yaml_scalar(value: object) -> str:
    """Return a parameter value as `--ros-args -p name:=VALUE` takes it."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, float):
        return {'nan': '.nan', 'inf': '.inf', '-inf': '-.inf'}.get(repr(value), repr(value))
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted}'"
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(yaml_scalar(item) for item in value)}]'
    return str(value)


def command(
    process: str, *, namespace: str = '', params_file: Optional[str] = None,
    parameters: Optional[Mapping[str, object]] = None,
    remappings: Optional[Mapping[str, str]] = None, log_level: str = '',
) -> List[str]:
    """
    Return the command line that starts one process without `ros2 launch`.

    :param process: name of a process or of a node
    :param namespace: of the robot, with or without the leading slash; '' leaves it to ROS
    :param params_file: YAML file of ROS parameters
    :param parameters: `name` or `node:name` -> value; they win over the file
    :param remappings: topic -> topic
    :param log_level: debug, info, warn, error; '' leaves it to ROS
    :raises KeyError: unknown process
    """
    process_named(process)
    line = [sys.executable, '-m', f'{PACKAGE}.nodes.process', process, '--ros-args']
    rules: Dict[str, str] = dict(remappings or {})
    if namespace:
        rules['__ns'] = '/' + namespace.strip('/')
    for source, target in rules.items():
        line += ['-r', f'{source}:={target}']
    if params_file:
        line += ['--params-file', str(params_file)]
    for name, value in (parameters or {}).items():
        line += ['-p', f'{name}:={yaml_scalar(value)}']
    if log_level:
        line += ['--log-level', log_level]
    return line
