# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
VGG16 (Simonyan & Zisserman 2015, "Very Deep Convolutional Networks", configuration D).

With batch normalisation after each convolution, as it is trained today. Input (B, 3, edge, edge),
output (B, classes).
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

EDGES = (224, 64, 32)
STAGES: Tuple[Tuple[int, int], ...] = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Of each stage: channels as a multiple of the width, and convolutions; then 2x2 pooling."""


class PlainNetwork(nn.Module):
    """Stages of convolutions in a row, pooling, and a classifier with hidden layers."""

    def __init__(self, classes: int, width: int, edge: int) -> None:
        """Build an untrained network; see `vgg16`."""
        super().__init__()
        stages = []
        inputs = 3
        for factor, count in STAGES:
            stages.append(_stage(inputs, factor * width, count))
            inputs = factor * width
        self.stages = nn.Sequential(*stages)
        positions = 7 if edge == 224 else 1
        self.pool = nn.AdaptiveAvgPool2d(positions)
        features = inputs * positions ** 2
        self.classifier = (_large_classifier(features, 64 * width, classes) if edge == 224
                           else _small_classifier(features, classes))
        draw_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes, before softmax: (B, classes)."""
        y = self.pool(self.stages(x))
        scores: torch.Tensor = self.classifier(y.flatten(1))
        return scores


def vgg16(classes: int, *, width: int = 64, edge: int = 224) -> nn.Module:
    """
    Build VGG16 with normalisation (138 M parameters at 224 pixels, width 64, 1000 classes).

    For 224 pixels the classifier has two hidden layers of 64 * width (4096) units over 7x7
    positions; for 64 and 32 one hidden layer of 8 * width units over the mean of all positions.

    :param classes: outputs
    :param width: channels of the first stage; the others have 2, 4, 8 and 8 times as many
    :param edge: pixels of the square input: 224, 64 or 32
    :raises ConfigError: another edge, or a count below 1
    """
    check_choice('edge', edge, EDGES)
    check_counts(classes=classes, width=width)
    return PlainNetwork(classes, width, edge)


def _stage(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: List[nn.Module] = []
    for index in range(count):
        layers += [nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, 1, 1),
                   nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _large_classifier(features: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(hidden, classes))


def _small_classifier(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Dropout(0.5),
                         nn.Linear(features, classes))
