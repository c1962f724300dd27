# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt search`: a trained family and images -> the front of its variants, resumable."""
from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Sequence, Tuple

from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import variant_to_json

if TYPE_CHECKING:
    import torch

    from crowdhmt_ros.elastic.evolve.memo import Remembering
    from crowdhmt_ros.elastic.evolve.space import Space
    from crowdhmt_ros.elastic.supernet import Supernet
    from crowdhmt_ros.planner.pareto import Front

FORMAT, FORMAT_VERSION = 'crowdhmt-front', 1
BATCH = 128
MEANS, DEVIATIONS = (0.47, 0.46, 0.43), (0.26, 0.25, 0.27)
"""Per colour, of pixels between 0 and 1; of the photos that the reference networks learn from."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'search', help='find the front of a family: accuracy against operations and weights '
        '(needs the extras train and search)')
    parser.add_argument('family', type=Path, help='file with the trained family')
    parser.add_argument('--data', type=Path, required=True,
                        help='images, windows or sounds with their classes')
    parser.add_argument('--layout', default='auto', help='of the data (default: found out)')
    parser.add_argument('--split', default='train', help='of the data that is measured on; the '
                        'test split is better kept for the result (default: train)')
    parser.add_argument('--mean', type=float, nargs='+', default=MEANS, metavar='M',
                        help='per colour, of pixels between 0 and 1')
    parser.add_argument('--std', type=float, nargs='+', default=DEVIATIONS, metavar='S',
                        help='per colour')
    parser.add_argument('--calibration', type=int, default=256, metavar='N',
                        help='inputs from which each variant gets its statistics')
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
    for name, least in (('calibration', 2), ('held', 1), ('front', 1), ('budget', 2),
                        ('population', 2), ('threads', 1)):
        if getattr(args, name) < least:
            raise DataError('--%s is %d; give at least %d' % (name, getattr(args, name), least))
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
    meter, count = _meter(args, net, shape)
    space, about = _space(args, meter)
    whole = space.stages[0][0].macs, space.stages[0][0].words

    def evaluate(genomes: Sequence[Tuple[int, ...]]) -> List[Tuple[float, ...]]:
        return [_objectives(meter, space, g, whole) for g in genomes]

    with _shown('searching') as progress:
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
    with _shown('scoring') as progress:
        reduced = reduce_space(whole, meter, progress=progress)
    print('%.3g variants, %.3g of them searched' % (whole.size, reduced.space.size))
    return reduced.space, {'variants': str(whole.size), 'searched': str(reduced.space.size)}


def _meter(args: argparse.Namespace, net: Supernet, shape: Tuple[int, ...]
           ) -> Tuple[Remembering, int]:
    """Open data and what was measured before; also return how many inputs are measured on."""
    from crowdhmt_ros.elastic.evolve.memo import Remembering, identity_of
    from crowdhmt_ros.elastic.evolve.zero_shot import ZeroShot
    inputs, labels = _inputs(args, net.structure.classes, shape)
    held, truth = inputs[args.calibration:], labels[args.calibration:]
    zero_shot = ZeroShot(net, _batches(inputs[:args.calibration]), _batches(held),
                         _batches(truth))
    memo = args.memo or args.out.with_name(args.out.name + '.measured')
    meter = Remembering(zero_shot, memo, identity_of(net, [inputs, labels]))
    if meter.found:
        print('going on with %d variants that were measured before (%s)' % (meter.found, memo))
    return meter, len(held)


def _batches(values: torch.Tensor) -> List[torch.Tensor]:
    return [values[i:i + BATCH] for i in range(0, len(values), BATCH)]


def _inputs(args: argparse.Namespace, classes: int, shape: Tuple[int, ...]
            ) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    Draw inputs for the network, and their classes.

    :param classes: of the family
    :param shape: that the family takes
    """
    import numpy as np
    import torch

    from crowdhmt_ros.datasets.opening import open_dataset
    size = (shape[1], shape[2]) if len(shape) == 3 and shape[0] == 3 else None
    data = open_dataset(args.data, args.layout, split=args.split, size=size)
    print(data.describe())
    wanted = args.calibration + args.held
    if len(data) < wanted:
        raise DataError('%s has %d inputs in split %s, %d are asked for; give a smaller '
                        '--calibration or --held' % (args.data, len(data), args.split, wanted))
    if len(data.classes) != classes:
        raise DataError('%s has %d classes, the family has %d; give the data that the family '
                        'was trained on' % (args.data, len(data.classes), classes))
    rows = np.random.default_rng(args.seed).permutation(len(data))[:wanted]
    values, labels = data.take([int(r) for r in rows])
    inputs = torch.from_numpy(np.ascontiguousarray(values)).float()
    if data.kind.value == 'image':
        inputs = _normalised(inputs, args)
    elif data.kind.value == 'window':
        inputs = inputs.transpose(1, 2).contiguous()  # channels before samples
    if tuple(inputs.shape[1:]) != shape:
        raise DataError('%s gives inputs of %s, the family takes %s' % (
            args.data, *('x'.join(map(str, s)) for s in (inputs.shape[1:], shape))))
    return inputs, torch.from_numpy(np.asarray(labels))


def _normalised(pixels: torch.Tensor, args: argparse.Namespace) -> torch.Tensor:
    """Turn pixels (n, h, w, 3) into inputs (n, 3, h, w)."""
    import torch
    if len(args.mean) not in (1, 3) or len(args.std) not in (1, 3) or min(args.std) <= 0:
        raise DataError('--mean and --std take one or three numbers, --std above 0')
    return ((pixels / 255.0 - torch.tensor(args.mean)) / torch.tensor(args.std)).permute(
        0, 3, 1, 2).contiguous()


def _write(path: Path, value: Dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + '.part')
    beside.write_text(json.dumps(value, indent=1) + '\n', encoding='utf-8')
    os.replace(beside, path)


class _shown:  # noqa: N801 - used as a context manager function
    """Progress: a bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, title: str) -> None:
        from rich.progress import Progress
        self._title, self._tenth = title, 0
        self._bar = Progress(transient=True)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        if self._bar.console.is_terminal:
            self._bar.start()
        return self._show

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _show(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
        if not self._bar.console.is_terminal and 10 * done // max(1, total) > self._tenth:
            self._tenth = 10 * done // max(1, total)
            print('%s: %d of %d' % (self._title, done, total), flush=True)
