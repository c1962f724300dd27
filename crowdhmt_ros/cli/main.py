# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The command `crowdhmt`.

Subcommands are imported when they are named: help is quick and training's libraries are not
needed on a robot. Exit codes: 0 done, 1 a stated target or check failed, 2 bad usage or input.
"""
from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from typing import Optional, Sequence

from crowdhmt_ros.cli.interrupts import one_request
from crowdhmt_ros.errors import CrowdHMTError

COMMANDS = {
    'demo': 'one robot on real ROS 2 nodes, in the built-in campus or on real input',
    'up': 'the nodes of one robot in this shell, restarted when they crash',
    'replay': 'a recorded run through the real nodes, or decided again under another world',
    'doctor': 'what this machine has and lacks',
    'keys': 'make and show the key of this robot, trust those of its peers',
    'bench': 'one claim: figures beside their targets',
    'import': 'write a bundle from an ONNX model (needs the extra train)',
    'train': 'train the model family and write the bundle (needs the extra train)',
    'search': 'find the front of a family: accuracy against operations and weights (needs the '
              'extras train and search)',
    'build': 'write a bundle from a trained family and a front (needs the extra train)',
    'loss': 'count the frames of a recorded run',
    'reference': 'print the reference sections of the README',
}
MODULES = {'import': 'import_model'}
"""Commands whose module has another name: a keyword of Python cannot be imported."""
DONE, FELL_SHORT, BAD_INPUT = 0, 1, 2
INTERRUPTED = 128 + signal.SIGINT


def build_parser(chosen: Optional[str]) -> argparse.ArgumentParser:
    """
    Make the parser; only the chosen subcommand's module is imported.

    :param chosen: name of the subcommand, None when none was given
    """
    parser = argparse.ArgumentParser(
        prog='crowdhmt', description="Keeps the best answer coming from a robot's camera while "
        'battery, memory and processor change.')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = importlib.import_module('crowdhmt_ros.cli.' + MODULES.get(name, name))
            module.add_parser(commands)
            parser.set_defaults(run=module.run)
        else:
            commands.add_parser(name, help=summary, add_help=False)
    return parser


def chosen_command(arguments: Sequence[str]) -> Optional[str]:
    """Return the subcommand named by the first word, None where there is none."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else None


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """
    Run one command.

    :param arguments: without the program's name; those of this process when None
    :returns: the exit code
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=os.environ.get('CROWDHMT_LOG_LEVEL', 'WARNING').upper(),
                        format='%(levelname)s %(name)s: %(message)s')
    parser = build_parser(chosen_command(words))
    parsed = parser.parse_args(words)
    try:
        with one_request():
            return int(parsed.run(parsed))
    except CrowdHMTError as error:
        print('crowdhmt: %s' % error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


if __name__ == '__main__':
    raise SystemExit(main())
