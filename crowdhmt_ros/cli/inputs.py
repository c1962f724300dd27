# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs for a family from a data set, as `crowdhmt search` and `crowdhmt build` take them."""
from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple

from crowdhmt_ros.errors import DataError

if TYPE_CHECKING:
    import torch

    from crowdhmt_ros.elastic.scaling import InputScaling

BATCH = 128
MEANS, DEVIATIONS = (0.47, 0.46, 0.43), (0.26, 0.25, 0.27)
"""Per colour, of pixels between 0 and 1; of the photos that the reference networks learn from."""
IMAGE = 'image'
MAX_CLASSES_BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class Inputs:
    """
    Drawn inputs.

    :param values: float32 (n, ...), as the network takes them
    :param labels: int64 (n,), their classes
    :param kind: 'image', 'window' or 'spectrogram'
    :param classes: in the order of the labels
    :param described: the data set, in a line
    :param scaling: from the data to `values`; None for as it is
    """

    values: torch.Tensor
    labels: torch.Tensor
    kind: str
    classes: Tuple[str, ...]
    described: str
    scaling: Optional[InputScaling] = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which inputs."""
    parser.add_argument('--data', type=Path, required=True,
                        help='images, windows or sounds with their classes')
    parser.add_argument('--layout', default='auto', help='of the data (default: found out)')
    parser.add_argument('--split', default='train', help='of the data that is measured on; the '
                        'test split is better kept for the result (default: train)')
    parser.add_argument('--mean', type=float, nargs='+', default=None, metavar='M',
                        help='per channel, of pixels between 0 and 1 (default: what the family '
                        'learnt with)')
    parser.add_argument('--std', type=float, nargs='+', default=None, metavar='S',
                        help='per channel')
    parser.add_argument('--calibration', type=int, default=256, metavar='N',
                        help='inputs from which each variant gets its statistics')


def check_least(args: argparse.Namespace, *least: Tuple[str, int]) -> None:
    """
    Check options that count.

    :param least: (name of the option, smallest value)
    :raises DataError: one is smaller
    """
    for name, number in least:
        if getattr(args, name) < number:
            raise DataError('--%s is %d; give at least %d' % (name, getattr(args, name), number))


def batches(values: torch.Tensor) -> List[torch.Tensor]:
    """Part inputs into batches of at most `BATCH`."""
    return [values[i:i + BATCH] for i in range(0, len(values), BATCH)]


def draw_inputs(args: argparse.Namespace, classes: int, shape: Tuple[int, ...], *, wanted: int,
                mend: str, every: bool = False,
                known: Optional[InputScaling] = None) -> Inputs:
    """
    Draw inputs for the network, and their classes.

    :param args: with the options of `add_options`, and `seed`
    :param classes: of the family
    :param shape: that the family takes
    :param wanted: how many, at least
    :param mend: what to do when there are fewer
    :param every: take all that there are
    :param known: how the family's inputs were scaled while it learnt, None for unknown
    :raises DataError: there are too few, or they do not fit the family
    """
    import numpy as np
    import torch

    from crowdhmt_ros.datasets.opening import open_dataset
    size = (shape[1], shape[2]) if len(shape) == 3 and shape[0] == 3 else None
    data = open_dataset(args.data, args.layout, split=args.split, size=size)
    print(data.describe())
    if len(data) < wanted:
        raise DataError('%s has %d inputs in split %s, %d are asked for; %s' % (
            args.data, len(data), args.split, wanted, mend))
    if len(data.classes) != classes:
        raise DataError('%s has %d classes, the family has %d; give the data that the family '
                        'was trained on' % (args.data, len(data.classes), classes))
    rows = np.random.default_rng(args.seed).permutation(len(data))
    values, labels = data.take([int(r) for r in (rows if every else rows[:wanted])])
    inputs = torch.from_numpy(np.ascontiguousarray(values)).float()
    if data.kind.value == IMAGE:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    elif data.kind.value == 'window':
        inputs = inputs.transpose(1, 2).contiguous()  # channels before samples
    if tuple(inputs.shape[1:]) != shape:
        raise DataError('%s gives inputs of %s, the family takes %s' % (
            args.data, *('x'.join(map(str, s)) for s in (inputs.shape[1:], shape))))
    scaling = scaling_of(args, data.kind.value, int(inputs.shape[1]), known)
    return Inputs(inputs if scaling is None else scaling.apply(inputs),
                  torch.from_numpy(np.asarray(labels)), data.kind.value, tuple(data.classes),
                  data.describe(), scaling)


def scaling_of(args: argparse.Namespace, kind: str, channels: int,
               known: Optional[InputScaling]) -> Optional[InputScaling]:
    """
    Return how inputs are scaled: as asked for, else as the family learnt, else as is usual.

    :param kind: of the inputs; images are scaled in any case
    :param known: what the family's file says
    :returns: None for inputs that stay as they are
    :raises DataError: means and deviations are not one number or one a channel, or a deviation
        is not above 0
    """
    from crowdhmt_ros.elastic.scaling import InputScaling
    if known is None and kind != IMAGE and args.mean is None and args.std is None:
        return None
    base = known or (InputScaling(MEANS, DEVIATIONS, 1 / 255) if kind == IMAGE
                     else InputScaling((0.0,) * channels, (1.0,) * channels))
    mean, std = (tuple(map(float, own if given is None else given))
                 for given, own in ((args.mean, base.mean), (args.std, base.std)))
    mean, std = (v * channels if len(v) == 1 else v for v in (mean, std))
    if len(mean) != channels or len(std) != channels or not all(
            map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise DataError('--mean and --std take one number or one for each of the %d channels, '
                        '--std above 0' % channels)
    return InputScaling(mean, std, base.scale)


def class_names(path: Path) -> Tuple[str, ...]:
    """
    Read the names of classes, one a line.

    :raises DataError: the file cannot be read, is no list, or names one twice or none
    """
    try:
        if path.stat().st_size > MAX_CLASSES_BYTES:
            raise DataError('%s is no list of classes: it has %d bytes'
                            % (path, path.stat().st_size))
        lines = [line.strip() for line in path.read_text('utf-8').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError('%s cannot be read (%s): name a text file with a class on each line'
                        % (path, ' '.join(str(error).split()))) from error
    names = tuple(line for line in lines if line)
    twice = sorted({name for name in names if names.count(name) > 1}
                   if len(set(names)) != len(names) else ())
    if twice or not names:
        raise DataError('%s %s' % (path, 'names %s more than once' % ', '.join(twice[:5])
                                   if twice else 'names no class'))
    return names
