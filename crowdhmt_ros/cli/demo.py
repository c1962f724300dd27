# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`crowdhmt demo`: robots on their real nodes.

Vehicle and drone in the built-in campus, or one robot there or on real input.
"""
from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli import outcome
from crowdhmt_ros.cli.live import make_view
from crowdhmt_ros.cli.pair_run import CHANNELS, DEFAULT_PAIR_SCENARIO
from crowdhmt_ros.cli.prepare import CAMPUS_BACKEND, engine_parameters, prepare
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.cli.robot_run import (
    BAG,
    CAMERA,
    CAMPUS,
    DEFAULT_SCENARIO,
    VIDEO,
    RobotRun,
    RunSettings,
)
from crowdhmt_ros.engine.backends import AUTO, BACKENDS
from crowdhmt_ros.errors import ConfigError, CrowdHMTError, SourceError
from crowdhmt_ros.nodes.bag_file import IMAGE_TYPES, open_bag

SHOW_EVERY_S = 0.1
PHASE_EVERY_S = 2.0
FOLDER_NAME = 'crowdhmt-report-%d'


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'demo', help='robots on real ROS 2 nodes', description='Runs a vehicle and a drone that '
        'computes for it on their real nodes, shows what they do, and writes report.json and '
        'report.html. With --robot, --alone or real input it is one robot.')
    parser.add_argument('--seconds', type=float, metavar='N', help='length of the run; the '
                        "campus day is compressed to it. Default: the scenario's, or all input")
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the report; must be '
                        'empty or new. Default: the next free crowdhmt-report-N here')
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument('--robot', choices=('vehicle', 'drone'), help='only this one')
    alone.add_argument('--alone', action='store_true', help='the vehicle only')
    parser.add_argument('--channel', choices=CHANNELS, default='auto', help='way between the '
                        "robots; 'off' lets each work for itself")
    parser.add_argument('--bundle', default='campus7', help='name or directory of a bundle')
    parser.add_argument('--backend', choices=(AUTO, *sorted(BACKENDS)), help="engine; 'auto' "
                        'compares those installed and their memory modes. Default: auto on real '
                        'input; %s in the campus, whose budgets auto would keep without any '
                        'change of plan' % CAMPUS_BACKEND)
    parser.add_argument('--static', metavar='CANDIDATE', default='', help='keep one plan '
                        '(candidate_id or variant_id) instead of adapting, for comparison')
    parser.add_argument('--no-live', action='store_true', help='plain lines instead of a table')
    campus = parser.add_argument_group('built-in campus')
    campus.add_argument('--scenario', default='', help='name or YAML file; default: %s, and %s '
                        'for one robot' % (DEFAULT_PAIR_SCENARIO, DEFAULT_SCENARIO))
    campus.add_argument('--seed', type=int, help="of the world; default: the scenario's")
    given = parser.add_argument_group('real input').add_mutually_exclusive_group()
    given.add_argument('--video', metavar='FILE', help='a video file')
    given.add_argument('--camera', type=int, metavar='N', help='a camera of this machine')
    given.add_argument('--bag', metavar='PATH', help='a rosbag2 directory, .mcap or .db3')
    parser.add_argument('--pace', choices=('original', 'lockstep'), default='original',
                        help='of a video or bag: recorded times, or the next frame when the last '
                        'was answered')
    bag = parser.add_argument_group('bag')
    bag.add_argument('--image-topic', default='', metavar='TOPIC', help='its camera')
    bag.add_argument('--battery-topic', default='', metavar='TOPIC', help='its battery')
    bag.add_argument('--rate', type=float, default=1.0, metavar='X', help='speed of the recording')
    return parser


def choose_folder(wished: Optional[Path]) -> Path:
    """
    Return the folder of this run, existing and empty.

    :param wished: None for the next free name here
    :raises ConfigError: when it holds something already or cannot be made
    """
    if wished is None:
        number = 1
        while Path(FOLDER_NAME % number).exists():
            number += 1
        wished = Path(FOLDER_NAME % number)
    try:
        wished.mkdir(parents=True, exist_ok=True)
        if any(wished.iterdir()):
            raise ConfigError('%s is not empty: name another folder with --out' % wished)
    except OSError as error:
        raise ConfigError('%s cannot be used (%s): name another folder with --out' % (
            wished, error.strerror)) from error
    return wished.resolve()


def source_of(arguments: argparse.Namespace) -> Tuple[str, str]:
    """
    Return (kind, target) of the input.

    :raises SourceError: when a named file does not exist
    """
    for kind, name in ((VIDEO, arguments.video), (BAG, arguments.bag)):
        if name is not None:
            if not Path(name).exists():
                raise SourceError('there is no %s %s: check the path' % (kind, name))
            return kind, name
    if arguments.camera is not None:
        if not Path('/dev/video%d' % arguments.camera).exists():
            raise SourceError('there is no camera %d here: crowdhmt doctor lists those there are'
                              % arguments.camera)
        return CAMERA, str(arguments.camera)
    return CAMPUS, ''


def backend_of(arguments: argparse.Namespace) -> str:
    """
    Return the engine to run on.

    :raises SourceError: when the named input does not exist
    """
    if arguments.backend:
        return str(arguments.backend)
    return CAMPUS_BACKEND if source_of(arguments)[0] == CAMPUS else AUTO


def check_bag(path: str, image_topic: str) -> None:
    """
    Open a bag.

    :param image_topic: '' for the only one
    :raises CrowdHMTError: it cannot be read, or holds no such topic
    """
    with open_bag(path) as opened:
        opened.the_topic(image_topic, IMAGE_TYPES, parameter='--image-topic')


def settings_of(arguments: argparse.Namespace, folder: Path) -> RunSettings:
    """
    Translate the options and look at the input; nothing is written.

    :raises CrowdHMTError: when one cannot be used
    """
    if arguments.seconds is not None and not arguments.seconds >= 1.0:
        raise ConfigError('--seconds is %g, it must be at least 1' % arguments.seconds)
    kind, target = source_of(arguments)
    if kind == BAG:
        check_bag(target, arguments.image_topic)
    robot = arguments.robot or 'vehicle'
    scenario = arguments.scenario or DEFAULT_SCENARIO
    if kind == CAMPUS:
        load_scenario(scenario, robot)
    parameters: Dict[str, object] = {'bundle': arguments.bundle,
                                     **engine_parameters(backend_of(arguments))}
    if arguments.static:
        parameters['adaptation_planner:pinned_candidate'] = arguments.static
    if kind == VIDEO:
        parameters['camera_inference:pace'] = arguments.pace
    if kind == BAG:
        parameters.update({
            'bag_player:pace': arguments.pace, 'bag_player:rate': arguments.rate,
            'bag_player:image_topic': arguments.image_topic,
            'bag_player:battery_topic': arguments.battery_topic})
    return RunSettings(
        out=folder, source=kind, target=target, seconds=arguments.seconds, seed=arguments.seed,
        scenario=scenario, robot=robot, parameters=parameters)


def is_pair(arguments: argparse.Namespace) -> bool:
    """Tell whether several robots run: in the campus, where none is named."""
    return arguments.robot is None and not arguments.alone and source_of(arguments)[0] == CAMPUS


def watch(run: RobotRun, view: Any) -> bool:
    """
    Show the run until it ends.

    :returns: False when Ctrl-C ended it
    :raises ProcessError: when a process crashed
    """
    said_s, said = 0.0, ''
    try:
        while run.step():
            if run.answering:
                view.show(run.board.view())
            elif time.monotonic() - said_s >= PHASE_EVERY_S:
                said_s, words = time.monotonic(), run.phase()
                if words != said:
                    said = words
                    view.say(words)
            time.sleep(SHOW_EVERY_S)
    except KeyboardInterrupt:
        return False
    return True


def about_run(settings: RunSettings) -> Dict[str, Any]:
    """Return what report.json says about the run itself."""
    what = {CAMPUS: 'built-in campus, scenario %s' % settings.scenario,
            VIDEO: 'video %s' % Path(settings.target).name,
            CAMERA: 'camera %s' % settings.target,
            BAG: 'bag %s' % Path(settings.target).name}[settings.source]
    pinned = settings.parameters.get('adaptation_planner:pinned_candidate', '')
    return {'title': 'One robot: %s' % settings.robot,
            'subtitle': '%s%s' % (what, ', plan pinned to %s' % pinned if pinned else ''),
            'source': what, 'seed': settings.seed, 'seconds_asked': settings.seconds,
            'pinned': pinned, 'bundle': settings.parameters.get('bundle', ''),
            'machine': outcome.machine(),
            'energy': 'estimated by the energy model of the device profile, not measured'}


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; exit 1 when a process crashed or a report could not be written."""
    if is_pair(arguments):
        from crowdhmt_ros.cli import pair_demo
        return pair_demo.run(arguments)
    return run_alone(arguments)


def run_alone(arguments: argparse.Namespace) -> int:
    """Run one robot; exit 1 when a process crashed or a report could not be written."""
    bundle = outcome.bundle_named(arguments.bundle)
    checked = settings_of(arguments, Path())
    folder = choose_folder(arguments.out)
    settings = dataclasses.replace(checked, out=folder)
    prepare(bundle, live=not arguments.no_live, backend=backend_of(arguments))
    robot = RobotRun(settings)
    failure = ''
    ended: Tuple[Ended, ...] = ()
    try:
        with make_view('crowdhmt %s' % settings.robot, live=not arguments.no_live) as view:
            robot.start()
            watch(robot, view)
    except CrowdHMTError as error:
        failure = str(error)
    finally:
        ended = robot.stop()
    if not settings.events.exists() or (failure and not robot.answering):
        raise ProcessError(failure or 'nothing was recorded: see %s' % (folder / 'logs'))
    _, report = outcome.make_report(settings.events, settings.frames, bundle=bundle,
                                    about=about_run(settings))
    print('\n'.join(outcome.summary_lines(report, ended)))
    try:
        outcome.save(report, folder, bundle)
        print('report: %s' % (folder / 'report.html'))
    except CrowdHMTError as error:
        failure = failure or str(error)
    if failure:
        print('crowdhmt: %s' % failure, file=sys.stderr)
    return 1 if failure or any(e.crashed for e in ended) else 0
