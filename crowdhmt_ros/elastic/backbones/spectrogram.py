# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A CNN for spectrograms of sounds (*reconstructed*; tasks of P IV-A).

Residual blocks (He et al. 2016) over frequency and time. Input (B, 1, mels, frames), the
logarithm of the power in each band and moment; output (B, classes).
"""
from __future__ import annotations

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import check_counts, draw_for_relu
from crowdhmt_ros.elastic.backbones.resnet import BasicBlock
from crowdhmt_ros.errors import ConfigError

BLOCKS = 2
"""Blocks of each of the four stages."""
SMALLEST_SIDE = 16
"""Bands or frames; the last stage then sees one position on that side."""


class SpectrogramNetwork(nn.Module):
    """A stem with stride 2, four stages of blocks, global average pooling, one linear layer."""

    def __init__(self, classes: int, width: int) -> None:
        """Build an untrained network; see `spectrogram_cnn`."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1, bias=False),
                                  nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential(_stage(width, width, stride=1),
                                    _stage(width, 2 * width, stride=2),
                                    _stage(2 * width, 4 * width, stride=2),
                                    _stage(4 * width, 8 * width, stride=2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8 * width, classes)
        draw_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        y = self.pool(self.stages(self.stem(x)))
        scores: torch.Tensor = self.classifier(y.flatten(1))
        return scores


def spectrogram_cnn(classes: int, *, mels: int = 64, frames: int = 128,
                    width: int = 32) -> nn.Module:
    """
    Build a CNN for spectrograms, untrained.

    :param classes: outputs
    :param mels: frequency bands, at least 16
    :param frames: moments, at least 16
    :param width: channels of the first stage; the others have 2, 4 and 8 times as many
    :raises ConfigError: a count below 1, or too small a spectrogram
    """
    check_counts(classes=classes, mels=mels, frames=frames, width=width)
    if min(mels, frames) < SMALLEST_SIDE:
        raise ConfigError('the spectrogram has %d bands and %d frames: it needs at least %d each'
                          % (mels, frames, SMALLEST_SIDE))
    return SpectrogramNetwork(classes, width)


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(BLOCKS - 1)))
