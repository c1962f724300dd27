# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ResNet18 and its variants as graphs, for the ladder of the engine bench.

The original is what PyTorch exports unfused. Variants come out of the family (`elastic`) with
tensors of their own, exported likewise and cleaned, so that they too have each normalisation as an
operator. None is trained: neither time nor memory hangs on what they learnt.
"""
from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

import onnx
import torch
from torch import nn

from benchmarks._elastic_transform_torch import export, settle
from crowdhmt_ros.elastic.backbones import BACKBONES
from crowdhmt_ros.elastic.lone import lone
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.store import Reference, elastic_of
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.graph.fusion import fuse
from crowdhmt_ros.graph.split import split
from crowdhmt_ros.types import OperatorChoice, Variant

EDGE, WIDTH, CLASSES, STAGES, BATCH = 224, 64, 1000, 4, 2
OPSET, IR_VERSION = 17, 8
ORIGINAL, LOW_RANK, PRUNED, SMALL = 'original', 'low_rank', 'pruned', 'small'
CHOICES: Mapping[str, OperatorChoice] = {
    LOW_RANK: svd(0.29), PRUNED: channel(0.7), SMALL: channel(0.5)}
"""With about the parameters of the paper's Table IV: 33, 51 and 24 % of the original's."""
Said = Dict[str, Any]


class _Fixed(nn.Module):
    """A variant of a family as a network of one input."""

    def __init__(self, net: Supernet, variant: Variant, example: torch.Tensor) -> None:
        super().__init__()
        self.net, self.variant = net, variant
        self.norms = FixedNorms(calibrate(net, [variant], [example]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        scores: torch.Tensor = self.net(x, self.variant, self.norms, every_exit=False)[-1]
        return scores


def graphs(folder: Path, width: int) -> Dict[str, Said]:
    """
    Write every graph of the ladder.

    :param width: channels of the network's stem
    :returns: name -> what a child is told of it; 'NAME', 'NAME+' fused, and '/head' and '/tail' of
        those that are shared with a peer
    """
    torch.manual_seed(0)
    made: Dict[str, onnx.ModelProto] = {ORIGINAL: _original(width), **_variants(width)}
    made.update({name + '+': fuse(model).model for name, model in made.items()})
    for name in (ORIGINAL + '+', SMALL, SMALL + '+'):
        made[name + '/head'], made[name + '/tail'] = split(made[name], [_stem(made[name])])
    return {name: _saved(model, name, folder) for name, model in made.items()}


def _original(width: int) -> onnx.ModelProto:
    example = torch.zeros(1, 3, EDGE, EDGE)
    net = settle(BACKBONES['resnet18'](CLASSES, width=width, edge=EDGE), example)
    model = export(net, example, 'preserve')
    model.ir_version = IR_VERSION
    return model


def _variants(width: int) -> Dict[str, onnx.ModelProto]:
    family = elastic_of(Reference('resnet18', CLASSES, {'width': width, 'edge': EDGE}), ())
    images = torch.randn(BATCH, 3, EDGE, EDGE)
    made = {}
    for name, choice in CHOICES.items():
        variant = Variant(((choice,),) * STAGES, 0)
        net = lone(family, variant, seed=0).eval()
        made[name] = fuse(_unfolded(_Fixed(net, variant, images), images[:1]), ()).model
    return made


def _unfolded(net: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(net.eval(), (example,), buffer,  # type: ignore[arg-type]
                          dynamo=False, opset_version=OPSET,
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                          input_names=['input'])
    model = onnx.load_model_from_string(buffer.getvalue())
    model.ir_version = IR_VERSION
    return model


def _stem(model: onnx.ModelProto) -> str:
    """Return what the stem gives: its pool's output, the first place where little crosses."""
    return str(next(n for n in model.graph.node if n.op_type == 'MaxPool').output[0])


def _specs(values: Sequence[onnx.ValueInfoProto]) -> Sequence[Tuple[str, str, Sequence[int]]]:
    return [(v.name, 'float32', [d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in values]


def _saved(model: onnx.ModelProto, name: str, folder: Path) -> Said:
    """Write a graph in one file, as users have it, and with its weights beside it, as robots."""
    title = name.replace('/', '-').replace('+', '-fused')
    (folder / title).mkdir()  # weights lie alone: the engine keeps its own forms beside them
    plain, beside = folder / (title + '.onnx'), folder / title / 'graph.onnx'
    onnx.save_model(model, str(plain))
    onnx.save_model(model, str(beside), save_as_external_data=True, location='initialisers.bin',
                    size_threshold=1024)
    weights = beside.with_name('initialisers.bin')
    return {'name': title, 'sha256': hashlib.sha256(plain.read_bytes()).hexdigest(),
            'path': str(beside), 'plain_path': str(plain),
            'weight_bytes': weights.stat().st_size if weights.exists() else 0,
            'inputs': _specs(model.graph.input), 'outputs': _specs(model.graph.output)}
