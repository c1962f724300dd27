# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small networks that the tests of the elastic machinery share."""
from __future__ import annotations

import copy
import random
from typing import Any, Callable, Dict, List

import torch
import torch.nn.functional as F
from torch import nn

from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.elastic.make_elastic import Elastic, make_elastic
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

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


class Token(nn.Module):
    """Patches behind a class token, normalisations without gain, a table read by constants."""

    def __init__(self) -> None:
        """Build a network for (n, 3, 16, 16)."""
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.table = nn.Parameter(torch.randn(20, 32))
        self.register_buffer('places', torch.arange(17))
        self.norms = nn.ModuleList([nn.LayerNorm(32, elementwise_affine=False),
                                    nn.LayerNorm(32, bias=False), nn.LayerNorm(32)])
        self.wide = nn.ModuleList([nn.Linear(32, 48) for _ in range(3)])
        self.narrow = nn.ModuleList([nn.Linear(48, 32) for _ in range(3)])
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.table[self.places]
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow):
            x = x + narrow(F.gelu(wide(norm(x))))
        scores: torch.Tensor = self.head(x[:, 0])
        return scores


class Places(nn.Module):
    """Depthwise convolutions in front of linear layers on (n, h, w, c), as in ConvNeXt."""

    def __init__(self) -> None:
        """Build a network for (n, 3, 16, 16)."""
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 2, 2)
        self.deep = nn.ModuleList([nn.Conv2d(16, 16, 5, padding=2, groups=16) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(2)])
        self.wide = nn.ModuleList([nn.Linear(16, 32) for _ in range(2)])
        self.narrow = nn.ModuleList([nn.Linear(32, 16) for _ in range(2)])
        self.scales = nn.ParameterList([torch.rand(16) for _ in range(2)])
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        x = self.stem(x)
        for index, deep in enumerate(self.deep):
            y = self.norms[index](deep(x).permute(0, 2, 3, 1))
            y = self.narrow[index](F.gelu(self.wide[index](y))) * self.scales[index]
            x = x + y.permute(0, 3, 1, 2)
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


class Detector(nn.Module):
    """Several answers; one head is used at two resolutions; activations work in place."""

    def __init__(self) -> None:
        """Build a network for (n, 3, 16, 16)."""
        super().__init__()
        self.stem, self.body = conv_norm(3, 16), conv_norm(16, 16)
        self.down = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16),
                                  nn.ReLU(inplace=True))
        self.side, self.side_norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> Dict[str, Any]:
        """Return boxes and scores of two resolutions."""
        high = self.body(self.stem(x))
        low = self.down(high)
        sides = [F.relu(self.side_norm(self.side(y))) for y in (high, low)]
        return {'boxes': [self.boxes(y) for y in sides],
                'scores': tuple(self.scores(y) for y in sides)}


def preactivated() -> nn.Module:
    """Build a network whose normalisations stand in front, a stage in half the resolution."""
    def block(inputs: int, outputs: int, stride: int) -> Around:
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(),
                             nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))

    def forward(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = x + net.one(x)
        x = net.skip(x) + net.two(x)
        x = x + net.three(x)
        return F.relu(net.norm(x + net.four(x)))

    return Around(forward, one=block(16, 16, 1), two=block(16, 16, 2), three=block(16, 16, 1),
                  four=block(16, 16, 1), skip=nn.Conv2d(16, 16, 1, 2), norm=nn.BatchNorm2d(16))


def dense() -> nn.Module:
    """Build a network that concatenates, and normalises what it concatenated."""
    return Around(lambda net, x: net.two(F.relu(net.norm(torch.cat([x, net.one(x)], 1)))),
                  one=conv_norm(16, 16), norm=nn.BatchNorm2d(32), two=conv_norm(32, 16))


def gated() -> nn.Module:
    """Build a network with squeeze-and-excitation, grouped convolution and kept layers."""
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(),
                         nn.Conv2d(8, 16, 1), nn.Sigmoid())
    return Around(
        lambda net, x: net.up(net.act(net.norm(net.group(net.body(x * net.gate(x)))))),
        gate=gate, body=conv_norm(16, 16), group=nn.Conv2d(16, 16, 3, 2, 1, groups=4),
        norm=nn.GroupNorm(4, 16), act=nn.PReLU(16), up=nn.ConvTranspose2d(16, 16, 2, 2))


def repeated() -> nn.Module:
    """Build a network that uses layers more than once, and drops features by a function."""
    return Around(lambda net, x: F.dropout(net.body(net.body(x)) + x, 0.2, net.training),
                  body=conv_norm(16, 16))


STRANGERS: Dict[str, Callable[[], nn.Module]] = {
    'token': Token, 'places': Places, 'detector': Detector, 'preactivated': preactivated,
    'dense': dense, 'gated': gated, 'repeated': repeated}


def stranger(name: str) -> nn.Module:
    """Build a network as users write them."""
    torch.manual_seed(0)
    return lively(STRANGERS[name]())


def image_of(name: str) -> torch.Tensor:
    """Draw a batch that a network takes, a reference backbone or a stranger's."""
    if name in OPTIONS:
        return example(name)
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def network(name: str) -> nn.Module:
    """Build a reference backbone or a stranger's network."""
    return backbone(name) if name in OPTIONS else stranger(name)


def elastic(name: str) -> Elastic:
    """Make a network elastic, once; tests leave it as it is."""
    if name not in _MADE:
        _MADE[name] = make_elastic(network(name), image_of(name))
        _MADE[name].net.eval()
    return _MADE[name]


def fresh(name: str) -> Elastic:
    """Make a network elastic anew, for tests that change it."""
    return copy.deepcopy(elastic(name))


NAMES = (*OPTIONS, *STRANGERS)


def random_variant(made: Elastic, seed: int) -> Variant:
    """Draw operators for each stage, and an exit."""
    draw = random.Random(seed)
    structure = made.net.structure
    while True:
        exit_index = draw.choice(range(len(structure.exits)))
        stages = []
        for index in range(structure.exits[exit_index]):
            offers = [made.choices(name)[index] for name in draw.sample(made.operators(), 3)]
            stages.append(tuple(draw.choice(o) for o in offers if o and draw.random() < 0.6))
        variant = Variant(tuple(stages), exit_index)
        try:
            made.net.plan(variant)
        except ExportError:  # operators that exclude each other
            continue
        return variant


def leaves(value: Any) -> List[torch.Tensor]:
    """List the tensors of an answer."""
    if isinstance(value, dict):
        value = list(value.values())
    return [value] if isinstance(value, torch.Tensor) else [t for v in value for t in leaves(v)]
