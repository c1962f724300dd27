# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The supernet: shared weights from which each sub-network takes slices (P III-A1).

A sub-network is named by a `Variant`, which is passed along with each call: no layer remembers
which part of it is in use.
"""
from __future__ import annotations

import math
from typing import Dict, List, Mapping, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from crowdhmt_ros.elastic.slim_exits import EXIT_DROPOUT, ExitHead, exit_name
from crowdhmt_ros.elastic.stage_shapes import (
    Backbone,
    BlockShape,
    ConvShape,
    StageShape,
    apply_operators,
    blocks_of,
    stem_of,
)
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

Statistics = Dict[str, Tuple[torch.Tensor, torch.Tensor]]
"""'convolution@context' -> mean and variance of its output, float64."""

NORM_EPSILON = 1e-5


def statistics_key(conv: ConvShape) -> str:
    """Name the statistics of one convolution in its context."""
    return '%s@%s' % (conv.name, conv.context)


def stages_of(backbone: Backbone, variant: Variant) -> Tuple[StageShape, ...]:
    """
    Shapes of the stages that a variant runs.

    :raises ExportError: the variant does not fit the backbone
    """
    if not 0 <= variant.exit_index < len(backbone.exits):
        raise ExportError('variant asks for exit %d; this backbone has exits 0 to %d'
                          % (variant.exit_index, len(backbone.exits) - 1))
    used = backbone.exits[variant.exit_index]
    if len(variant.stages) != used:
        raise ExportError('variant describes %d stages; exit %d runs %d'
                          % (len(variant.stages), variant.exit_index, used))
    return tuple(apply_operators(s, c) for s, c in zip(backbone.stages, variant.stages))


class ConvNorm(nn.Module):
    """A convolution and its normalisation, or the two folded into one convolution."""

    def __init__(self, shape: ConvShape, *, folded: bool) -> None:
        """
        Build an untrained layer.

        :param shape: channels, kernel and stride
        :param folded: True for one convolution with bias
        """
        super().__init__()
        self.conv = nn.Conv2d(shape.inputs, shape.outputs, shape.kernel, shape.stride,
                              shape.kernel // 2, bias=folded)
        self.norm: nn.Module = (
            nn.Identity() if folded else nn.BatchNorm2d(shape.outputs, NORM_EPSILON))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised features."""
        y: torch.Tensor = self.norm(self.conv(x))
        return y


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, shape: BlockShape, *, folded: bool) -> None:
        """Build an untrained block."""
        super().__init__()
        self.first = ConvNorm(shape.first, folded=folded)
        self.second = ConvNorm(shape.second, folded=folded)
        self.projection: nn.Module = nn.Identity()
        for projection in shape.projection:
            self.projection = ConvNorm(projection, folded=folded)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's features."""
        return F.relu(self.second(F.relu(self.first(x))) + self.projection(x))


class StaticNet(nn.Module):
    """One sub-network as a plain module with weights of its own."""

    def __init__(
            self, backbone: Backbone, stages: Tuple[StageShape, ...], *, folded: bool) -> None:
        """
        Build an untrained network.

        :param backbone: the full network
        :param stages: shapes of the stages that run
        :param folded: True for convolutions with bias instead of normalisations
        """
        super().__init__()
        self.shapes: Dict[str, ConvShape] = {}
        stem = stem_of(backbone, stages)
        self.stem = ConvNorm(stem, folded=folded)
        self.shapes['stem'] = stem
        self.stages = nn.ModuleList(nn.ModuleList() for _ in stages)
        for block in blocks_of(stages):
            self.stages[block.stage].append(  # type: ignore[operator]
                ResidualBlock(block, folded=folded))
            for conv in (block.first, block.second, *block.projection):
                self.shapes[conv.name] = conv
        self.head = ExitHead(stages[-1].width, backbone.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (n, classes), of images of shape (n, 3, h, w)."""
        x = F.relu(self.stem(image))
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        logits: torch.Tensor = self.head(x)
        return logits


class Supernet(nn.Module):
    """The shared weights of a family of sub-networks."""

    def __init__(self, backbone: Backbone, *, seed: int = 0) -> None:
        """
        Draw the initial weights.

        :param backbone: the largest network
        :param seed: of the initial weights
        """
        super().__init__()
        self.backbone = backbone
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterDict()
        blocks = blocks_of(backbone.stages)
        convs = [stem_of(backbone, backbone.stages)]
        for block in blocks:
            convs += [block.first, block.second, *block.projection]
        for conv in convs:
            self._add_conv(conv, generator)
        for index, used in enumerate(backbone.exits):
            self._add_exit(index, backbone.stages[used - 1].width, generator)

    def _add(self, name: str, value: torch.Tensor) -> None:
        self.weights[name.replace('.', '/')] = nn.Parameter(value)

    def _add_conv(self, conv: ConvShape, generator: torch.Generator) -> None:
        shape = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
        spread = math.sqrt(2.0 / (conv.outputs * conv.kernel ** 2))
        self._add(conv.name + '.weight', torch.randn(shape, generator=generator) * spread)
        self._add(conv.name + '.gain', torch.ones(conv.outputs))
        self._add(conv.name + '.shift', torch.zeros(conv.outputs))

    def _add_exit(self, index: int, features: int, generator: torch.Generator) -> None:
        shape = (self.backbone.classes, features)
        spread = 1.0 / math.sqrt(features)
        self._add(exit_name(index) + '.weight',
                  torch.randn(shape, generator=generator) * spread)
        self._add(exit_name(index) + '.bias', torch.zeros(self.backbone.classes))

    def weight(self, name: str) -> torch.Tensor:
        """Return a shared tensor by name, for example 'stages.0.1.first.weight'."""
        weight: torch.Tensor = self.weights[name.replace('.', '/')]
        return weight

    def names(self) -> List[str]:
        """Names of all shared tensors."""
        return [n.replace('/', '.') for n in self.weights]

    def _conv(self, x: torch.Tensor, conv: ConvShape) -> torch.Tensor:
        weight = self.weight(conv.name + '.weight')[:conv.outputs, :conv.inputs]
        y = F.conv2d(x, weight, stride=conv.stride, padding=conv.kernel // 2)
        gain = self.weight(conv.name + '.gain')[:conv.outputs]
        shift = self.weight(conv.name + '.shift')[:conv.outputs]
        return F.batch_norm(y, None, None, gain, shift, True, 0.0, NORM_EPSILON)

    def _block(self, x: torch.Tensor, block: BlockShape) -> torch.Tensor:
        y = self._conv(F.relu(self._conv(x, block.first)), block.second)
        for projection in block.projection:
            x = self._conv(x, projection)
        return F.relu(y + x)

    def _exit(self, x: torch.Tensor, index: int) -> torch.Tensor:
        pooled = F.dropout(x.mean((2, 3)), EXIT_DROPOUT, self.training)
        weight = self.weight(exit_name(index) + '.weight')[:, :pooled.shape[1]]
        return F.linear(pooled, weight, self.weight(exit_name(index) + '.bias'))

    def forward(self, image: torch.Tensor, variant: Variant) -> List[torch.Tensor]:
        """
        Run a sub-network on batch statistics, as training needs it.

        :param image: shape (n, 3, h, w)
        :param variant: the sub-network
        :returns: logits, shape (n, classes), of every exit up to the variant's
        """
        stages = stages_of(self.backbone, variant)
        x = F.relu(self._conv(image, stem_of(self.backbone, stages)))
        blocks, logits = blocks_of(stages), []
        for i, block in enumerate(blocks):
            x = self._block(x, block)
            stage_ends = i + 1 == len(blocks) or blocks[i + 1].stage != block.stage
            if stage_ends and block.stage + 1 in self.backbone.exits:
                logits.append(self._exit(x, self.backbone.exits.index(block.stage + 1)))
        return logits

    @torch.no_grad()
    def extract(
            self, variant: Variant, statistics: Optional[Mapping[
                str, Tuple[torch.Tensor, torch.Tensor]]] = None) -> StaticNet:
        """
        Copy one sub-network out.

        :param variant: the sub-network
        :param statistics: for its normalisations; None leaves mean 0 and variance 1
        :returns: a plain module in evaluation mode, independent of the supernet
        :raises ExportError: unfit variant or missing statistics
        """
        net = StaticNet(self.backbone, stages_of(self.backbone, variant), folded=False)
        for name, shape in net.shapes.items():
            self._fill(net.get_submodule(name), shape, statistics)
        head = exit_name(variant.exit_index)
        features = net.head.linear.in_features
        net.head.linear.weight.copy_(self.weight(head + '.weight')[:, :features])
        net.head.linear.bias.copy_(self.weight(head + '.bias'))
        return net.eval()

    def _fill(
            self, layer: nn.Module, shape: ConvShape,
            statistics: Optional[Mapping[str, Tuple[torch.Tensor, torch.Tensor]]]) -> None:
        assert isinstance(layer, ConvNorm)
        assert isinstance(layer.norm, nn.BatchNorm2d)
        weight = self.weight(shape.name + '.weight')[:shape.outputs, :shape.inputs]
        layer.conv.weight.copy_(weight)
        layer.norm.weight.copy_(self.weight(shape.name + '.gain')[:shape.outputs])
        layer.norm.bias.copy_(self.weight(shape.name + '.shift')[:shape.outputs])
        if statistics is None:
            return
        key = statistics_key(shape)
        if key not in statistics:
            raise ExportError('statistics of %s are missing; recalibrate this variant' % key)
        mean, variance = statistics[key]
        assert layer.norm.running_mean is not None
        assert layer.norm.running_var is not None
        layer.norm.running_mean.copy_(mean)
        layer.norm.running_var.copy_(variance)
