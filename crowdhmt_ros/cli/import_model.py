# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`crowdhmt import`: a bundle from any user's ONNX model, without variants (P III-B1, III-B2)."""
from __future__ import annotations

import argparse
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from crowdhmt_ros.cli.inputs import class_names
from crowdhmt_ros.errors import DataError

if TYPE_CHECKING:
    from crowdhmt_ros.bundle.adopt import Adopted
    from crowdhmt_ros.cli.build_precision import Measured
from crowdhmt_ros.types.models import RESIZES

IMAGENET = ('0.485,0.456,0.406', '0.229,0.224,0.225')
TASKS = ('image_classification', 'other')


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Describe the command's arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        'import', help='write a bundle from an ONNX model (needs the extra train)',
        description='Writes a bundle of one variant: the model, simplified, and its halves at '
        'places where robots may share it.')
    parser.add_argument('model', type=Path, metavar='MODEL.onnx')
    parser.add_argument('--out', type=Path, required=True, help='folder of the new bundle')
    parser.add_argument('--name', default='', help='of the bundle (default: of the file)')
    parser.add_argument('--task', choices=TASKS, default=TASKS[0])
    parser.add_argument('--classes', type=Path, metavar='FILE',
                        help='names of the classes, one a line, in the order of the scores')
    parser.add_argument('--scale', default='1/255',
                        help='x = (rgb * scale - mean) / std (default: 1/255)')
    parser.add_argument('--mean', default=IMAGENET[0], metavar='R,G,B',
                        help='default: that of ImageNet, %s' % IMAGENET[0])
    parser.add_argument('--std', default=IMAGENET[1], metavar='R,G,B',
                        help='default: that of ImageNet, %s' % IMAGENET[1])
    parser.add_argument('--resize', choices=RESIZES, default=RESIZES[0],
                        help='how frames are brought to its size (default: area, which averages)')
    parser.add_argument('--input-shape', action='append', default=[], metavar='NAME:1,3,224,224',
                        help='extents of an input that the model leaves open; once an input')
    parser.add_argument('--accuracy', default=None, metavar='RATIO:IMAGES',
                        help='right answers on photos and how many were tried, for example '
                        '0.76:50000; without it robots know no accuracy and keep no floor of it')
    parser.add_argument('--cuts', type=int, default=4, help='places to cut, at most (default: 4)')
    parser.add_argument('--pieces', action='store_true',
                        help='write what lies between neighbouring cuts too')
    parser.add_argument('--half', nargs='?', const='0.01', default=None, metavar='TOLERANCE',
                        help='store weights as float16 when no output moves by more than this '
                        'share of its largest value (default: 0.01), else as they are')
    parser.add_argument('--int8', type=Path, default=None, metavar='DATA', help='write the model '
                        'in whole numbers of eight bits, too, calibrated on these inputs: a '
                        'folder of images (also below it), or a .npy file of inputs as the model '
                        'takes them, one behind the other')
    parser.add_argument('--int8-error', default='0.01', metavar='RATIO',
                        help='by which outputs may deviate in int8, as a share of the largest '
                        '(default: 0.01)')
    parser.add_argument('--int8-agreement', default='0.99', metavar='RATIO',
                        help='of the answers that must stay in int8 (default: 0.99)')
    parser.add_argument('--drop-softmax', action='store_true',
                        help='leave out a Softmax that ends the model: robots apply their own')
    return parser


def run(args: argparse.Namespace) -> int:
    """
    Read, transform, cut and write the model.

    :returns: 0
    :raises DataError: the file cannot be read
    :raises ExportError: robots cannot run the model
    """
    try:
        from crowdhmt_ros.bundle.adopt import Wishes, adopt
        from crowdhmt_ros.bundle.writer import check_free, write_bundle
        from crowdhmt_ros.graph.foreign import read_foreign
    except ImportError as error:
        raise DataError('importing needs %s; install the extra train' % error.name) from error
    check_free(args.out)
    wishes = Wishes(
        args.name or args.model.stem, args.task,
        class_names(args.classes) if args.classes else (), _number(args.scale, '--scale'),
        _colours(args.mean, '--mean'), _colours(args.std, '--std'), _accuracy(args.accuracy),
        _count(args.cuts), args.pieces,
        None if args.half is None else _number(args.half, '--half'), args.drop_softmax,
        args.resize)
    limits = tuple(_number(getattr(args, name), '--' + name.replace('_', '-'))
                   for name in ('int8_error', 'int8_agreement'))
    model = read_foreign(args.model, _shapes(args.input_shape))
    adopted = adopt(model, wishes, _origin(args.model))
    lower = _lower(args.int8, adopted, limits) if args.int8 is not None else None
    description = adopted.description if lower is None else replace(
        adopted.description, precisions=lower.figures)
    write_bundle(adopted.family, description, args.out, tolerance=TOLERANCE, fused=True,
                 lowered=lower.lowered if lower else None)
    _tell(args, adopted, lower)
    return 0


def _lower(path: Path, adopted: Adopted, limits: Tuple[float, ...]) -> Measured:
    """Calibrate on every second input, compare on the others."""
    from crowdhmt_ros.cli.build_precision import precisions, read_inputs
    from crowdhmt_ros.graph.lower import Limits
    inputs = read_inputs(path, adopted.description.input,
                         is_image=adopted.description.task == TASKS[0])
    return precisions(adopted.family, inputs[::2], inputs[1::2], Limits(*limits),
                      lambda done, total: None)


TOLERANCE = 1e-5
"""By which head and tail may differ from the whole."""


def _origin(path: Path) -> Dict[str, Any]:
    """Say where the bundle comes from, without this machine's paths."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError('%s cannot be read (%s)' % (path, error.strerror or error)) from error
    return {'command': 'crowdhmt import %s --out DIR' % path.name, 'source': path.name,
            'source_sha256': digest}


def _number(text: str, option: str) -> float:
    above, _, below = text.partition('/')
    try:
        value = float(above) / float(below) if below else float(above)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 0.0 < value < 1e9:
        raise DataError('%s %s is no number above 0, such as 1/255' % (option, text))
    return value


def _colours(text: str, option: str) -> Tuple[float, ...]:
    words = text.split(',')
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(map(math.isfinite, values)) or (
            option == '--std' and min(values) <= 0.0):
        raise DataError('%s %s is not three numbers%s: say for example %s %s' % (
            option, text, ' above 0' if option == '--std' else '', option,
            IMAGENET[option == '--std']))
    return values


def _accuracy(text: Optional[str]) -> Optional[Tuple[float, int]]:
    if text is None:
        return None
    ratio, _, count = text.partition(':')
    try:
        found = float(ratio), int(count)
    except ValueError:
        found = math.nan, 0
    if not 0.0 <= found[0] <= 1.0 or found[1] < 1:
        raise DataError('--accuracy %s is no ratio 0..1 with a count of images behind a colon, '
                        'such as 0.76:50000' % text)
    return found


def _count(value: int) -> int:
    if not 0 <= value <= 64:
        raise DataError('--cuts %d: say 0 to 64' % value)
    return value


def _shapes(texts: Tuple[str, ...]) -> Dict[str, Tuple[int, ...]]:
    found: Dict[str, Tuple[int, ...]] = {}
    for text in texts:
        name, _, extents = text.rpartition(':')
        try:
            shape = tuple(int(word) for word in extents.split(','))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1 or name in found:
            raise DataError('--input-shape %s: say NAME:1,3,224,224, once for each input' % text)
        found[name] = shape
    return found


def _tell(args: argparse.Namespace, adopted: Adopted, lower: Optional[Measured]) -> None:
    """Print what was written."""
    from crowdhmt_ros.bundle.reader import open_bundle
    bundle = open_bundle(args.out)
    (variant_id,) = bundle.manifest.front
    size_bytes = sum(f.size_bytes for f in bundle.manifest.files)
    print('%s: %d operators (%d before), %.1f M multiply-accumulates, %.1f M weights, %.1f MB'
          % (args.out, adopted.nodes[1], adopted.nodes[0], bundle.macs(variant_id) / 1e6,
             bundle.variant(variant_id).parameters / 1e6, size_bytes / 1e6))
    if args.task == TASKS[0]:
        spec = bundle.input
        print('input %d x %d pixels, resized by %s, x = (rgb * %.6g - mean) / std, mean %s, '
              'std %s' % (spec.shape[3], spec.shape[2], spec.resize, spec.scale,
                          _listed(spec.mean), _listed(spec.std)))
    for cut in bundle.manifest.cuts.values():
        head = bundle.segment(bundle.segment_for(variant_id, 'head', cut_id=cut.cut_id))
        work = sum(c.macs for c in head.layers) / max(bundle.macs(variant_id), 1)
        print('cut %s: %d %% of the work before it, %s cross' % (
            cut.cut_id, round(100 * work), ' + '.join(
                '%s %s' % (t.dtype, 'x'.join(map(str, t.shape))) for t in cut.tensors)))
    if lower is not None:
        from crowdhmt_ros.cli.build_precision import told
        print('\n'.join(told(bundle)))
    for note in (*adopted.notes, *(lower.notes if lower else ())):
        print('note: %s' % note)
    if args.task == TASKS[0] and args.accuracy is None:
        print('note: the accuracy is not known, so no accuracy floor will hold; say --accuracy')


def _listed(values: Tuple[float, ...]) -> str:
    return ' '.join('%g' % value for value in values)
