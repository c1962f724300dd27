# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt up ROLE`: one robot's nodes in this shell, restarted when they crash."""
from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from crowdhmt_ros.cli.processes import POLL_S, Child, Ended, Fleet
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.nodes import table
from crowdhmt_ros.nodes.launching import CHANNELS, image_remappings
from crowdhmt_ros.share import config_folders

ROLES = ('vehicle', 'drone')
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
HEALTHY_AFTER_S = 30.0
BAD_INPUT = 2
FINAL_CODES = (0, BAD_INPUT)
"""Started again it would end the same way: a clean end, or a parameter that is wrong."""


class BackOff:
    """
    How long to wait before a crashed process is started again.

    The pause doubles with each crash and falls back to the first one after a healthy stretch.
    """

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S,
                 healthy_after_s: float = HEALTHY_AFTER_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._healthy_after_s = healthy_after_s
        self._next_s = first_s

    def pause_s(self, ran_s: float) -> float:
        """
        Return the pause after a crash.

        :param ran_s: how long the process ran
        """
        if ran_s >= self._healthy_after_s:
            self._next_s = self._first_s
        pause = self._next_s
        self._next_s = min(self._longest_s, 2 * self._next_s)
        return pause


class Keeper:
    """
    Keeps processes running: a crashed one is started again.

    One that ended cleanly is not, nor is one that refused its parameters.

    :param fleet: where they run
    :param commands: name -> command line
    """

    def __init__(self, fleet: Fleet, commands: Mapping[str, List[str]]) -> None:
        self._fleet = fleet
        self._commands = dict(commands)
        self._back_off = {name: BackOff() for name in commands}
        self._started_s: Dict[str, float] = {}
        self._due_s: Dict[str, float] = {}

    def start(self) -> None:
        """Start everything."""
        for name in self._commands:
            self._start(name)

    def _start(self, name: str) -> Child:
        self._started_s[name] = time.monotonic()
        return self._fleet.start(name, self._commands[name])

    def step(self, now_s: float) -> Tuple[Tuple[Ended, Optional[float]], ...]:
        """
        Look after the processes once.

        :param now_s: monotonic
        :returns: each process that ended, with the pause before its restart or None
        """
        for name, due_s in list(self._due_s.items()):
            if now_s >= due_s:
                del self._due_s[name]
                self._start(name)
        events = []
        for ended in self._fleet.newly_ended():
            pause: Optional[float] = None
            if ended.code not in FINAL_CODES:
                pause = self._back_off[ended.name].pause_s(now_s - self._started_s[ended.name])
                self._due_s[ended.name] = now_s + pause
            events.append((ended, pause))
        return tuple(events)

    @property
    def alive(self) -> bool:
        """Whether anything runs or is about to."""
        return bool(self._fleet.children or self._due_s)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'up', help="one robot's nodes in this shell", description="Starts a robot's processes "
        'here, restarts what crashes, and ends them on Ctrl-C. ROS settings of this shell hold.')
    parser.add_argument('role', choices=ROLES, help='which robot')
    parser.add_argument('--namespace', help='default: the role')
    parser.add_argument('--bundle', help='name or directory of a bundle')
    parser.add_argument('--params-file', type=Path, metavar='FILE',
                        help='YAML file of ROS parameters; default: config/ROLE.yaml')
    parser.add_argument('--image-topic', metavar='TOPIC', help='where the camera publishes')
    parser.add_argument('--battery-topic', metavar='TOPIC', help='where the battery publishes')
    parser.add_argument('--channel', choices=tuple(CHANNELS)[1:], default='',
                        help='way to peers; default: as the parameter file says')
    parser.add_argument('--keys-dir', type=Path, metavar='DIR',
                        help='folder of own and trusted keys; default: $CROWDHMT_KEYS or '
                        '~/.config/crowdhmt/keys')
    parser.add_argument('--use-sim-time', action='store_true', help='follow /clock')
    parser.add_argument('--processes', choices=table.GROUPINGS, default=table.GROUPED)
    parser.add_argument('--log-level', default='', choices=('', 'debug', 'info', 'warn', 'error'))
    parser.add_argument('-p', '--param', action='append', default=[], metavar='NAME:=VALUE',
                        help='one ROS parameter of every node that has it; may be repeated')
    return parser


def extra_arguments(assignments: List[str]) -> List[str]:
    """
    Return the ROS arguments of `--param` options.

    :raises ConfigError: when one has no `:=`
    """
    wrong = [text for text in assignments if ':=' not in text]
    if wrong:
        raise ConfigError('--param %s is no parameter: write NAME:=VALUE' % ', '.join(wrong))
    return [word for text in assignments for word in ('-p', text)]


def default_params_file(role: str) -> Optional[Path]:
    """Return config/ROLE.yaml of the checkout or of the installed share folder, if any."""
    files = [folder / (role + '.yaml') for folder in config_folders('.')]
    return next((file for file in files if file.is_file()), None)


def command_lines(arguments: argparse.Namespace) -> Dict[str, List[str]]:
    """
    Return process name -> command line.

    :raises ConfigError: when an option cannot be used
    """
    if arguments.params_file and not arguments.params_file.is_file():
        raise ConfigError('there is no file %s' % arguments.params_file)
    params_file = arguments.params_file or default_params_file(arguments.role)
    parameters: Dict[str, object] = {'use_sim_time': True} if arguments.use_sim_time else {}
    if arguments.bundle:
        parameters['bundle'] = arguments.bundle
    if arguments.keys_dir:
        parameters['keys_dir'] = str(arguments.keys_dir)
    parameters.update(CHANNELS[arguments.channel])
    remappings = dict(image_remappings((arguments.image_topic or '').rstrip('/')))
    if arguments.battery_topic:
        remappings['battery_state'] = arguments.battery_topic
    extra = extra_arguments(arguments.param)
    return {process.name: table.command(
        process.name, namespace=arguments.namespace or arguments.role,
        params_file=str(params_file) if params_file else None, parameters=parameters,
        remappings=remappings, log_level=arguments.log_level) + extra
        for process in table.processes(arguments.processes)}


def run(arguments: argparse.Namespace) -> int:
    """
    Keep a robot's processes running until Ctrl-C.

    :returns: 1 when one ended with a failure, 2 when one refused its parameters
    """
    fleet = Fleet(dict(os.environ, PYTHONUNBUFFERED='1'))
    keeper = Keeper(fleet, command_lines(arguments))
    refused = failed = False
    try:
        keeper.start()
        while keeper.alive and not refused:
            for ended, pause_s in keeper.step(time.monotonic()):
                print(ended_text(ended, pause_s), file=sys.stderr)
                refused = refused or ended.code == BAD_INPUT
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print('stopping', file=sys.stderr)
    finally:
        failed = any(ended.crashed for ended in fleet.stop_all(tuple(fleet.children)))
    if refused:
        return BAD_INPUT
    return 1 if failed else 0


def ended_text(ended: Ended, pause_s: Optional[float]) -> str:
    """Return what to say about a process that ended; the pause is None for one left ended."""
    if pause_s is not None:
        return '%s crashed (exit code %d), restart in %.0f s' % (
            ended.name, ended.code, pause_s)
    if ended.code == BAD_INPUT:
        return '%s refused its parameters (see above): mend them and start again' % ended.name
    return '%s has ended' % ended.name
