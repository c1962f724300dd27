# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt demo` with several robots: run them, show them, report on them together."""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict, Set, Tuple

from crowdhmt_ros.campus.scenario import load_scenario
from crowdhmt_ros.cli import outcome
from crowdhmt_ros.cli.demo import PHASE_EVERY_S, SHOW_EVERY_S, backend_of, choose_folder
from crowdhmt_ros.cli.live import make_view
from crowdhmt_ros.cli.pair_outcome import pair_lines, pair_report, save_pair
from crowdhmt_ros.cli.pair_run import (
    DEFAULT_PAIR_SCENARIO,
    PairRun,
    PairSettings,
    channel_parameters,
)
from crowdhmt_ros.cli.prepare import prepare
from crowdhmt_ros.cli.processes import Ended, ProcessError
from crowdhmt_ros.errors import ConfigError, CrowdHMTError


def pair_settings(arguments: argparse.Namespace, folder: Path) -> PairSettings:
    """
    Translate the options and look at the scenario; nothing is written.

    A plan given with --static holds for the leading robot: the others are there to help it.

    :raises CrowdHMTError: when one cannot be used
    """
    if arguments.seconds is not None and not arguments.seconds >= 1.0:
        raise ConfigError('--seconds is %g, it must be at least 1' % arguments.seconds)
    channel_parameters(arguments.channel)
    settings = PairSettings(
        out=folder, scenario=arguments.scenario or DEFAULT_PAIR_SCENARIO,
        seconds=arguments.seconds, seed=arguments.seed, channel=arguments.channel,
        backend=backend_of(arguments), parameters={'bundle': arguments.bundle})
    for robot in settings.robots:
        load_scenario(settings.scenario, robot)
    if not arguments.static:
        return settings
    pinned = {'adaptation_planner:pinned_candidate': arguments.static}
    return PairSettings(**{**vars(settings), 'own_parameters': {settings.robots[0]: pinned}})


def watch(run: PairRun, view: Any) -> bool:
    """
    Show the run until it ends.

    :returns: False when Ctrl-C ended it
    :raises ProcessError: when a process crashed
    """
    said_s, said = 0.0, ''
    told: Set[str] = set()
    try:
        while run.step():
            for name in set(run.gone) - told:
                told.add(name)
                view.say('%s is gone: %s' % (name, run.gone[name]))
            if run.answering:
                view.show_all({name: robot.board.view() for name, robot in run.robots.items()})
            elif time.monotonic() - said_s >= PHASE_EVERY_S:
                said_s, words = time.monotonic(), run.phase()
                if words and words != said:
                    said = words
                    view.say(words)
            time.sleep(SHOW_EVERY_S)
    except KeyboardInterrupt:
        return False
    return True


def about_pair(settings: PairSettings, arguments: argparse.Namespace) -> Dict[str, Any]:
    """Return what report.json says about the run itself."""
    what = 'built-in campus, scenario %s' % settings.scenario
    pinned = ', plan of %s pinned to %s' % (settings.robots[0], arguments.static)
    return {'title': 'Robots: %s' % ', '.join(settings.robots),
            'subtitle': '%s, channel %s%s' % (what, settings.channel,
                                              pinned if arguments.static else ''),
            'source': what, 'seed': settings.seed, 'seconds_asked': settings.seconds,
            'pinned': arguments.static, 'channel': settings.channel,
            'bundle': arguments.bundle, 'machine': outcome.machine(),
            'energy': 'estimated by the energy model of the device profile, not measured'}


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; exit 1 when a process crashed or a report could not be written."""
    bundle = outcome.bundle_named(arguments.bundle)
    pair_settings(arguments, Path())
    folder = choose_folder(arguments.out)
    settings = pair_settings(arguments, folder)
    prepare(bundle, live=not arguments.no_live, backend=settings.backend)
    pair = PairRun(settings)
    failure = ''
    ended: Tuple[Ended, ...] = ()
    try:
        with make_view('crowdhmt', live=not arguments.no_live) as view:
            pair.start()
            watch(pair, view)
    except CrowdHMTError as error:
        failure = str(error)
    finally:
        ended = pair.stop()
    if failure and not pair.answering:
        raise ProcessError(failure)
    failure = failure or '; '.join('%s: %s' % gone for gone in pair.gone.items())
    report = pair_report(pair, bundle=bundle, about=about_pair(settings, arguments))
    print('\n'.join(pair_lines(report, ended)))
    try:
        save_pair(report, folder, bundle)
        print('report: %s' % (folder / 'report.html'))
    except CrowdHMTError as error:
        failure = failure or str(error)
    if failure:
        print('crowdhmt: %s' % failure, file=sys.stderr)
    return 1 if failure or any(e.crashed for e in ended) else 0
