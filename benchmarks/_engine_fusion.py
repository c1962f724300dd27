# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Fusion (P III-C1): what it gains where the engine fuses nothing, what it costs where it does.

Unfused exports are networks as PyTorch writes them with normalisations apart and constants not
folded, and as converters of other frameworks write them. One thread runs, and its own processor
time counts: who else is on the machine does not lengthen it by taking the core away. Compared are
the fastest of interleaved runs, since neighbours only ever add; medians stand beside them.
"""
from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from benchmarks._elastic_transform_converters import WRITERS
from benchmarks._elastic_transform_torch import export, settle
from benchmarks.timing import Ratio, median_ratio
from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.engine.backend import Executable
from crowdhmt_ros.engine.backends import BACKENDS
from crowdhmt_ros.errors import BackendError
from crowdhmt_ros.graph.compare import largest_difference, random_inputs, run_model
from crowdhmt_ros.graph.fusion import fuse
from crowdhmt_ros.graph.rules import FAMILIES
from crowdhmt_ros.types import EngineOptions, Segment, TensorSpec

SEED = 20261121
PAIRS, MOST_PAIRS, WARM, LEAST_S = 30, 400, 2, 1.5
UNFUSING = ('torch', 'ncnn')
"""Engines of the robot's that compute the operators as they find them."""
GAIN_AT_LEAST, HARM_AT_MOST, DIFFERENCE_AT_MOST = 1.2, 1.03, 1e-5

BACKBONE_SIZES: Mapping[str, Tuple[str, Dict[str, int]]] = {
    'resnet18@224': ('resnet18', {'edge': 224}), 'resnet18@32': ('resnet18', {'edge': 32}),
    'resnet18/4@32': ('resnet18', {'edge': 32, 'width': 16}),
    'residual@32': ('residual', {}),
    'mobilenet_v2@224': ('mobilenet_v2', {'edge': 224}),
    'mobilenet_v2@32': ('mobilenet_v2', {'edge': 32}),
    'vgg16@32': ('vgg16', {'edge': 32}), 'motion_cnn': ('motion_cnn', {}),
    'spectrogram_cnn': ('spectrogram_cnn', {}), 'vision_transformer@32': (
        'vision_transformer', {})}


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


FAMILY_CASES: Mapping[str, Tuple[str, Callable[[], nn.Module]]] = {
    'pointwise norms': ('conv_bn', lambda: stacked(_normed)),
    'joined norms': ('conv_bn', lambda: stacked(Fire)),
    'separable pairs': ('linear', lambda: stacked(Pair)),
    'written-out gates': ('elementwise', lambda: stacked(_normed, between=HardSwish)),
    'training branches': ('channelwise', lambda: stacked(Branches)),
    'towers': ('channelwise', lambda: stacked(Towers, between=nn.Identity, width=64)),
    'transitions': ('reduction', lambda: stacked(_transition)),
    'written-out means': ('reduction', lambda: nn.Sequential(
        stacked(_transition, head=False), Means(64, 10)))}
"""Name -> the family that it is about, and a network on 64 x 64 images."""
CASE_EDGE = 64
CONVERTED = ('tensorflow/plain', 'tensorflow/residual', 'tensorflow/dense', 'paddle/mobile',
             'paddle/attention')
"""Of the converters' networks, those of fixed extents."""


@dataclass(frozen=True)
class Paired:
    """
    How long one model takes as a multiple of another.

    :param value: fastest run over fastest run
    :param medians: the median paired ratio with its interval
    """

    value: float
    medians: Ratio


@dataclass(frozen=True)
class FusionFigure:
    """
    What fusion does to one unfused export, one thread.

    :param operators: before and after all families
    :param gain: time of the export over time of the fused graph, engine optimisation off
    :param harm: time of the fused graph over time of the export, engine optimisation on
    :param family: the family that the network is about, '' for a whole network
    :param family_gain: time without that family over time with all, optimisation off; 1.0 where
        the network is about none
    :param others: engine that fuses nothing -> time of the cleaned export over time of the fused
        graph; engines that are absent or lack an operator are left out
    :param differences: engine -> largest difference of the outputs
    """

    name: str
    operators: Tuple[int, int]
    gain: Paired
    harm: Paired
    family: str
    family_gain: float
    others: Mapping[str, Paired]
    differences: Mapping[str, float]


def unfused_exports(names: Sequence[str] = ()) -> List[Tuple[str, str, onnx.ModelProto]]:
    """
    Return (name, family or '', export) of each network.

    :param names: some of them, all when empty
    """
    found = []
    for name, (arch, options) in BACKBONE_SIZES.items():
        if not names or name in names:
            found.append((name, '', _exported(BACKBONES[arch](10, **options), example_input(
                arch, batch=1, **options))))
    for name, (family, build) in FAMILY_CASES.items():
        if not names or name in names:
            torch.manual_seed(SEED)
            found.append((name, family, _exported(
                build(), torch.zeros(1, 3, CASE_EDGE, CASE_EDGE))))
    found += [(name, '', WRITERS[name]()) for name in CONVERTED if not names or name in names]
    return found


def _exported(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Export an evaluated network as it stands; its biases and statistics are not neutral."""
    torch.manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if name.endswith('bias'):
            nn.init.uniform_(parameter, -0.2, 0.2)
    settle(network, example)
    model = export(network, example, 'preserve')
    model.ir_version = min(model.ir_version, 8)
    return model


def _session(model: onnx.ModelProto, *, optimise: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                        providers=['CPUExecutionProvider'])


def paired(first: onnx.ModelProto, second: onnx.ModelProto, *, optimise: bool,
           pairs: int = PAIRS) -> Paired:
    """Return the time of the second model over that of the first, runs interleaved."""
    given = random_inputs(first)
    return _interleaved([partial(_session(m, optimise=optimise).run, None, given)
                         for m in (first, second)], pairs)


def _interleaved(runs: Sequence[Callable[[], object]], pairs: int) -> Paired:
    times: List[Tuple[float, float]] = []
    begun = time.thread_time()
    for index in range(-WARM, MOST_PAIRS):
        if index >= pairs and time.thread_time() - begun > LEAST_S:
            break
        spent = [0.0, 0.0]
        for place in ((0, 1) if index % 2 else (1, 0)):
            begin = time.thread_time()
            runs[place]()
            spent[place] = time.thread_time() - begin
        if index >= 0:
            times.append((spent[0], spent[1]))
    fastest = np.min(times, axis=0)
    return Paired(float(fastest[1] / fastest[0]), median_ratio(times))


def differences(export_: onnx.ModelProto, fused: onnx.ModelProto) -> Dict[str, float]:
    """Return by engine how far the outputs of the fused graph are from the export's."""
    given = random_inputs(export_)
    wanted = run_model(export_, given, optimise=False)
    found = {'onnxruntime off': largest_difference(wanted, run_model(
                 fused, given, optimise=False)),
             'onnxruntime on': largest_difference(wanted, run_model(fused, given))}
    with tempfile.TemporaryDirectory() as folder:
        for engine in (*UNFUSING, 'openvino'):
            ran = _executable(engine, fused, Path(folder))
            if ran is not None:
                outputs = [np.empty(o.shape, o.dtype) for o in ran.outputs]
                ran.run([given[i.name] for i in ran.inputs], outputs)
                found[engine] = largest_difference(wanted, dict(zip(
                    (o.name for o in ran.outputs), outputs)))
    return found


def _specs(values: Sequence[onnx.ValueInfoProto]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(
        v.name, str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(
            v.type.tensor_type.elem_type))),
        tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values)


def _executable(engine: str, model: onnx.ModelProto, folder: Path) -> Optional[Executable]:
    """Compile a model for an engine of the robot's; None where it is absent or refuses."""
    path = folder / ('%s-%d.onnx' % (engine, len(list(folder.iterdir()))))
    onnx.save(model, str(path))
    segment = Segment(path.stem, '', str(path), _specs(model.graph.input),
                      _specs(model.graph.output))
    options = EngineOptions(backend=engine)
    try:
        backend = BACKENDS[engine]()
        return None if backend.refusal(segment, options) else backend.compile(segment, options)
    except (BackendError, KeyError):
        return None


def paired_on(engine: str, first: onnx.ModelProto, second: onnx.ModelProto, *,
              pairs: int = PAIRS) -> Optional[Paired]:
    """Return `paired` on another engine, one thread; None where it runs one of them not."""
    with tempfile.TemporaryDirectory() as folder:
        made = [_executable(engine, m, Path(folder)) for m in (first, second)]
        ready = [e for e in made if e is not None]
        if len(ready) < len(made):
            return None
        given = random_inputs(first)
        buffers = [([given[i.name] for i in e.inputs],
                    [np.empty(o.shape, o.dtype) for o in e.outputs]) for e in ready]
        return _interleaved([partial(e.run, *b) for e, b in zip(ready, buffers)], pairs)


def measure_fusion(names: Sequence[str] = (), *, pairs: int = PAIRS) -> List[FusionFigure]:
    """
    Measure each unfused export.

    :param names: some of them, all when empty
    :param pairs: runs of each at least; short ones go on for `LEAST_S`
    """
    figures = []
    for name, family, model in unfused_exports(names):
        fused = fuse(model)
        alone = 1.0
        if family:
            others = tuple(f for f in FAMILIES if f != family)
            alone = paired(fused.model, fuse(model, others, verify=False).model,
                           optimise=False, pairs=pairs).value
        plain = fuse(model, (), verify=False).model
        others = {e: paired_on(e, fused.model, plain, pairs=pairs) for e in UNFUSING}
        figures.append(FusionFigure(
            name, (len(model.graph.node), len(fused.model.graph.node)),
            paired(fused.model, model, optimise=False, pairs=pairs),
            paired(model, fused.model, optimise=True, pairs=pairs), family, alone,
            {e: p for e, p in others.items() if p is not None}, differences(model, fused.model)))
    return figures


def fusion_checks(figures: Sequence[FusionFigure]) -> Dict[str, Tuple[float, bool]]:
    """Return name -> (value, whether it is held) of what is asked of fusion."""
    gain = math.exp(float(np.mean([math.log(f.gain.value) for f in figures])))
    harm = max(f.harm.value for f in figures)
    most = max(d for f in figures for d in f.differences.values())
    own = [math.log(f.gain.value) for f in figures if f.name in BACKBONE_SIZES]
    checks = {'fusion_gain': (gain, gain >= GAIN_AT_LEAST),
              'fusion_harm': (harm, harm <= HARM_AT_MOST),
              'fusion_difference': (most, most <= DIFFERENCE_AT_MOST)}
    if own:
        backbones = math.exp(float(np.mean(own)))
        checks['fusion_gain_backbones'] = (backbones, backbones > 1.0)
    for engine in UNFUSING:
        theirs = [math.log(f.others[engine].value) for f in figures if engine in f.others]
        if theirs:
            mean = math.exp(float(np.mean(theirs)))
            checks['fusion_gain_on_%s' % engine] = (mean, mean > 1.0)
    for family in FAMILIES:
        best = max((f.family_gain for f in figures if f.family == family), default=0.0)
        checks['fusion_gain_%s' % family] = (best, best > 1.0)
    return checks
