# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small networks that the tests of the elastic machinery share."""
from __future__ import annotations

from typing import Any, Dict

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.elastic.make_elastic import Elastic, make_elastic

OPTIONS: Dict[str, Dict[str, Any]] = {
    'resnet18': {'width': 16, 'edge': 32},
    'vgg16': {'width': 16, 'edge': 32},
    'mobilenet_v2': {'width_multiplier': 0.25, 'edge': 32},
    'motion_cnn': {'width': 16, 'samples': 32},
    'spectrogram_cnn': {'width': 8, 'mels': 32, 'frames': 32},
    'vision_transformer': {'edge': 16, 'patch': 4, 'width': 32, 'heads': 2, 'head_size': 16,
                           'depth': 4},
}
_MADE: Dict[str, Elastic] = {}


def backbone(name: str) -> nn.Module:
    """Build a narrow reference backbone with normalisations as after training."""
    torch.manual_seed(0)
    return lively(BACKBONES[name](5, **OPTIONS[name]))


def example(name: str) -> torch.Tensor:
    """Draw a batch that a backbone takes."""
    shape = example_input(name, **OPTIONS[name]).shape
    return torch.randn((4, *shape[1:]), generator=torch.Generator().manual_seed(1))


def elastic(name: str) -> Elastic:
    """Make a narrow reference backbone elastic, once; tests leave it as it is."""
    if name not in _MADE:
        _MADE[name] = make_elastic(backbone(name), example(name))
        _MADE[name].net.eval()
    return _MADE[name]


def lively(module: nn.Module) -> nn.Module:
    """Draw gains, shifts and statistics, so that no normalisation is the identity."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                if layer.affine:
                    layer.weight.uniform_(0.5, 1.5, generator=generator)
                    layer.bias.uniform_(-0.5, 0.5, generator=generator)
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
                    layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def conv_norm(inputs: int, outputs: int, **options: Any) -> nn.Sequential:
    """Build a 3x3 convolution with normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options),
        nn.BatchNorm2d(outputs), nn.ReLU())


class Around(nn.Module):
    """Convolution, a function of the user's, convolution, pooling, classifier."""

    def __init__(self, function: Any, *, between: int = 16, classes: int = 3,
                 **modules: nn.Module) -> None:
        """
        Build a network.

        :param function: of (network, features of 16 channels), gives `between` channels
        :param modules: submodules that it uses
        """
        super().__init__()
        self.first, self.last = conv_norm(3, 16), conv_norm(between, 16)
        self.head = nn.Linear(16, classes)
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        y: torch.Tensor = self.last(self.function(self, self.first(x))).mean((2, 3))
        scores: torch.Tensor = self.head(y)
        return scores
