# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition").

The paper's backbones for images (P III-A1, P IV-A). Input (B, 3, edge, edge), output (B, classes).
Counts and parameters of the 224 pixel networks are those of the publication; for 64 and 32 pixels
only the stem differs, so that the last stage of four still sees 4x4 positions.
"""
from __future__ import annotations

from typing import Optional, Sequence, Union

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import (
    check_choice,
    check_counts,
    draw_for_relu,
)

EDGES = (224, 64, 32)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, inputs, H, W) to (B, outputs, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """
        Build an untrained block.

        :param inputs: channels that come in
        :param outputs: channels that go out
        :param stride: s, of the first convolution
        """
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: Optional[nn.Module] = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of the next block."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        short = x if self.shortcut is None else self.shortcut(x)
        out: torch.Tensor = self.relu2(y + short)
        return out


class ResidualNetwork(nn.Module):
    """A stem, stages of basic blocks, global average pooling, and one linear layer."""

    def __init__(self, classes: int, widths: Sequence[int], blocks: Sequence[int],
                 edge: int) -> None:
        """
        Build an untrained network; see `residual`.

        :param widths: channels of each stage
        :param blocks: blocks of each stage
        """
        super().__init__()
        self.stem = _stem(widths[0], edge)
        stages = []
        inputs = widths[0]
        for index, (width, count) in enumerate(zip(widths, blocks)):
            stages.append(_stage(inputs, width, count, stride=1 if index == 0 else 2))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        draw_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        y = self.pool(self.stages(self.stem(x)))
        scores: torch.Tensor = self.classifier(y.flatten(1))
        return scores


def residual(classes: int, *, widths: Sequence[int] = (32, 64, 128, 192),
             blocks: Union[int, Sequence[int]] = 2, edge: int = 64) -> nn.Module:
    """
    Build a residual network of any widths and depths, untrained.

    Each stage after the first halves height and width.

    :param classes: outputs
    :param widths: channels of each stage
    :param blocks: basic blocks of each stage, or one number for all
    :param edge: pixels of the square input; decides the stem: 224 (7x7 with stride 2, then
        pooling with stride 2), 64 (3x3 with stride 2) or 32 (3x3 with stride 1)
    :raises ConfigError: another edge, a count below 1, or not one depth for each width
    """
    check_choice('edge', edge, EDGES)
    depths = (blocks,) * len(widths) if isinstance(blocks, int) else tuple(blocks)
    check_counts(classes=classes, widths=widths, blocks=depths)
    check_choice('the number of depths in blocks', len(depths), (len(widths),))
    return ResidualNetwork(classes, widths, depths, edge)


def resnet18(classes: int, *, width: int = 64, edge: int = 224) -> nn.Module:
    """
    Build ResNet18: four stages of two blocks (11.7 M parameters at width 64, 1000 classes).

    :param width: channels of the first stage; the others have 2, 4 and 8 times as many
    :param edge: pixels of the square input: 224, 64 or 32
    :raises ConfigError: as `residual`
    """
    return residual(classes, widths=_doubling(width), blocks=2, edge=edge)


def resnet34(classes: int, *, width: int = 64, edge: int = 224) -> nn.Module:
    """
    Build ResNet34: 3, 4, 6 and 3 blocks (21.8 M parameters at width 64, 1000 classes).

    :param width: channels of the first stage; the others have 2, 4 and 8 times as many
    :param edge: pixels of the square input: 224, 64 or 32
    :raises ConfigError: as `residual`
    """
    return residual(classes, widths=_doubling(width), blocks=(3, 4, 6, 3), edge=edge)


def _doubling(width: int) -> Sequence[int]:
    return width, 2 * width, 4 * width, 8 * width


def _stem(width: int, edge: int) -> nn.Sequential:
    if edge == 224:
        return nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width),
                             nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    stride = 2 if edge == 64 else 1
    return nn.Sequential(nn.Conv2d(3, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width),
                         nn.ReLU())


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
