# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One run of several robots on real nodes: each with its own processes, keys and folder.

They share nothing but ROS discovery and the moment at which the scenario starts. The first robot
leads: the others follow its start, and the run ends with its last frame.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from crowdhmt_ros.campus.scenario import robots_of
from crowdhmt_ros.cli.interrupts import undisturbed
from crowdhmt_ros.cli.prepare import CAMPUS_BACKEND, engine_parameters
from crowdhmt_ros.cli.processes import Ended, ProcessError, ros_environment
from crowdhmt_ros.cli.robot_run import RobotRun, RunSettings, drain
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.offload.trust import throw_away

DEFAULT_PAIR_SCENARIO = 'campus_day'
DEFAULT_ROBOTS = ('vehicle', 'drone')
CHANNELS = ('auto', 'zeromq', 'ros', 'off')
SHARED_VARIABLES = ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY')


@dataclass(frozen=True)
class PairSettings:
    """
    What to run.

    :param out: folder of the run, existing; each robot gets a folder of its name in it
    :param scenario: name or file
    :param seconds: length, None for the scenario's own
    :param seed: of the campus, None for the scenario's
    :param channel: way between the robots: 'auto', 'zeromq', 'ros' or 'off'
    :param backend: engine of every robot
    :param parameters: 'node:name' -> value, of every robot; they win
    :param own_parameters: robot -> the same, of that one only; they win over those of all
    :param environment: variables that win over those of this process
    :param prefixes: robot -> words before each of its command lines
    """

    out: Path
    scenario: str = DEFAULT_PAIR_SCENARIO
    seconds: Optional[float] = None
    seed: Optional[int] = None
    channel: str = 'auto'
    backend: str = CAMPUS_BACKEND
    parameters: Mapping[str, object] = field(default_factory=dict)
    own_parameters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    log_level: str = ''
    prefixes: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)

    @property
    def robots(self) -> Tuple[str, ...]:
        """Names of the robots, the leading one first."""
        return robots_of(self.scenario) or DEFAULT_ROBOTS


def channel_parameters(channel: str) -> Dict[str, object]:
    """
    Return the parameters of a way between robots.

    :raises ConfigError: unknown channel
    """
    if channel not in CHANNELS:
        raise ConfigError('--channel is %r, it must be one of %s' % (channel, ', '.join(CHANNELS)))
    return {'camera_inference:channel': channel,
            'adaptation_planner:offload': channel != 'off',
            'offload_server:data_door': channel in ('auto', 'zeromq'),
            'offload_server:ros_door': channel == 'ros'}


def robot_settings(settings: PairSettings, keys: Mapping[str, Path]) -> Tuple[RunSettings, ...]:
    """
    Return what each robot runs, the leading one first.

    :param keys: robot -> its key folder
    :raises CrowdHMTError: when the scenario or the channel cannot be used
    """
    leader, *others = settings.robots
    environment = ros_environment()
    shared = {name: environment[name] for name in SHARED_VARIABLES if name in environment}
    found = []
    for name in settings.robots:
        start: Dict[str, object] = {'scenario_player:start_of': leader}
        if name == leader:
            start = {'scenario_player:wait_for_robots': list(others)} if others else {}
        start.update(engine_parameters(settings.backend))
        found.append(RunSettings(
            out=settings.out / name, seconds=settings.seconds, seed=settings.seed,
            scenario=settings.scenario, robot=name, log_level=settings.log_level,
            environment={**shared, **settings.environment}, ends=name == leader,
            prefix=settings.prefixes.get(name, ()),
            parameters={**start, **channel_parameters(settings.channel),
                        'camera_inference:keys_dir': str(keys[name]),
                        'offload_server:keys_dir': str(keys[name]),
                        **settings.parameters, **settings.own_parameters.get(name, {})}))
    return tuple(found)


class PairRun:
    """
    The processes of all robots of one run.

    :param settings: what to run
    :ivar gone: robot that failed on the way -> what happened
    :raises CrowdHMTError: when the scenario, the folder or the channel cannot be used
    """

    def __init__(self, settings: PairSettings) -> None:
        self.settings = settings
        self.gone: Dict[str, str] = {}
        keys = throw_away(settings.out / 'keys', settings.robots)
        self.robots: Dict[str, RobotRun] = {}
        for robot in robot_settings(settings, keys):
            robot.out.mkdir(exist_ok=True)
            self.robots[robot.robot] = RobotRun(robot)

    @property
    def leader(self) -> RobotRun:
        """The robot with which the run starts and ends."""
        return self.robots[self.settings.robots[0]]

    def start(self) -> None:
        """
        Start everything, the leading robot last: it waits for the others anyway.

        :raises ProcessError: when a process cannot be started
        """
        for name in reversed(self.settings.robots):
            self.robots[name].start()

    def step(self) -> bool:
        """
        Look at every robot once; one that helps may crash, the first one must do without it.

        :returns: whether the run goes on
        :raises ProcessError: when a process of the first robot crashed, or nothing was answered
            in time
        """
        answering = self.answering
        goes_on = self.leader.step()
        for name in self.settings.robots[1:]:
            try:
                if name not in self.gone:
                    self.robots[name].step()
            except ProcessError as error:
                if not answering:
                    raise
                self.gone[name] = str(error)
        return goes_on

    @property
    def answering(self) -> bool:
        """Whether every robot has answered."""
        return all(robot.answering for robot in self.robots.values())

    def phase(self) -> str:
        """Return what the first robot that does not answer yet is doing."""
        return next(('%s: %s' % (name, robot.phase()) for name, robot in self.robots.items()
                     if not robot.answering), '')

    def stop(self) -> Tuple[Ended, ...]:
        """
        End the frames of all robots, the leading one first, then the rest.

        :returns: how each process ended, named with its robot
        """
        ended = []
        with undisturbed():
            for robot in self.robots.values():
                robot.stop_sources()
            drain(tuple(self.robots.values()))
            for name, robot in self.robots.items():
                ended += [dataclasses.replace(e, name='%s %s' % (name, e.name))
                          for e in robot.stop_rest()]
        return tuple(ended)
