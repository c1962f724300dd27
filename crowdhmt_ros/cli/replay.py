# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt replay`: a recorded run through the real nodes, or decided again."""
from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from crowdhmt_ros.bundle.reader import open_bundle
from crowdhmt_ros.cli.front import KnownFront, find_front
from crowdhmt_ros.cli.redecide import (
    Outcome,
    as_message,
    decide_again,
    parse_world,
    rederive_all,
)
from crowdhmt_ros.errors import CrowdHMTError, SourceError
from crowdhmt_ros.types import Plan

LOG = logging.getLogger(__name__)
PLAN_TYPE = 'crowdhmt_ros/msg/Plan'
EVENTS = 'events.jsonl'
MOST_ROWS = 20


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'replay', help='a recorded run again', description='Plays a bag through the real nodes, '
        'and decides the plans that it holds again. A folder that crowdhmt demo wrote is decided '
        'again only.')
    parser.add_argument('bag', type=Path, help='rosbag2 directory, .mcap, .db3, or the --out '
                        'folder of a demo')
    parser.add_argument('--what-if', action='append', default=[], metavar='NAME=VALUE',
                        help='decide under another world: battery=0.2, memory=24MB, latency=30ms, '
                        'floor=0.9, cpu=0.9; may be repeated. Nothing is played then')
    parser.add_argument('--bundle', default='campus7')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the report')
    parser.add_argument('--pace', choices=('original', 'lockstep'), default='original')
    parser.add_argument('--rate', type=float, default=1.0, metavar='X')
    parser.add_argument('--image-topic', default='', metavar='TOPIC')
    parser.add_argument('--battery-topic', default='', metavar='TOPIC')
    parser.add_argument('--no-live', action='store_true')
    return parser


def json_plans(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the plan messages of a recorder's file."""
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:  # cut short by a crash
                    continue
                if str(entry.get('topic', '')).rsplit('/', 1)[-1] == 'plan':
                    yield entry['message']
    except OSError as error:
        raise SourceError('%s cannot be read: %s' % (path, error.strerror)) from error


def bag_plans(path: Path) -> Iterator[Any]:
    """Yield the plan messages of a bag, by the definitions that the bag itself carries."""
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise SourceError('reading a bag needs rosbags: pip install rosbags') from error
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
            chosen = [c for c in reader.connections if c.msgtype == PLAN_TYPE]
            for connection, _, raw in reader.messages(connections=chosen) if chosen else ():
                yield reader.deserialize(raw, connection.msgtype)
    except (AnyReaderError, OSError) as error:
        raise SourceError('bag %s cannot be read: %s' % (path, error)) from error


def recorded_plans(path: Path) -> List[Tuple[Plan, str]]:
    """
    Return the plans of a recording with the digest of their front, oldest first.

    :raises SourceError: when it cannot be read
    """
    from crowdhmt_ros.nodes.convert import identity_from_msg, plan_from_msg
    if not path.exists():
        raise SourceError('there is no recording %s: check the path' % path)
    if (path / EVENTS).is_file() or path.suffix == '.jsonl':
        messages: Iterator[Any] = (as_message(m) for m in json_plans(
            path if path.is_file() else path / EVENTS))
    else:
        messages = bag_plans(path)
    return [(plan_from_msg(m), identity_from_msg(m).front_sha256) for m in messages]


def fronts_of(bundle_name: str, digests: Sequence[str]) -> Dict[str, KnownFront]:
    """
    Return the fronts that the plans were chosen from, with the ways to be helped.

    A run begins with one and goes on with another when faster engines were found meanwhile.

    :raises SourceError: when this machine cannot build one of them
    """
    bundle, found = open_bundle(bundle_name), {}
    for digest in dict.fromkeys(digests):
        front = find_front(bundle, digest)
        if front is None:
            raise SourceError('the front %s of these plans is not known on this machine: replay '
                              'where it was recorded, or name its bundle with --bundle'
                              % digest[:16])
        found[digest] = front
    return found


def outcome_lines(outcomes: Sequence[Outcome]) -> List[str]:
    """Return the differences, one line each, and their number."""
    differing = [o for o in outcomes if o.differs]
    start_s = outcomes[0].plan.stamp_s if outcomes else 0.0
    lines = ['%6.1f s  %s -> %s  (%s)' % (
        o.plan.stamp_s - start_s, o.plan.chosen.candidate.candidate_id, o.candidate_id, o.reason)
        for o in differing[:MOST_ROWS]]
    if len(differing) > MOST_ROWS:
        lines.append('... and %d more' % (len(differing) - MOST_ROWS))
    return [*lines, '%d of %d plans differ' % (len(differing), len(outcomes))]


def redecide(arguments: argparse.Namespace) -> int:
    """Print what is decided now; exit 1 when a plan cannot be derived again as it was."""
    plans = recorded_plans(arguments.bag)
    if not plans:
        raise SourceError('%s holds no plans to decide again' % arguments.bag)
    fronts = fronts_of(arguments.bundle, [digest for _, digest in plans])
    recorded = [plan for plan, _ in plans]
    if arguments.what_if:
        front = fronts[plans[-1][1]]
        outcomes = decide_again(recorded, front.entries, parse_world(arguments.what_if),
                                remote=front.remote)
        print('\n'.join(outcome_lines(outcomes)))
        return 0
    outcomes = [outcome for plan, digest in plans for outcome in rederive_all(
        [plan], fronts[digest].entries, fronts[digest].remote)]
    print('derived again from the recording alone:')
    print('\n'.join(outcome_lines(outcomes)))
    return 1 if any(o.differs for o in outcomes) else 0


def play(arguments: argparse.Namespace) -> int:
    """Play a bag through the real nodes."""
    from crowdhmt_ros.cli import demo
    from crowdhmt_ros.cli.robot_run import DEFAULT_SCENARIO
    given = argparse.Namespace(
        seconds=None, out=arguments.out, robot='vehicle', alone=False, channel='auto',
        bundle=arguments.bundle, static='', no_live=arguments.no_live,
        scenario=DEFAULT_SCENARIO, seed=None, video=None, camera=None,
        bag=str(arguments.bag), pace=arguments.pace, rate=arguments.rate,
        image_topic=arguments.image_topic, battery_topic=arguments.battery_topic)
    return demo.run(given)


def run(arguments: argparse.Namespace) -> int:
    """Play a bag and decide its plans again; only the latter for a demo's folder."""
    if not arguments.bag.exists():
        raise SourceError('there is no recording %s: check the path' % arguments.bag)
    own_folder = (arguments.bag / EVENTS).is_file() or arguments.bag.suffix == '.jsonl'
    if own_folder or arguments.what_if:
        return redecide(arguments)
    code = play(arguments)
    try:
        held = recorded_plans(arguments.bag)
    except CrowdHMTError as error:
        LOG.warning('%s', error)
        return code
    return max(code, redecide(arguments)) if held else code
