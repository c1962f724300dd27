# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt search`: a trained family and images -> the front of its variants, resumable."""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from crowdhmt_ros.cli import inputs
from crowdhmt_ros.cli.front_file import FORMAT, FORMAT_VERSION
from crowdhmt_ros.cli.progress import Bar
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import variant_to_json

if TYPE_CHECKING:
    from crowdhmt_ros.elastic.evolve.memo import Remembering
    from crowdhmt_ros.elastic.evolve.space import Space
    from crowdhmt_ros.elastic.scaling import InputScaling
    from crowdhmt_ros.elastic.supernet import Supernet
    from crowdhmt_ros.planner.pareto import Front


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'search', help='find the front of a family: accuracy against operations and weights '
        '(needs the extras train and search)')
    parser.add_argument('family', type=Path, help='file with the trained family')
    inputs.add_options(parser)
    parser.add_argument('--held', type=int, default=512, metavar='N',
                        help='other inputs, on which accuracy is measured')
    parser.add_argument('--out', type=Path, required=True, help='JSON file of the front')
    parser.add_argument('--front', type=int, default=16, metavar='N',
                        help='variants in the front, chosen by spread')
    parser.add_argument('--budget', type=int, default=600, metavar='N',
                        help='variants that the search measures')
    parser.add_argument('--population', type=int, default=32, metavar='N')
    parser.add_argument('--memo', type=Path, default=None,
                        help='file from which a search goes on (default: beside OUT)')
    parser.add_argument('--whole-space', action='store_true',
                        help='do not reduce the space beforehand')
    parser.add_argument('--seed', type=int, default=7)
    parser.add_argument('--threads', type=int, default=2)
    return parser


def run(args: argparse.Namespace) -> int:
    """
    Search and write the front.

    :returns: 0
    :raises DataError: family, data or options cannot be used
    """
    inputs.check_least(args, ('calibration', 2), ('held', 1), ('front', 1), ('budget', 2),
                       ('population', 2), ('threads', 1))
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch is imported
    try:
        import torch

        from crowdhmt_ros.elastic.store import load_family
        from crowdhmt_ros.planner import pareto
    except ImportError as error:
        raise DataError('searching needs %s; install the extras train and search'
                        % error.name) from error
    torch.set_num_threads(args.threads)
    net, _, header = load_family(args.family)
    shape = tuple(header.backbone.example().shape[1:]) if header.backbone else ()
    meter, count = _meter(args, net, shape, header.scaling)
    space, about = _space(args, meter)
    whole = space.stages[0][0].macs, space.stages[0][0].words

    def evaluate(genomes: Sequence[Tuple[int, ...]]) -> List[Tuple[float, ...]]:
        return [_objectives(meter, space, g, whole) for g in genomes]

    with Bar('searching') as progress:
        front = pareto.search(space, evaluate, budget=args.budget, population=args.population,
                              seed=args.seed, starts=space.ends, progress=progress)
    chosen = pareto.spread(front.objectives, args.front)
    _write(args.out, {
        'format': FORMAT, 'format_version': FORMAT_VERSION, 'seed': args.seed, **about,
        'evaluations': front.evaluations, 'found': len(front.genomes),
        'front': _entries(meter, space, front, chosen, count)})
    print('%d of %d variants in %s; %s' % (len(chosen), len(front.genomes), args.out, _span(
        [1.0 - front.objectives[i][0] for i in chosen])))
    return 0


def _span(accuracies: Sequence[float]) -> str:
    return 'accuracy %.3f to %.3f' % (min(accuracies), max(accuracies))


def _objectives(meter: Remembering, space: Space, genome: Tuple[int, ...],
                whole: Tuple[int, int]) -> Tuple[float, ...]:
    """Return error, operations and weights, the latter as shares of the whole network's."""
    macs, words, accuracy = _figures(meter, space, genome)
    return 1.0 - accuracy, macs / max(1, whole[0]), words / max(1, whole[1])


def _figures(meter: Remembering, space: Space, genome: Tuple[int, ...]
             ) -> Tuple[int, int, float]:
    from crowdhmt_ros.elastic.evolve.generate import weight_words
    variant, net = space.variant(genome), meter.net
    plan = net.plan(variant)
    return plan.macs, weight_words(plan, net.structure.classes), meter.measure(variant).accuracy


def _entries(meter: Remembering, space: Space, front: Front, chosen: Sequence[int], count: int
             ) -> List[Dict[str, Any]]:
    """Describe the members of the front, from dear to cheap."""
    entries = []
    for index in chosen:
        macs, words, accuracy = _figures(meter, space, front.genomes[index])
        entries.append({**variant_to_json(space.variant(front.genomes[index])),
                        'accuracy': {'value': accuracy, 'count': count},
                        'macs': macs, 'parameters': words})
    return sorted(entries, key=lambda e: (-e['macs'], -e['parameters']))


def _space(args: argparse.Namespace, meter: Remembering) -> Tuple[Space, Dict[str, Any]]:
    """Generate the space and make it small; sizes may exceed what JSON readers take: texts."""
    from crowdhmt_ros.elastic.evolve.generate import generate
    from crowdhmt_ros.elastic.evolve.reduce import reduce_space
    whole = generate(meter.net)
    if args.whole_space:
        return whole, {'variants': str(whole.size), 'searched': str(whole.size)}
    with Bar('scoring') as progress:
        reduced = reduce_space(whole, meter, progress=progress)
    print('%.3g variants, %.3g of them searched' % (whole.size, reduced.space.size))
    return reduced.space, {'variants': str(whole.size), 'searched': str(reduced.space.size)}


def _meter(args: argparse.Namespace, net: Supernet, shape: Tuple[int, ...],
           known: Optional[InputScaling]) -> Tuple[Remembering, int]:
    """Open data and what was measured before; also return how many inputs are measured on."""
    from crowdhmt_ros.elastic.evolve.memo import Remembering, identity_of
    from crowdhmt_ros.elastic.evolve.zero_shot import ZeroShot
    drawn = inputs.draw_inputs(
        args, net.structure.classes, shape, wanted=args.calibration + args.held,
        mend='give a smaller --calibration or --held', known=known)
    held, truth = drawn.values[args.calibration:], drawn.labels[args.calibration:]
    zero_shot = ZeroShot(net, inputs.batches(drawn.values[:args.calibration]),
                         inputs.batches(held), inputs.batches(truth))
    memo = args.memo or args.out.with_name(args.out.name + '.measured')
    meter = Remembering(zero_shot, memo, identity_of(net, [drawn.values, drawn.labels]))
    if meter.found:
        print('going on with %d variants that were measured before (%s)' % (meter.found, memo))
    return meter, len(held)


def _write(path: Path, value: Dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + '.part')
    beside.write_text(json.dumps(value, indent=1) + '\n', encoding='utf-8')
    os.replace(beside, path)
