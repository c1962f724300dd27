# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Unfused exports of networks as users deploy them, for the fusion part of the engine bench.

PyTorch's networks are exported evaluated, with TrainingMode.PRESERVE and without constant folding:
each normalisation is an operator of its own. Otherwise the exporter folds normalisations into
convolutions whatever it is told about constants. Converters of other frameworks write theirs by
themselves. Some networks come from timm, where that is installed.
"""
from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import onnx
import torch
from torch import nn
from torch.nn import functional

from benchmarks import _elastic_transform_torch as exported
from benchmarks._elastic_structure import Detector
from benchmarks._elastic_transform_converters import WRITERS
from benchmarks._timm_networks import timm_network
from crowdhmt_ros.elastic.backbones import BACKBONES, example_input

SEED = 20261121


@dataclass(frozen=True)
class Network:
    """
    One unfused export.

    :param group: what kind of network it is
    :param family: the family of fusion it is a case of, '' where it stands in the suite
    """

    name: str
    group: str
    family: str
    make: Callable[[], onnx.ModelProto]


class HardSwish(nn.Module):
    """The gate as converters write it: x clip(x + 3, 0, 6) / 6."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gated values."""
        return x * functional.hardtanh(x + 3, 0.0, 6.0) / 6


class Pair(nn.Module):
    """A separable pair of convolutions whose rank is too high to pay: k x 1, then 1 x k."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        rank = 2 * max(inputs, outputs)
        self.down = nn.Conv2d(inputs, rank, (3, 1), 1, (1, 0), bias=False)
        self.across = nn.Conv2d(rank, outputs, (1, 3), 1, (0, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one after the other."""
        return self.across(self.down(x))


class Fire(nn.Module):
    """Squeeze, expand two ways, normalise what they give together."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, inputs // 4, 1, bias=False)
        self.wide = nn.Conv2d(inputs // 4, outputs // 2, 3, 1, 1, bias=False)
        self.near = nn.Conv2d(inputs // 4, outputs - outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both side by side."""
        y = self.squeeze(x)
        return self.norm(torch.cat([self.wide(y), self.near(y)], 1))


class Branches(nn.Module):
    """A unit while it trains: 3x3, 1x1 and a shortcut, summed (RepVGG, Ding et al. 2021)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
                                  nn.BatchNorm2d(outputs))
        self.near = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False),
                                  nn.BatchNorm2d(outputs))
        self.same = nn.BatchNorm2d(inputs) if inputs == outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        y = self.wide(x) + self.near(x)
        return y if self.same is None else y + self.same(x)


class Towers(nn.Module):
    """Pointwise towers over one tensor, each with its own normalisation, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs // 4, 1, bias=False),
                          nn.BatchNorm2d(outputs // 4), nn.ReLU()) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return all of them."""
        return torch.cat([tower(x) for tower in self.towers], 1)


class Transition(nn.Module):
    """Fewer channels, then fewer places (DenseNet, Huang et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of two by two places."""
        return functional.avg_pool2d(self.mix(x), 2)


class Means(nn.Module):
    """A classifier over means that are written out, and a softmax likewise."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, 4 * inputs, 1)
        self.classes = nn.Linear(4 * inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities."""
        power = torch.exp(self.classes(self.mix(x).mean(3).mean(2)))
        return power / power.sum(1, keepdim=True)


def stacked(unit: Callable[[int, int], nn.Module], *, between: Callable[[], nn.Module] = nn.ReLU,
            width: int = 32, head: bool = True) -> nn.Sequential:
    """Return a stem, units in two stages, and a classifier over the mean of all places."""
    layers: List[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), unit(width, width),
                               between(), unit(width, 2 * width), between(),
                               unit(2 * width, 2 * width), between()]
    if head:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)]
    return nn.Sequential(*layers)


def _normed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def _transition(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, 1, 1), nn.ReLU(),
                         Transition(inputs, outputs))


class Ghost(nn.Module):
    """Half of the channels by a convolution, the others cheaply from these."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.own = nn.Sequential(nn.Conv2d(inputs, half, 3, 1, 1, bias=False),
                                 nn.BatchNorm2d(half), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
                                   nn.BatchNorm2d(half))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both side by side."""
        y = self.own(x)
        return torch.cat([y, self.cheap(y)], 1)


def _low_rank(inputs: int, outputs: int) -> nn.Module:
    rank = min(inputs, outputs) // 2
    return nn.Sequential(nn.Conv2d(inputs, rank, (3, 1), 1, (1, 0), bias=False),
                         nn.Conv2d(rank, outputs, (1, 3), 1, (0, 1), bias=False),
                         nn.BatchNorm2d(outputs))


FAMILY_CASES: Mapping[str, Tuple[str, Callable[[], nn.Module]]] = {
    'pointwise norms': ('conv_bn', lambda: stacked(_normed, width=64)),
    'separable pairs': ('linear', lambda: stacked(Pair)),
    'written-out gates': ('elementwise', lambda: stacked(_normed, between=HardSwish)),
    'training branches': ('channelwise', lambda: stacked(Branches)),
    'towers': ('channelwise', lambda: stacked(Towers, between=nn.Identity, width=64)),
    'transitions': ('reduction', lambda: stacked(_transition)),
    'written-out means': ('reduction', lambda: nn.Sequential(
        stacked(_transition, head=False), Means(64, 10)))}
"""Small networks on 64 x 64 images, each with the patterns of one family; not in the suite."""
CASE_EDGE = 64
OWN: Mapping[str, Tuple[str, Dict[str, int]]] = {
    'resnet18@224': ('resnet18', {'edge': 224}), 'resnet18@32': ('resnet18', {'edge': 32}),
    'mobilenet_v2@224': ('mobilenet_v2', {'edge': 224}), 'vgg16@32': ('vgg16', {'edge': 32}),
    'motion_cnn': ('motion_cnn', {}), 'spectrogram_cnn': ('spectrogram_cnn', {}),
    'vision_transformer@32': ('vision_transformer', {})}
"""The project's backbones."""
TIMM = {'mobilenetv3_large_100': 'cnn', 'efficientnet_b0': 'cnn', 'ghostnet_100': 'cnn',
        'densenet121': 'cnn', 'repvgg_a0': 'cnn', 'deit_tiny_patch16_224': 'transformer',
        'mobilevit_xxs': 'transformer'}
VARIANTS: Mapping[str, Callable[[int, int], nn.Module]] = {
    'fire': Fire, 'ghost': Ghost, 'low_rank': _low_rank}
"""What robots of this project run, as its author would export it."""
CONVERTED = ('tensorflow/plain', 'tensorflow/residual', 'tensorflow/dense', 'paddle/mobile',
             'paddle/attention')
"""Of the converters' networks, those of fixed extents."""


def networks() -> List[Network]:
    """Return the suite, then the cases of the families."""
    found = [Network(name, 'transformer' if 'transformer' in arch else 'cnn', '',
                     lambda arch=arch, options=options: _unfused(
                         lambda: BACKBONES[arch](10, **options),
                         example_input(arch, batch=1, **options)))
             for name, (arch, options) in OWN.items()]
    if importlib.util.find_spec('timm') is not None:
        found += [Network(name, group, '', lambda name=name: _unfused(
            lambda: timm_network(name, 1000), torch.zeros(1, 3, 224, 224)))
            for name, group in TIMM.items()]
    found += [Network(name, group, '', lambda make=make, shape=shape: _unfused(
        make, torch.zeros(shape))) for name, group, make, shape in _others()]
    found += [Network(name, 'converted', '', WRITERS[name]) for name in CONVERTED]
    return found + [Network(name, 'case', family, lambda make=make: _unfused(
        make, torch.zeros(1, 3, CASE_EDGE, CASE_EDGE)))
        for name, (family, make) in FAMILY_CASES.items()]


def _others() -> List[Tuple[str, str, Callable[[], nn.Module], Sequence[int]]]:
    found: List[Tuple[str, str, Callable[[], nn.Module], Sequence[int]]] = [
        ('detector@224', 'detector', Detector, (1, 3, 224, 224)),
        ('anchor_detector@320', 'detector', exported.Detector, (1, 3, 320, 320)),
        ('encoder', 'transformer', exported.Encoder, (1, 24, 32))]
    return found + [('variant/' + name, 'variant',
                     lambda unit=unit: stacked(unit, width=64), (1, 3, 128, 128))
                    for name, unit in VARIANTS.items()]


def _unfused(make: Callable[[], nn.Module], example: torch.Tensor) -> onnx.ModelProto:
    """Export an evaluated network as it stands; its biases and statistics are not neutral."""
    torch.manual_seed(SEED)
    network: Any = make()
    for name, parameter in network.named_parameters():
        if name.endswith('bias'):
            nn.init.uniform_(parameter, -0.2, 0.2)
    exported.settle(network, example)
    model = exported.export(network, example, 'preserve')
    model.ir_version = min(model.ir_version, 8)
    return model
