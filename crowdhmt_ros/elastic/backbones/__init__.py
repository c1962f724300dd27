# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Reference backbones: plain networks, treated like any user's own (P III-A1, P IV-A). Offline.

They hold no elastic logic: what makes them elastic traces them from outside. All layers are
submodules of their own; each network is traced by torch.fx and exported to ONNX opset 17.
"""
from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Tuple, Union

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones.initialise import check_counts
from crowdhmt_ros.elastic.backbones.mobilenet import mobilenet_v2
from crowdhmt_ros.elastic.backbones.motion import motion_cnn
from crowdhmt_ros.elastic.backbones.resnet import residual, resnet18, resnet34
from crowdhmt_ros.elastic.backbones.spectrogram import spectrogram_cnn
from crowdhmt_ros.elastic.backbones.transformer import vision_transformer
from crowdhmt_ros.elastic.backbones.vgg import vgg16
from crowdhmt_ros.errors import ConfigError

BACKBONES: Dict[str, Callable[..., nn.Module]] = {
    'residual': residual,
    'resnet18': resnet18,
    'resnet34': resnet34,
    'vgg16': vgg16,
    'mobilenet_v2': mobilenet_v2,
    'motion_cnn': motion_cnn,
    'spectrogram_cnn': spectrogram_cnn,
    'vision_transformer': vision_transformer,
}
"""Name -> builder(classes, *, options)."""

Axis = Union[int, str]
"""A fixed length, or the option of the builder that says it."""
_IMAGE: Tuple[Axis, ...] = (3, 'edge', 'edge')
_AXES: Dict[str, Tuple[Axis, ...]] = {
    'motion_cnn': ('channels', 'samples'),
    'spectrogram_cnn': (1, 'mels', 'frames'),
}


def example_input(name: str, *, batch: int = 2, **options: Any) -> torch.Tensor:
    """
    Make a zero tensor of the shape that a backbone takes.

    :param name: of the backbone, a key of `BACKBONES`
    :param batch: length of the first axis
    :param options: those the backbone is built with; left out, its defaults
    :returns: float32 (batch, 3, edge, edge), (batch, channels, samples) or
        (batch, 1, mels, frames)
    :raises ConfigError: no such backbone, or it has no such option
    """
    if name not in BACKBONES:
        raise ConfigError('no backbone is called %r: there are %s'
                          % (name, ', '.join(BACKBONES)))
    known = {p.name: p.default for p in inspect.signature(BACKBONES[name]).parameters.values()
             if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for option in options:
        if option not in known:
            raise ConfigError('%s has no option %r: it has %s' % (name, option, ', '.join(known)))
    known.update(options)
    shape = [a if isinstance(a, int) else known[a] for a in _AXES.get(name, _IMAGE)]
    check_counts(batch=batch, shape=shape)
    return torch.zeros(batch, *shape)
