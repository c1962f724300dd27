# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt bench NAME`: figures beside their targets; exit 1 when one falls short."""
from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Sequence

from crowdhmt_ros.cli.figures import Figure, falls_short, table_text
from crowdhmt_ros.cli.outcome import machine
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.machine_lock import hold_machine, is_held
from crowdhmt_ros.report.write import write_whole

FOLDER = Path(__file__).resolve().parents[2] / 'benchmarks'
HELPERS = ('lanes', 'parts', 'timing')


def bench_names() -> Sequence[str]:
    """Return the benches of this checkout, none in an installed package."""
    return sorted(p.stem for p in FOLDER.glob('*.py')
                  if not p.stem.startswith('_') and p.stem not in HELPERS)


def load_bench(name: str) -> ModuleType:
    """
    Import benchmarks/NAME.py of the checkout.

    :raises ConfigError: when there is none
    """
    if not FOLDER.is_dir():
        raise ConfigError('the benches are in the source tree, this is an installed package: '
                          'clone the repository and run crowdhmt bench %s there' % name)
    if name not in bench_names():
        raise ConfigError('there is no bench %s: choose one of %s' % (
            name, ', '.join(bench_names()) or 'none'))
    if str(FOLDER.parent) not in sys.path:
        sys.path.insert(0, str(FOLDER.parent))
    return importlib.import_module('benchmarks.' + name)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        'bench', help='figures beside their targets', description='Runs benchmarks/NAME.py, '
        'prints each figure beside its target, exits with 1 when one falls short.')
    parser.add_argument('name', help='one of: %s' % ', '.join(bench_names()))
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there too')
    parser.add_argument('--quick', action='store_true', help='far fewer repetitions: shows that '
                        'the bench works; its figures are no claims')
    parser.add_argument('--only', action='append', default=[], metavar='PART',
                        help='one part of the bench; may be repeated')
    parser.add_argument('--keep', type=Path, metavar='DIR', help='keep the recorded runs there')
    training = parser.add_argument_group('bench training')
    training.add_argument('--data', type=Path, metavar='DIR',
                          help='folder with the data sets (default: $CROWDHMT_DATA)')
    training.add_argument('--checkpoints', type=Path, metavar='DIR',
                          help='folder of what was trained (default: in the cache)')
    training.add_argument('--train', action='append', default=[], metavar='PART',
                          help='do the trainings that a part rests on, or the one of that name; '
                          'may be killed and repeated, and run several times at once')
    training.add_argument('--retrain', type=int, metavar='N',
                          help='repeat a training, drawn by this number, and compare')
    training.add_argument('--device', choices=('cpu', 'cuda'), default='cpu',
                          help='where --train and --retrain compute (default: cpu)')
    return parser


def as_json(name: str, figures: Sequence[Figure], *, quick: bool) -> str:
    """Return the JSON text of a bench."""
    content = {'bench': name, 'machine': dict(machine(), quick=quick),
               'figures': [f.as_dict() for f in figures]}
    return json.dumps(content, indent=1, allow_nan=False) + '\n'


def run(arguments: argparse.Namespace) -> int:
    """Run a bench while holding the machine, unless it says that it needs no quiet."""
    bench = load_bench(arguments.name)
    if not getattr(bench, 'HOLDS_MACHINE', True):
        return _told(arguments, bench.run(arguments))
    if is_held():
        print('another measurement holds this machine: waiting for its end', file=sys.stderr,
              flush=True)
    with hold_machine():
        figures = bench.run(arguments)
    return _told(arguments, figures)


def _told(arguments: argparse.Namespace, figures: Sequence[Figure]) -> int:
    if figures:
        print(table_text(figures))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.json, as_json(arguments.name, figures, quick=arguments.quick))
    short = falls_short(figures)
    if short:
        print('falls short: %s' % ', '.join(short), file=sys.stderr)
    return 1 if short else 0
