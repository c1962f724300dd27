# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The backbone: a residual network in stages, described by numbers only.

The description is turned into layers by `blocks_of`: supernet, extracted networks and export
all walk the same list, so they cannot disagree.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Tuple

from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

CHANNEL_MULTIPLE = 8


@dataclass(frozen=True)
class StageShape:
    """
    One stage: blocks of equal width, the first of which may halve the resolution.

    :param width: channels of the stage
    :param blocks: residual blocks, at least 1
    :param stride: of the first block
    """

    width: int
    blocks: int
    stride: int


@dataclass(frozen=True)
class Backbone:
    """
    A residual network with early exits.

    :param stages: full shapes
    :param exits: per exit the number of stages before it, ascending; the last has all stages
    :param classes: number of classes
    :param stem_stride: stride of the first convolution
    """

    stages: Tuple[StageShape, ...]
    exits: Tuple[int, ...]
    classes: int
    stem_stride: int = 2


@dataclass(frozen=True)
class ConvShape:
    """
    One convolution followed by a normalisation.

    :param name: name of the shared weight, without '.weight'
    :param context: everything upstream that shapes the statistics of its output; two
        sub-networks with equal context share the statistics
    :param inputs: input channels
    :param outputs: output channels
    :param kernel: 1 or 3; padded to keep the size
    :param stride: 1 or 2
    """

    name: str
    context: str
    inputs: int
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class BlockShape:
    """
    One residual block: two 3x3 convolutions beside the identity or a projection.

    :param stage: index of the stage
    :param first: the convolution that may change size
    :param second: the convolution before the sum
    :param projection: 1x1 convolution of the shortcut, absent where the shapes agree
    """

    stage: int
    first: ConvShape
    second: ConvShape
    projection: Tuple[ConvShape, ...]


def stem_of(backbone: Backbone, stages: Tuple[StageShape, ...]) -> ConvShape:
    """Return the first convolution; it is as wide as the first stage."""
    width = stages[0].width
    return ConvShape('stem', 'w%d' % width, 3, width, 3, backbone.stem_stride)


def blocks_of(stages: Tuple[StageShape, ...]) -> List[BlockShape]:
    """
    List the residual blocks of a network with these stages.

    :param stages: shapes after operators; fewer than the backbone's for an early exit
    """
    blocks: List[BlockShape] = []
    inputs, upstream = stages[0].width, ''
    for s, stage in enumerate(stages):
        context = upstream + 'w%d' % stage.width
        for b in range(stage.blocks):
            stride = stage.stride if b == 0 else 1
            name = 'stages.%d.%d.' % (s, b)
            first = ConvShape(name + 'first', context, inputs, stage.width, 3, stride)
            second = ConvShape(name + 'second', context, stage.width, stage.width, 3, 1)
            changes = b == 0 and s > 0
            shortcut = ConvShape(name + 'projection', context, inputs, stage.width, 1, stride)
            blocks.append(BlockShape(s, first, second, (shortcut,) if changes else ()))
            inputs = stage.width
        upstream = '%sd%d-' % (context, stage.blocks)
    return blocks


def residual_backbone(
        classes: int, widths: Tuple[int, ...] = (32, 64, 128, 192), blocks: int = 2) -> Backbone:
    """
    Describe the early-exit residual network of the campus bundle.

    :param classes: number of classes
    :param widths: channels per stage, at least two stages
    :param blocks: residual blocks per stage
    """
    stages = tuple(StageShape(w, blocks, 1 if i == 0 else 2) for i, w in enumerate(widths))
    return Backbone(stages, (len(stages) - 1, len(stages)), classes)


def apply_operators(stage: StageShape, choices: Tuple[OperatorChoice, ...]) -> StageShape:
    """
    Apply the operators of one stage in order.

    :param stage: the full stage
    :param choices: as in `Variant.stages`
    :raises ExportError: unknown operator or unfit parameters
    """
    for choice in choices:
        parameters = dict(choice.parameters)
        if choice.operator == 'channel':
            ratio = float(parameters.get('ratio', 1.0))
            if not 0.0 < ratio <= 1.0:
                raise ExportError('channel ratio is %g; give a ratio above 0 and up to 1' % ratio)
            steps = max(1, round(stage.width * ratio / CHANNEL_MULTIPLE))
            stage = replace(stage, width=min(stage.width, steps * CHANNEL_MULTIPLE))
        elif choice.operator == 'depth':
            blocks = int(parameters.get('blocks', stage.blocks))
            if not 1 <= blocks <= stage.blocks:
                raise ExportError('depth keeps %d blocks; this stage has 1 to %d'
                                  % (blocks, stage.blocks))
            stage = replace(stage, blocks=blocks)
        else:
            raise ExportError('operator %r is not known; choose one of channel, depth'
                              % choice.operator)
    return stage
