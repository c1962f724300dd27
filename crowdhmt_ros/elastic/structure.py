# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the machinery knows of a traced network: layers, ties of channels, blocks, stages."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple


@dataclass(frozen=True)
class Group:
    """
    Channels that scale together: of layers whose results are added, say.

    :param index: number of the group
    :param size: channels
    :param granularity: a width is a multiple of it (the size of an attention head)
    :param fixed: why the width cannot change, '' where it can
    :param stage: stage that its width follows
    :param peers: smallest index among the groups that must be equally wide, so that a block
        between them can be left out
    """

    index: int
    size: int
    granularity: int = 1
    fixed: str = ''
    stage: int = 0
    peers: int = -1


@dataclass(frozen=True)
class Unit:
    """
    A convolution or linear layer with the normalisation behind it, or one alone.

    :param name: path in the backbone; its tensors are '<name>.weight' and '<name>.bias'
    :param node: in the graph
    :param kind: 'conv', 'linear' or 'norm'
    :param inputs: channels that come in
    :param outputs: channels that go out
    :param extent: of the result beside channels: height and width, or tokens; () for a vector
    :param kernel: per spatial axis, () for the others
    :param stride: likewise
    :param padding: likewise
    :param dilation: likewise
    :param groups: of a convolution; equal to `inputs` for a depthwise one
    :param bias: whether it has one
    :param norm: path of the normalisation, '' for none; its tensors are '<norm>.weight', '.bias'
    :param norm_node: node of a normalisation that the unit takes over, else ''
    :param norm_affine: whether it has gain and shift
    :param epsilon: of the normalisation
    :param in_group: whose width `inputs` follows, None for the network's input
    :param in_repeat: inputs per channel of that group (a flattened feature map)
    :param out_group: whose width `outputs` follows
    :param stage: where it lies
    :param block: number of the block within the stage
    """

    name: str
    node: str
    kind: str
    inputs: int
    outputs: int
    extent: Tuple[int, ...]
    kernel: Tuple[int, ...] = ()
    stride: Tuple[int, ...] = ()
    padding: Tuple[int, ...] = ()
    dilation: Tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    norm: str = ''
    norm_node: str = ''
    norm_affine: bool = True
    epsilon: float = 1e-5
    in_group: Optional[int] = None
    in_repeat: int = 1
    out_group: Optional[int] = None
    stage: int = 0
    block: int = 0

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return self.kind == 'conv' and self.groups > 1 and self.groups == self.inputs

    @property
    def is_dense(self) -> bool:
        """Whether each output sees all inputs."""
        return self.kind != 'norm' and self.groups == 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input, at full size."""
        if self.kind == 'norm':
            return 0
        weight = self.outputs * (self.inputs // self.groups) * math.prod(self.kernel)
        return weight * math.prod(self.extent)


@dataclass(frozen=True)
class Cuttable:
    """
    A parameter beside the units that follows a group's width: a LayerNorm, a position embedding.

    :param node: in the graph
    :param names: of its shared tensors
    :param shape: of each of them
    :param axis: of the parameter along which the group lies, None where it is kept whole
    :param group: whose width it follows
    :param epsilon: of a LayerNorm
    """

    node: str
    names: Tuple[str, ...]
    shape: Tuple[int, ...]
    axis: Optional[int]
    group: Optional[int]
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Block:
    """
    The units between two places where a single tensor parts the network.

    :param entry: node whose value it reads, '' for the network's input
    :param border: node whose value it gives
    :param droppable: whether the network runs without it
    """

    entry: str
    border: str
    droppable: bool


@dataclass(frozen=True)
class Stage:
    """
    Blocks of one resolution.

    :param blocks: at least one
    :param extent: of its result beside channels
    :param group: of its result's channels, None where no unit made them
    :param channels: of its result
    :param stride_refused: why its resolution cannot be halved, '' where it can
    :param axis: of its result along which the channels lie
    """

    blocks: Tuple[Block, ...]
    extent: Tuple[int, ...]
    group: Optional[int]
    channels: int
    stride_refused: str = ''
    axis: int = 1

    @property
    def entry(self) -> str:
        """Node whose value the stage reads."""
        return self.blocks[0].entry

    @property
    def border(self) -> str:
        """Node whose value the stage gives."""
        return self.blocks[-1].border

    @property
    def least_blocks(self) -> int:
        """Blocks that stay, whatever the depth."""
        return max(1, sum(not b.droppable for b in self.blocks))


@dataclass(frozen=True)
class LeftAlone:
    """
    A layer that an operator or the machinery does not touch.

    :param layer: path in the backbone
    :param what: operator's name, or 'width'
    :param reason: why, for a person
    """

    layer: str
    what: str
    reason: str


@dataclass(frozen=True, eq=False)
class Structure:
    """
    Everything but the numbers.

    :param units: in the order in which they run
    :param groups: by index
    :param cuttables: parameters beside the units
    :param stages: from input to output; the layers behind the last border belong to the last one
    :param exits: per exit the number of stages before it; the last one is the network's own end
    :param classes: scores of an exit, 0 for a network that gives something else
    :param left_alone: what stays as it is
    :param most_strides: in so many stages the whole network may divide the resolution, None for
        untried
    """

    units: Tuple[Unit, ...]
    groups: Mapping[int, Group]
    cuttables: Tuple[Cuttable, ...]
    stages: Tuple[Stage, ...]
    exits: Tuple[int, ...]
    classes: int
    left_alone: Tuple[LeftAlone, ...] = ()
    most_strides: Optional[int] = None

    def units_of(self, stage: int) -> Tuple[Unit, ...]:
        """Return the units of a stage."""
        return tuple(u for u in self.units if u.stage == stage)
