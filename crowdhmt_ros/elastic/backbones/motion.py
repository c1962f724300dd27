# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A 1-D CNN for windows of inertial measurements (*reconstructed*; tasks of P IV-A).

Residual blocks (He et al. 2016) along time. Input (B, channels, samples), as the 9 signals of 128
samples of the UCI HAR data (Anguita et al. 2013); output (B, classes).
"""
from __future__ import annotations

from typing import Optional

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import check_counts, draw_for_relu
from crowdhmt_ros.errors import ConfigError

BLOCKS = 2
"""Blocks of each of the three stages."""
SHORTEST_WINDOW = 16
"""Samples; the last stage then sees 2 positions."""


class MotionBlock(nn.Module):
    """Two convolutions over 3 samples beside a shortcut: (B, inputs, T) to (B, outputs, T/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """
        Build an untrained block.

        :param inputs: channels that come in
        :param outputs: channels that go out
        :param stride: s, of the first convolution
        """
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm1d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv1d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm1d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: Optional[nn.Module] = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of the next block."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        short = x if self.shortcut is None else self.shortcut(x)
        out: torch.Tensor = self.relu2(y + short)
        return out


class MotionNetwork(nn.Module):
    """A stem over 7 samples, three stages of blocks, the mean over time, one linear layer."""

    def __init__(self, classes: int, channels: int, width: int) -> None:
        """Build an untrained network; see `motion_cnn`."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(channels, width, 7, 2, 3, bias=False),
                                  nn.BatchNorm1d(width), nn.ReLU())
        self.stages = nn.Sequential(_stage(width, width, stride=1),
                                    _stage(width, 2 * width, stride=2),
                                    _stage(2 * width, 4 * width, stride=2))
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Linear(4 * width, classes)
        draw_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        y = self.pool(self.stages(self.stem(x)))
        scores: torch.Tensor = self.classifier(y.flatten(1))
        return scores


def motion_cnn(classes: int, *, channels: int = 9, samples: int = 128,
               width: int = 64) -> nn.Module:
    """
    Build a 1-D CNN for windows of inertial measurements, untrained.

    :param classes: outputs
    :param channels: signals of the window (axes of the sensors)
    :param samples: of each signal, at least 16
    :param width: channels of the first stage; the others have 2 and 4 times as many
    :raises ConfigError: a count below 1, or too short a window
    """
    check_counts(classes=classes, channels=channels, samples=samples, width=width)
    if samples < SHORTEST_WINDOW:
        raise ConfigError('samples is %d: a window needs at least %d'
                          % (samples, SHORTEST_WINDOW))
    return MotionNetwork(classes, channels, width)


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    first = MotionBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(MotionBlock(outputs, outputs, 1) for _ in range(BLOCKS - 1)))
