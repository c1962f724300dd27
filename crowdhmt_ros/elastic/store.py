# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Families as files: shared tensors, statistics, and what network they belong to. Offline.

A file holds tensors, numbers and texts only; reading one runs no code of it. A family of a
reference backbone opens by itself; tensors of a user's own network are loaded into a net that
`make_elastic` made of that network.
"""
from __future__ import annotations

import math
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from torch import nn

from crowdhmt_ros.elastic.backbones import BACKBONES, example_input
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.scaling import InputScaling
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching import checkpoint
from crowdhmt_ros.errors import ConfigError, DataError, ExportError

FAMILY_VERSION = 1
NAMED = 3
"""Tensors that a message names; the rest is counted."""
_DAMAGED = (EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError,
            pickle.UnpicklingError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Reference:
    """
    A reference backbone, as it is built.

    :param name: a key of `BACKBONES`
    :param classes: that it tells apart
    :param options: of its builder
    """

    name: str
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """
        Build it, untrained.

        :raises ConfigError: no such backbone, or options that do not fit
        """
        self.example()
        return BACKBONES[self.name](self.classes, **self.options)

    def example(self) -> torch.Tensor:
        """Return a batch of two zero inputs."""
        return example_input(self.name, **self.options)


@dataclass(frozen=True)
class Header:
    """
    What a family's file says about it.

    :param backbone: None for a user's own network
    :param exits: numbers of stages after which it may answer early
    :param scaling: of its inputs while it learnt; None where the file does not say
    """

    backbone: Optional[Reference]
    exits: Tuple[int, ...]
    scaling: Optional[InputScaling] = None


def elastic_of(backbone: Reference, exits: Tuple[int, ...]) -> Supernet:
    """
    Make a reference backbone elastic, untrained.

    :param exits: numbers of stages after which it may answer early
    :raises ConfigError: no such backbone, or options that do not fit
    """
    return make_elastic(backbone.build(), backbone.example(), exits=exits).net


def save_family(net: Supernet, path: Path, *, backbone: Optional[Reference] = None,
                statistics: Optional[Statistics] = None,
                scaling: Optional[InputScaling] = None) -> None:
    """
    Write a family; an interrupted write leaves the old file whole.

    :param backbone: it was made of; None for a user's own network
    :param statistics: of its calibrated variants
    :param scaling: of its inputs, settled; None for unknown
    """
    known = {} if backbone is None else {
        'name': backbone.name, 'classes': backbone.classes, 'options': dict(backbone.options)}
    checkpoint.write(path, {
        'family': FAMILY_VERSION, 'backbone': known, 'exits': list(net.structure.exits[:-1]),
        'tensors': {name: net.tensor(name).detach().cpu().clone() for name in net.names()},
        'kept': {n: v.detach().cpu().clone() for n, v in net.kept.state_dict().items()},
        'statistics': {k: [m.cpu(), v.cpu()] for k, (m, v) in (statistics or {}).items()},
        **({} if scaling is None else {'scaling': {
            'mean': list(scaling.mean), 'std': list(scaling.std), 'scale': scaling.scale}})})


def load_family(path: Path) -> Tuple[Supernet, Dict[str, Tuple[torch.Tensor, torch.Tensor]],
                                     Header]:
    """
    Open a family of a reference backbone.

    :returns: the net, its statistics, what the file says
    :raises DataError: no family, a damaged one, or one of a user's own network
    """
    state = _read(path)
    header = _header(path, state)
    if header.backbone is None:
        raise DataError("%s holds the family of a network of its user's own; make that network "
                        'elastic and load the tensors into it' % path)
    try:
        net = elastic_of(header.backbone, header.exits)
    except (ConfigError, ExportError, TypeError) as error:
        raise DataError('%s names a backbone that cannot be built: %s' % (path, error)) from error
    _fill(net, path, state)
    return net, _statistics(path, state), header


def load_tensors(net: Supernet, path: Path) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    """
    Load a family's tensors into a net that was made of the same network.

    :returns: statistics of its calibrated variants
    :raises DataError: no family, a damaged one, or one of another network; the net is as before
    """
    state = _read(path)
    _fill(net, path, state)
    return _statistics(path, state)


def take_over(net: Supernet, source: Supernet) -> Tuple[str, ...]:
    """
    Copy the tensors of another family that have this one's names and shapes.

    :param source: of the same backbone, for other classes say
    :returns: names of this net's tensors that the other one did not have
    """
    left = []
    with torch.no_grad():
        for name in net.names():
            own = net.tensor(name)
            if name in source.names() and source.tensor(name).shape == own.shape:
                own.copy_(source.tensor(name))
            else:
                left.append(name)
    net.running.clear()
    return tuple(left)


def _read(path: Path) -> Dict[str, Any]:
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise DataError('family %s cannot be read (%s)' % (
            path, error.strerror or 'not a file of PyTorch')) from error
    except _DAMAGED as error:
        raise DataError('%s is no file of a family, or is damaged; give a file that training '
                        'wrote' % path) from error
    if not isinstance(state, dict) or 'family' not in state or not all(
            isinstance(state.get(part), dict)
            for part in ('backbone', 'tensors', 'kept', 'statistics')):
        raise DataError('%s is no file of a family; give a file that training wrote' % path)
    if state['family'] != FAMILY_VERSION:
        raise DataError('%s is a family of version %s, this program reads %d; train it anew'
                        % (path, state['family'], FAMILY_VERSION))
    return state


def _header(path: Path, state: Mapping[str, Any]) -> Header:
    known = state['backbone']
    try:
        exits = tuple(int(e) for e in state['exits'])
        backbone = Reference(str(known['name']), int(known['classes']),
                             dict(known['options'])) if known else None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError('%s does not say what network it belongs to; give a file that training '
                        'wrote' % path) from error
    return Header(backbone, exits, _scaling(path, state.get('scaling')))


def _scaling(path: Path, said: Any) -> Optional[InputScaling]:
    """Read how inputs are scaled; older files do not say."""
    if said is None:
        return None
    try:
        mean, std = (tuple(float(v) for v in said[name]) for name in ('mean', 'std'))
        scaling = InputScaling(mean, std, float(said['scale']))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError('scaling of inputs in %s is damaged; give a file that training wrote'
                        % path) from error
    if not mean or len(mean) != len(std) or not all(
            map(math.isfinite, (*mean, *std, scaling.scale))) or min(*std, scaling.scale) <= 0:
        raise DataError('scaling of inputs in %s is damaged; give a file that training wrote'
                        % path)
    return scaling


def _fill(net: Supernet, path: Path, state: Mapping[str, Any]) -> None:
    """Overwrite all tensors of a net, or none."""
    own = {name: net.tensor(name) for name in net.names()}
    kept = net.kept.state_dict()
    problems = _differences(own, state['tensors']) + _differences(kept, state['kept'])
    if problems:
        more = len(problems) - NAMED
        raise DataError('%s belongs to another network: %s%s' % (
            path, ', '.join(problems[:NAMED]), ' and %d more' % more if more > 0 else ''))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state['tensors'][name])
    net.kept.load_state_dict(state['kept'])
    net.running.clear()  # statistics that came with the module are not those of these tensors


def _differences(own: Mapping[str, torch.Tensor], given: Mapping[str, Any]) -> List[str]:
    found = ['%s is missing' % name for name in own if name not in given]
    found += ['%s is unknown' % name for name in given if name not in own]
    for name, tensor in own.items():
        value = given.get(name)
        if name in given and (not isinstance(value, torch.Tensor)
                              or value.shape != tensor.shape):
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else 'no tensor'
            found.append('%s is %s, not %s' % (name, shape, tuple(tensor.shape)))
    return found


def _statistics(path: Path, state: Mapping[str, Any]
                ) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
    found = {}
    for key, pair in state['statistics'].items():
        if not (isinstance(pair, list) and len(pair) == 2
                and all(isinstance(v, torch.Tensor) and v.ndim == 1 for v in pair)):
            raise DataError('statistics of %s in %s are damaged; give a file that training wrote'
                            % (key, path))
        found[str(key)] = (pair[0], pair[1])
    return found
