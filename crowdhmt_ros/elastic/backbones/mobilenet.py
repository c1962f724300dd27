# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MobileNetV2 (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks").

Input (B, 3, edge, edge), output (B, classes). Strides of 2 at 224 pixels: the stem and the stages
of 24, 32, 64 and 160 channels (32 times in all, 7x7 positions at the end). At 64 pixels the stage
of 24 channels has stride 1 (16 times, 4x4); at 32 pixels the stem as well (8 times, 4x4).
"""
from __future__ import annotations

from typing import List, Tuple

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import (
    check_choice,
    check_counts,
    draw_for_relu,
)
from crowdhmt_ros.errors import ConfigError

EDGES = (224, 64, 32)
STAGES: Tuple[Tuple[int, int, int, int], ...] = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1))
"""Of each stage: expansion, channels, blocks and stride (table 2 of the publication)."""


class InvertedResidual(nn.Module):
    """Expand 1x1, filter each channel 3x3, project 1x1: (B, inputs, H, W) to (B, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        """
        Build an untrained block.

        :param inputs: channels that come in
        :param outputs: channels that go out, without rectification
        :param stride: of the 3x3 convolution
        :param expansion: channels between, as a multiple of the inputs; 1 leaves the first
            convolution out
        """
        super().__init__()
        between = inputs * expansion
        layers: List[nn.Module] = []
        if expansion != 1:
            layers.append(_rectified(inputs, between, kernel=1))
        layers += [_rectified(between, between, kernel=3, stride=stride, groups=between),
                   nn.Conv2d(between, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of the next block."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


class MobileNet(nn.Module):
    """A stem, stages of inverted residuals, a wide 1x1 convolution, pooling, one linear layer."""

    def __init__(self, classes: int, width_multiplier: float, edge: int) -> None:
        """Build an untrained network; see `mobilenet_v2`."""
        super().__init__()
        inputs = _multiple_of_8(32 * width_multiplier)
        self.stem = _rectified(3, inputs, kernel=3, stride=1 if edge == 32 else 2)
        stages = []
        for expansion, channels, blocks, stride in STAGES:
            outputs = _multiple_of_8(channels * width_multiplier)
            first_stride = 1 if channels == 24 and edge != 224 else stride
            stages.append(_stage(inputs, outputs, blocks, stride=first_stride,
                                 expansion=expansion))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        last = _multiple_of_8(1280 * max(1.0, width_multiplier))
        self.head = _rectified(inputs, last, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(last, classes)
        draw_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        y = self.pool(self.head(self.stages(self.stem(x))))
        scores: torch.Tensor = self.classifier(self.dropout(y.flatten(1)))
        return scores


def mobilenet_v2(classes: int, *, width_multiplier: float = 1.0, edge: int = 224) -> nn.Module:
    """
    Build MobileNetV2 (3.5 M parameters at multiplier 1 and 1000 classes), untrained.

    :param classes: outputs
    :param width_multiplier: of all channels, rounded to multiples of 8; the last convolution
        keeps at least 1280
    :param edge: pixels of the square input: 224, 64 or 32
    :raises ConfigError: another edge, no class, or a multiplier that is not above 0
    """
    check_choice('edge', edge, EDGES)
    check_counts(classes=classes)
    if not 0 < width_multiplier < float('inf'):
        raise ConfigError('width_multiplier is %s: give a number above 0' % width_multiplier)
    return MobileNet(classes, width_multiplier, edge)


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int,
           expansion: int) -> nn.Sequential:
    first = InvertedResidual(inputs, outputs, stride=stride, expansion=expansion)
    return nn.Sequential(first, *(
        InvertedResidual(outputs, outputs, stride=1, expansion=expansion)
        for _ in range(blocks - 1)))


def _rectified(inputs: int, outputs: int, *, kernel: int, stride: int = 1,
               groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs), nn.ReLU6())


def _multiple_of_8(channels: float) -> int:
    """Round to a multiple of 8 that is at least 8 and at most a tenth below (as published)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
