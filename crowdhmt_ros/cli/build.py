# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt build`: a trained family and the front of a search -> a bundle (P III-B2)."""
from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

from crowdhmt_ros.cli import front_file, inputs
from crowdhmt_ros.cli.front_file import Member
from crowdhmt_ros.cli.progress import Bar
from crowdhmt_ros.errors import DataError, ExportError
from crowdhmt_ros.types import InputSpec, Variant

if TYPE_CHECKING:
    from crowdhmt_ros.bundle.writer import Description
    from crowdhmt_ros.cli.build_bundle import Exported
    from crowdhmt_ros.cli.build_precision import Measured
    from crowdhmt_ros.elastic.norms import Statistics
    from crowdhmt_ros.elastic.scaling import InputScaling
    from crowdhmt_ros.elastic.supernet import Supernet
    from crowdhmt_ros.tasks.cascade import Cascade

MAX_CUTS = 64
CONDITION = 'photos'
"""Under which accuracies stand where no light band tells inputs apart."""


@dataclass(frozen=True, eq=False)
class Built:
    """
    What was written, and of what.

    :param net: with the weights of the bundle
    :param statistics: of the bundle's variants
    :param members: variant_id -> member of the front, richest first
    :param exported: graphs with their cuts
    :param digest: sha256 of the manifest
    :param lower: what lower precisions cost, None where it was not asked for
    """

    net: Supernet
    statistics: Statistics
    members: Mapping[str, Member]
    exported: Exported
    digest: str
    lower: Optional[Measured] = None


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'build', help='write a bundle from a trained family and a front (needs the extra train)',
        description='Writes a bundle of the variants that crowdhmt search chose: graphs over '
        'shared weights, whole and cut where robots may share them.')
    parser.add_argument('family', type=Path, help='file with the trained family')
    parser.add_argument('front', type=Path, metavar='FRONT.json',
                        help='that crowdhmt search wrote')
    inputs.add_options(parser)
    parser.add_argument('--out', type=Path, required=True, help='folder of the new bundle')
    parser.add_argument('--name', default='', help='of the bundle (default: of the family file)')
    parser.add_argument('--classes', type=Path, metavar='FILE', help='names of the classes, one '
                        'a line, in the order of the scores (default: those of the data)')
    parser.add_argument('--cuts', type=int, default=3, metavar='N',
                        help='places to cut a variant, at most (default: 3)')
    parser.add_argument('--full', action='store_true',
                        help='store weights as float32 (default: float16)')
    parser.add_argument('--measure', action='store_true', help='measure accuracies on the rest '
                        'of the data (default: as the front tells them)')
    parser.add_argument('--early', action='store_true', help='add to each variant with earlier '
                        'exits one that stops at the first of them that is sure, where that pays; '
                        'half of the rest of the data chooses when, the other half measures: give '
                        'data that was not trained on (implies --measure)')
    parser.add_argument('--int8', action='store_true', help='write each variant in whole numbers '
                        'of eight bits, too, where its answers bear that: ranges from the '
                        'calibration inputs; half of the rest of the data chooses what stays in '
                        'fp32, the other half measures, also bf16 and fp16 of the engines that '
                        'are here (implies --measure)')
    parser.add_argument('--int8-error', type=float, default=0.01, metavar='RATIO',
                        help='by which outputs may deviate, as a share of the largest '
                        '(default: 0.01)')
    parser.add_argument('--int8-agreement', type=float, default=0.99, metavar='RATIO',
                        help='of the answers that must stay (default: 0.99)')
    parser.add_argument('--seed', type=int, default=7, help='of what is drawn from the data')
    parser.add_argument('--threads', type=int, default=2)
    return parser


def run(args: argparse.Namespace) -> int:
    """
    Calibrate, export, cut, check and write the front.

    :returns: 0
    :raises DataError: family, front, data or options cannot be used
    :raises ExportError: robots could not run the bundle, or its place is taken
    """
    _tell(args, build(args))
    return 0


def _early(args: argparse.Namespace, net: Supernet, variants: Mapping[str, Variant],
           statistics: Statistics, drawn: inputs.Inputs) -> Mapping[str, Cascade]:
    """Let variants answer early where that pays; decided on every second input left."""
    from crowdhmt_ros.cli.build_early import early_variants
    rest = slice(args.calibration, None, 2)
    with Bar('choosing thresholds') as progress:
        return early_variants(net, variants, statistics, drawn.values[rest], drawn.labels[rest],
                              half=not args.full, progress=progress)


def build(args: argparse.Namespace) -> Built:
    """
    Write the bundle.

    :raises DataError: family, front, data or options cannot be used
    :raises ExportError: robots could not run the bundle, or its place is taken
    """
    inputs.check_least(args, ('calibration', 2), ('cuts', 0), ('threads', 1), ('seed', 0))
    if args.cuts > MAX_CUTS:
        raise DataError('--cuts is %d; give at most %d' % (args.cuts, MAX_CUTS))
    args.measure |= args.early or args.int8
    _check_shares(args)
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # before torch is imported
    try:
        import torch

        from crowdhmt_ros.bundle.writer import check_free, write_bundle
        from crowdhmt_ros.cli import build_bundle
        from crowdhmt_ros.elastic.store import load_family
        from crowdhmt_ros.elastic.transformation import round_weights
    except ImportError as error:
        raise DataError('building needs %s; install the extra train' % error.name) from error
    check_free(args.out)
    torch.set_num_threads(args.threads)
    origin = _origin(args)
    front = front_file.read_front(args.front)
    net, _, header = load_family(args.family)
    assert header.backbone is not None  # others do not load by themselves
    members = named(net, front, args.front)
    example = header.backbone.example()[:1]
    drawn = _drawn(args, net.structure.classes, tuple(example.shape[1:]), header.scaling)
    classes = _classes(args, drawn.classes)
    net.eval()
    if not args.full:
        round_weights(net)
    variants = {name: member.variant for name, member in members.items()}
    with Bar('calibrating') as progress:
        statistics = build_bundle.calibrated(
            net, variants, inputs.batches(drawn.values[:args.calibration]), progress)
    early = _early(args, net, variants, statistics, drawn) if args.early else {}
    with Bar('exporting') as progress:
        exported = build_bundle.exported(
            net, {**variants, **{name: c.graph.variant for name, c in early.items()}},
            statistics, example, half=not args.full, cuts=args.cuts,
            carrying=drawn.kind != inputs.IMAGE, progress=progress,
            early={name: tuple(c.graph.exits) for name, c in early.items()})
    accuracy = _accuracy(args, exported, members, drawn, early)
    lower = _lower(args, exported, drawn) if args.int8 else None
    origin['data'] = {'described': drawn.described, 'calibration': args.calibration,
                      'seed': args.seed}
    description = replace(_description(args, drawn, classes, tuple(example.shape)),
                          accuracy=accuracy, provenance=origin,
                          early_exits={name: c.early_exits for name, c in early.items()},
                          precisions=lower.figures if lower else {})
    digest = write_bundle(exported.family, description, args.out,
                          tolerance=build_bundle.TOLERANCE, fused=True,
                          lowered=lower.lowered if lower else None)
    return Built(net, statistics, members, exported, digest, lower)


def _check_shares(args: argparse.Namespace) -> None:
    for name in ('int8_error', 'int8_agreement'):
        value = getattr(args, name)
        if not 0.0 <= value <= 1.0:
            raise DataError('--%s is %g; give a share between 0 and 1'
                            % (name.replace('_', '-'), value))


def _lower(args: argparse.Namespace, exported: Exported, drawn: inputs.Inputs) -> Measured:
    """Choose and measure lower precisions: chosen on every second input left."""
    from crowdhmt_ros.cli.build_precision import given_inputs, precisions, with_accuracies
    from crowdhmt_ros.elastic.export import INPUT_NAME
    from crowdhmt_ros.graph.lower import Limits
    fixed = replace(exported.family, graphs=tuple(
        g for g in exported.family.graphs if not g.exits))
    values = drawn.values.numpy()
    chosen, other = (slice(args.calibration + i, None, 2) for i in range(2))
    with Bar('int8') as progress:
        found = precisions(
            fixed, given_inputs(values[:args.calibration], INPUT_NAME),
            given_inputs(values[chosen], INPUT_NAME),
            Limits(args.int8_error, args.int8_agreement), progress)
    with Bar('accuracies') as progress:
        return with_accuracies(found, fixed, CONDITION, given_inputs(values[other], INPUT_NAME),
                               drawn.labels[other].numpy(), progress)


def named(net: Supernet, front: Tuple[Member, ...], path: Path) -> Dict[str, Member]:
    """
    Name the variants of a front, richest first.

    :param path: of the front, for messages
    :raises DataError: a variant does not fit the family
    """
    from crowdhmt_ros.cli.variant_names import variant_names
    macs = []
    for number, member in enumerate(front):
        try:
            macs.append(net.plan(member.variant).macs)
        except (ExportError, TypeError, ValueError) as error:
            raise DataError('%s: front[%d] does not fit the family: %s'
                            % (path, number, error)) from error
        if member.macs not in (None, macs[-1]):
            raise DataError('%s: front[%d] has %d multiply-accumulates, in this family %d; give '
                            'the family that was searched' % (path, number, member.macs, macs[-1]))
    order = sorted(range(len(front)), key=lambda i: -macs[i])
    names = variant_names([front[i].variant for i in order], len(net.structure.exits))
    return {name: front[i] for name, i in zip(names, order)}


def _origin(args: argparse.Namespace) -> Dict[str, Any]:
    """Say how to make the bundle again, without this machine's paths."""
    options = ['--data', args.data.name, '--layout', args.layout, '--split', args.split,
               *_scaling_options(args), '--calibration', str(args.calibration), '--cuts',
               str(args.cuts), '--seed', str(args.seed), *(['--full'] if args.full else []),
               *(['--early'] if args.early else []), *_int8_options(args),
               *(['--measure'] if args.measure and not (args.early or args.int8) else [])]
    return {'command': 'crowdhmt build %s %s %s --out DIR' % (
                args.family.name, args.front.name, ' '.join(options)),
            'family_sha256': _sha256(args.family, 'family'),
            'front_sha256': _sha256(args.front, 'front'),
            'weights': 'float32' if args.full else 'float16'}


def _scaling_options(args: argparse.Namespace) -> Tuple[str, ...]:
    return tuple(word for name in ('mean', 'std') if getattr(args, name) is not None
                 for word in ('--' + name, *('%g' % v for v in getattr(args, name))))


def _int8_options(args: argparse.Namespace) -> Tuple[str, ...]:
    return () if not args.int8 else (
        '--int8', '--int8-error', '%g' % args.int8_error, '--int8-agreement',
        '%g' % args.int8_agreement)


def _sha256(path: Path, what: str) -> str:
    digest = hashlib.sha256()
    try:
        with path.open('rb') as file:
            for block in iter(lambda: file.read(1 << 20), b''):
                digest.update(block)
    except OSError as error:
        raise DataError('%s %s cannot be read (%s)' % (what, path, error.strerror)) from error
    return digest.hexdigest()


def _drawn(args: argparse.Namespace, classes: Optional[int], shape: Tuple[int, ...],
           known: Optional[InputScaling]) -> inputs.Inputs:
    return inputs.draw_inputs(
        args, classes or 0, shape,
        wanted=args.calibration + int(args.measure) + int(args.early or args.int8),
        mend='give a smaller --calibration', every=args.measure, known=known)


def _classes(args: argparse.Namespace, known: Tuple[str, ...]) -> Tuple[str, ...]:
    if args.classes is None:
        return known
    classes = inputs.class_names(args.classes)
    if len(classes) != len(known):
        raise DataError('%s names %d classes, the family has %d: name each on a line of its own'
                        % (args.classes, len(classes), len(known)))
    return classes


def _accuracy(args: argparse.Namespace, exported: Exported, members: Mapping[str, Member],
              drawn: inputs.Inputs, early: Mapping[str, Cascade]
              ) -> Dict[str, Dict[str, Tuple[float, int]]]:
    """Return variant_id -> condition -> (accuracy, count), as told or as measured."""
    if not args.measure:
        return {name: {CONDITION: member.accuracy} for name, member in members.items()
                if member.accuracy is not None}
    from crowdhmt_ros.cli.build_bundle import accuracies
    rest = (slice(args.calibration + 1, None, 2) if args.early or args.int8
            else slice(args.calibration, None))
    values, labels = drawn.values[rest], drawn.labels[rest]
    with Bar('measuring') as progress:
        fixed = tuple(g for g in exported.family.graphs if not g.exits)
        found = accuracies(replace(exported.family, graphs=fixed), values, labels, progress)
    if early:
        from crowdhmt_ros.cli.build_early import accuracy_of
        found.update((name, accuracy_of(cascade, values, labels))
                     for name, cascade in early.items())
    return {name: {CONDITION: (value, len(labels))} for name, value in found.items()}


def _description(args: argparse.Namespace, drawn: inputs.Inputs, classes: Tuple[str, ...],
                 shape: Tuple[int, ...]) -> Description:
    from crowdhmt_ros.bundle.adopt import OTHER, slug
    from crowdhmt_ros.bundle.entries import IMAGE_CLASSIFICATION
    from crowdhmt_ros.bundle.writer import Description
    from crowdhmt_ros.elastic.export import INPUT_NAME
    name = slug(args.name or args.family.stem)
    scaling = drawn.scaling
    constants = (1.0, (), ()) if scaling is None else (scaling.scale, scaling.mean, scaling.std)
    if drawn.kind != inputs.IMAGE:
        spec = InputSpec(INPUT_NAME, 'float32', shape, 'none', 'none', *constants)
        return Description(name, OTHER, classes, spec, {})
    spec = InputSpec(INPUT_NAME, 'float32', shape, 'rgb', 'area', *constants)
    return Description(name, IMAGE_CLASSIFICATION, classes, spec, {'any': (0.0, 1.0)})


def _tell(args: argparse.Namespace, built: Built) -> None:
    """Print what was written."""
    from rich.console import Console
    from rich.table import Table

    from crowdhmt_ros.bundle.reader import open_bundle
    bundle = open_bundle(args.out)
    table = Table('variant', 'MMAC', 'weights', 'accuracy', 'cuts')
    for name in bundle.manifest.front:
        known = bundle.accuracy(name)
        table.add_row(name, '%.1f' % (bundle.macs(name) / 1e6),
                      '%.2f M' % (bundle.variant(name).parameters / 1e6),
                      '%.3f' % known[CONDITION] if CONDITION in known else 'unknown',
                      str(sum(c.startswith(name + '-cut') for c in bundle.manifest.cuts)))
    Console().print(table)
    own = sum(bundle.variant(name).parameters for name in bundle.manifest.front)
    stored = sum(t.size_bytes for t in bundle.manifest.tensors.values())
    print('weights %.1f MB in one store, of their own the variants would have %.1f M numbers; '
          '%d operators (%d before)' % (stored / 1e6, own / 1e6, built.exported.nodes[1],
                                        built.exported.nodes[0]))
    for name in bundle.manifest.front:
        if bundle.early_exits(name):
            print('%s stops early: %s' % (name, ', '.join(
                '%.0f %% of its answers at exit %d, from a confidence of %.3f' % (
                    100.0 * e.ratio, e.exit_index, e.threshold)
                for e in bundle.early_exits(name))))
    if built.lower is not None:
        from crowdhmt_ros.cli.build_precision import told
        print('\n'.join(told(bundle)))
    for note in (*built.exported.notes, *(built.lower.notes if built.lower else ())):
        print('note: %s' % note)
    if not all(bundle.accuracy(name) for name in bundle.manifest.front):
        print('note: not every accuracy is known, so no accuracy floor will hold; say --measure')
    print('bundle %s in %s' % (built.digest[:16], args.out))
