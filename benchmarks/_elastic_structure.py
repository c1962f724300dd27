# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Part of the elastic bench: how soon a network is elastic, and whether strangers' become so."""
from __future__ import annotations

import statistics
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from benchmarks._timm_networks import timm_network
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim
from crowdhmt_ros.elastic.make_elastic import Elastic, make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.transformation import backbone_statistics
from crowdhmt_ros.types import OperatorChoice, Variant

CLAIMS: Dict[str, Tuple[float, str]] = {
    'make_elastic_s': (10.0, LOWER), 'strangers_elastic': (4, HIGHER)}
EDGE = 64
TIMM = (('mobilenetv3_small_050', {}), ('regnetx_002', {}),
        ('vit_tiny_patch16_224', {'img_size': EDGE}))
"""Squeeze-and-excitation; grouped convolutions; attention with packed heads."""

_TIMED = """
import sys, time, warnings
warnings.simplefilter('ignore')
import torch
from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.elastic.make_elastic import make_elastic
torch.set_num_threads(2)
torch.manual_seed(0)
network = BACKBONES['resnet34'](1000, edge=224)
example = example_input('resnet34', edge=224)
start = time.perf_counter()
make_elastic(network, example)
print(time.perf_counter() - start)
"""


class Detector(nn.Module):
    """What a user's detector looks like: a backbone, two scales, boxes and scores of each."""

    def __init__(self, width: int = 32, classes: int = 5) -> None:
        """Build it untrained."""
        super().__init__()
        self.stem = _layer(3, width, 2)
        self.low = nn.Sequential(_layer(width, 2 * width, 2), _layer(2 * width, 2 * width, 1))
        self.high = nn.Sequential(_layer(2 * width, 4 * width, 2),
                                  _layer(4 * width, 4 * width, 1))
        self.lateral = nn.Conv2d(4 * width, 2 * width, 1)
        self.boxes = nn.ModuleList([nn.Conv2d(c * width, 4, 1) for c in (2, 4)])
        self.scores = nn.ModuleList([nn.Conv2d(c * width, classes, 1) for c in (2, 4)])

    def forward(self, image: torch.Tensor) -> List[Tuple[torch.Tensor, torch.Tensor]]:
        """Return (boxes, scores) of the fine and of the coarse scale."""
        low = self.low(self.stem(image))
        high = self.high(low)
        fine = low + nn.functional.interpolate(self.lateral(high), scale_factor=2.0)
        return [(self.boxes[0](fine), self.scores[0](fine)),
                (self.boxes[1](high), self.scores[1](high))]


def _layer(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                         nn.BatchNorm2d(outputs), nn.SiLU())


@dataclass(frozen=True)
class Stranger:
    """
    How a network fared that was not made for this machinery.

    :param name: of the network
    :param operators: that apply somewhere
    :param variants: tried, each operator's mildest and harshest in all stages
    :param difference: of the whole variant from the network itself
    :param left_alone: layers with a reason
    :param problem: why it is not elastic, '' where it is
    """

    name: str
    operators: Tuple[str, ...] = ()
    variants: int = 0
    difference: float = 0.0
    left_alone: int = 0
    problem: str = ''

    @property
    def text(self) -> str:
        """One line for a person."""
        if self.problem:
            return '%s: %s' % (self.name, self.problem)
        return '%s: %s; %d variants run, %d reasons' % (
            self.name, ' '.join(self.operators), self.variants, self.left_alone)


def structure_figures(*, quick: bool = False) -> List[Figure]:
    """Measure the time for ResNet34 and try the strangers."""
    runs = [_timed() for _ in range(1 if quick else 5)]
    strangers = [_tried(name, make) for name, make in _strangers().items()]
    return [
        _claimed('make_elastic_s', statistics.median(runs),
                 'ResNet34 at 224 pixels, 1000 classes, two threads; median of %d fresh '
                 'processes: %s' % (len(runs), ', '.join('%.1f' % r for r in runs))),
        _claimed('strangers_elastic', sum(not s.problem for s in strangers),
                 '; '.join(s.text for s in strangers))]


def _claimed(key: str, value: float, how: str) -> Figure:
    target, better = CLAIMS[key]
    return claim(key, value, target, better=better, how=how)


def _timed() -> float:
    done = subprocess.run([sys.executable, '-c', _TIMED], capture_output=True, text=True,
                          check=True, timeout=300)
    return float(done.stdout)


def _strangers() -> Mapping[str, Callable[[], nn.Module]]:
    found: Dict[str, Callable[[], nn.Module]] = {
        'timm %s' % name: lambda name=name, options=options: timm_network(name, 10, **options)
        for name, options in TIMM}
    return {**found, 'detector': Detector}


def _tried(name: str, make: Callable[[], nn.Module]) -> Stranger:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            network = make()
        except ModuleNotFoundError as error:
            return Stranger(name, problem='%s is not installed' % error.name)
    image = torch.randn(2, 3, EDGE, EDGE)
    with torch.no_grad():
        network.train()(image)  # statistics that are not those of a fresh network
        network.eval()
        elastic = make_elastic(network, image)
        return _judged(name, network, elastic, image)


def _judged(name: str, network: nn.Module, elastic: Elastic, image: torch.Tensor) -> Stranger:
    net = elastic.net.eval()
    wanted = _flat(network(image))
    found = _flat(net(image, net.whole(), FixedNorms(backbone_statistics(net)))[-1])
    difference = max(float((a - b).abs().max()) for a, b in zip(wanted, found))
    variants = [v for operator in elastic.operators() for v in _extremes(elastic, operator)]
    for variant in variants:
        answers = _flat(net(image, variant)[-1])
        if [a.shape for a in answers] != [w.shape for w in wanted]:
            return Stranger(name, problem='a variant gives another shape: %s' % (variant,))
    problem = '' if difference <= 1e-5 else 'the whole variant differs by %g' % difference
    return Stranger(name, elastic.operators(), len(variants), difference,
                    sum(bool(a.reason) for a in elastic.left_alone), problem)


def _extremes(elastic: Elastic, operator: str) -> List[Variant]:
    """Return an operator's mildest and harshest variants; one stage at a time for strides."""
    offers, last = elastic.choices(operator), len(elastic.net.structure.exits) - 1
    found = []
    for number in (0, -1):
        stages: List[Tuple[OperatorChoice, ...]] = []
        strides = 0
        for choices in offers:
            choice: Optional[OperatorChoice] = choices[number] if choices else None
            if choice is not None and 'stride' in dict(choice.parameters):
                strides += 1
            keep = choice is not None and not (strides > 1 and 'stride' in dict(choice.parameters))
            stages.append((choice,) if keep and choice is not None else ())
        found.append(Variant(tuple(stages), last))
    return found


def _flat(value: Any) -> Sequence[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _flat(part)]
