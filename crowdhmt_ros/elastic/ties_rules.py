# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What single functions do to the labels of their inputs' axes, for `ties`.

A function without a rule is taken to work along each channel by itself. So whatever mixes
channels in an order of its own (a shuffle, a matrix product) needs one that fixes them.
"""
from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from crowdhmt_ros.elastic.backbones.transformer import attend
from crowdhmt_ros.elastic.trace import Shape, Traced


@dataclass(frozen=True)
class Label:
    """
    What lies along an axis.

    :param group: number before merging, see `Ties.root`
    :param repeat: places along the axis for each channel
    """

    group: int
    repeat: int = 1


Labels = Tuple[Optional[Label], ...]


class Labelled(Protocol):
    """The part of `Ties` that rules use."""

    traced: Traced
    labels: Dict[str, Labels]
    granularity: Dict[int, int]

    def root(self, group: int) -> int:
        """Return the group that a group was merged into."""

    def fix(self, label: Optional[Label], reason: str) -> None:
        """Keep a group's width, for this reason."""

    def unite(self, first: Optional[Label], second: Optional[Label], what: str) -> None:
        """Merge two groups."""

    def passed_on(self, node: fx.Node, shape: Shape) -> Labels:
        """Pass on each axis that stays as it is."""


Rule = Callable[[Labelled, fx.Node, Shape], Labels]


def name_of(node: fx.Node) -> str:
    """Name what a node calls, for a person."""
    target = node.target
    return target if isinstance(target, str) else getattr(target, '__name__', str(target))


def is_unit_layer(layer: Optional[nn.Module]) -> bool:
    """Whether a layer's weights can be sliced: plain convolutions and linear layers."""
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        even = layer.padding == 'same' and any(
            d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size))
        return layer.padding_mode == 'zeros' and not even
    return isinstance(layer, nn.Linear)


def is_batch_norm(layer: Optional[nn.Module]) -> bool:
    """Whether a layer is a batch normalisation that units take over."""
    return isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))


def is_token_norm(layer: Optional[nn.Module]) -> bool:
    """Whether a layer normalises along its last axis alone."""
    return isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1


_BY_PLACE = (nn.GroupNorm, nn.ChannelShuffle, nn.LocalResponseNorm, nn.CrossMapLRN2d, nn.Fold,
             nn.Unfold)
"""Layers, with parameters or without, for which the order of channels matters."""


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer's parameters can be cut along the channels, or it has none."""
    if is_batch_norm(layer) or is_token_norm(layer):
        return True
    count = sum(p.numel() for p in layer.parameters())
    if isinstance(layer, nn.PReLU):
        return count == 1
    return count == 0 and not isinstance(layer, _BY_PLACE)


def rule_of(node: fx.Node, layer: Optional[nn.Module]) -> Optional[Rule]:
    """Return the rule of what a node calls, None for one that works channel by channel."""
    return _RULES.get(type(layer) if layer is not None else node.target)


def _argument(node: fx.Node, index: int, name: str, default: Any) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[index] if len(node.args) > index else default


def _source(ties: Labelled, node: fx.Node) -> Tuple[Shape, Labels]:
    """Return shape and labels of what a function of one tensor reads."""
    source = node.all_input_nodes[0]
    return ties.traced.shapes.get(source.name, ()), ties.labels.get(source.name, ())


def _flatten(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    before, labels = _source(ties, node)
    layer = ties.traced.layer(node)
    if isinstance(layer, nn.Flatten):
        start, end = layer.start_dim, layer.end_dim
    else:
        start = int(_argument(node, 1, 'start_dim', 0))
        end = int(_argument(node, 2, 'end_dim', -1))
    return _merged(ties, before, labels, start % len(before), end % len(before))


def _merged(ties: Labelled, before: Shape, labels: Labels, start: int, end: int) -> Labels:
    """Lay axes one behind the other; the first one's channels then have several places."""
    inner = math.prod(before[start + 1:end + 1])
    first = labels[start]
    merged = None if first is None else Label(first.group, first.repeat * inner)
    for label in labels[start + 1:end + 1]:
        ties.fix(label, 'its channels are flattened behind another axis')
    return (*labels[:start], merged, *labels[end + 1:])


def _view(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """`x.view(n, -1)` flattens; anything else that changes the channels fixes them."""
    before, labels = _source(ties, node)
    was, now = ([i for i, extent in enumerate(s) if extent > 1] for s in (before, shape))
    if len(was) == len(now) == 1:  # a vector of gains, say, laid along another axis
        return tuple(labels[was[0]] if at == now[0] else None for at in range(len(shape)))
    if len(shape) != 2 or len(before) < 3 or shape[0] != before[0] or not _ends_open(node):
        return ties.passed_on(node, shape)
    return _merged(ties, before, labels, 1, len(before) - 1)


def _ends_open(node: fx.Node) -> bool:
    """Whether the last extent follows from the input."""
    last = _argument(node, len(node.args) - 1, 'shape', None)
    last = last[-1] if isinstance(last, (list, tuple)) and last else last
    return bool(last == -1 or isinstance(last, fx.Node))


def _moved(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """Let the function itself tell where the axes go."""
    before, labels = _source(ties, node)
    probe = torch.empty([2 + axis for axis in range(len(before))], device='meta')
    args = fx.node.map_arg(node.args, lambda n: probe)
    kwargs = fx.node.map_arg(node.kwargs, lambda n: probe)
    after = (getattr(args[0], str(node.target))(*args[1:], **kwargs)
             if node.op == 'call_method' else node.target(*args, **kwargs))  # type: ignore
    return tuple(labels[extent - 2] for extent in after.shape)


def _attribute(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """`x.T` and `x.mT` move axes."""
    if node.args[1] in ('T', 'mT', 'H', 'mH'):
        return _moved(ties, node, shape)
    return ties.passed_on(node, shape)


def _concat(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    axis = int(_argument(node, 1, 'dim', 0)) % len(shape)
    for source in node.all_input_nodes:
        ties.fix(ties.labels[source.name][axis], 'its channels are concatenated with others')
    kept: List[Optional[Label]] = []
    for at, labels in enumerate(zip(*(ties.labels[s.name] for s in node.all_input_nodes))):
        for label in labels[1:] if at != axis else ():
            ties.unite(labels[0], label, name_of(node))
        kept.append(labels[0] if at != axis and None not in labels else None)
    return tuple(kept)


def _mean(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    before, labels = _source(ties, node)
    given = _argument(node, 1, 'dim', None)
    axes = given if isinstance(given, (list, tuple)) else range(len(before)) \
        if given is None else (given,)
    gone = {int(axis) % len(before) for axis in axes}
    if len(shape) == len(before):
        return tuple(None if axis in gone else label for axis, label in enumerate(labels))
    return tuple(label for axis, label in enumerate(labels) if axis not in gone)


def _index(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """`x[:, 0]` leaves an axis out, `x[:, :, None]` adds one; some channels alone fix them."""
    before, labels = _source(ties, node)
    given = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    found: List[Optional[Label]] = []
    at = 0
    for item in given:
        if item is None:
            found.append(None)
            continue
        if not isinstance(item, (int, slice)) or at >= len(before):
            return ties.passed_on(node, shape)
        if item == slice(None):
            found.append(labels[at])
        else:
            ties.fix(labels[at], 'only some of its channels are read')
            found += [None] if isinstance(item, slice) else []
        at += 1
    return (*found, *labels[at:])


def _select(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    before, labels = _source(ties, node)
    axis = int(_argument(node, 1, 'dim', 0)) % len(before)
    ties.fix(labels[axis], 'only some of its channels are read')
    return (*labels[:axis], *labels[axis + 1:])


def _by_place(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """Keep what a function reads as it is: it works in the order of the channels."""
    for source in node.all_input_nodes:
        for label in ties.labels.get(source.name, ()):
            ties.fix(label, 'the order of its channels matters to %s' % name_of(node))
    return (None,) * len(shape)


def _attend(ties: Labelled, node: fx.Node, shape: Shape) -> Labels:
    """Attention mixes tokens, not channels; a width is a whole number of heads."""
    labels = [ties.labels[s.name][-1] for s in node.all_input_nodes]
    for label in labels[1:]:
        ties.unite(labels[0], label, 'attention')
    if labels[0] is not None:
        root = ties.root(labels[0].group)
        size = int(_argument(node, 3, 'head_size', 1))
        ties.granularity[root] = math.lcm(ties.granularity.get(root, 1), size)
    return (*ties.labels[node.all_input_nodes[0].name][:-1], labels[0])


_ATEN = torch.ops.aten
HARMLESS = {getattr, 'size', 'dim', 'numel', 'ndimension', len, operator.getitem, torch._assert,
            operator.eq, operator.mul, operator.add, operator.floordiv, _ATEN.sym_size.int}
"""Functions that ask a value's shape, where what they give is no tensor."""

_RULES: Mapping[Any, Rule] = {
    nn.Flatten: _flatten,
    **dict.fromkeys((torch.flatten, 'flatten', _ATEN.flatten.using_ints), _flatten),
    **dict.fromkeys(('view', 'reshape', torch.reshape, _ATEN.view.default,
                     _ATEN.reshape.default), _view),
    **dict.fromkeys((
        'permute', torch.permute, _ATEN.permute.default, 'transpose', torch.transpose,
        _ATEN.transpose.int, 'swapaxes', torch.swapaxes, 'swapdims', torch.swapdims, 'movedim',
        torch.movedim, 'moveaxis', torch.moveaxis, _ATEN.movedim.int, 't', torch.t), _moved),
    getattr: _attribute,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate, _ATEN.cat.default), _concat),
    **dict.fromkeys(('mean', torch.mean, _ATEN.mean.dim, 'sum', torch.sum, _ATEN.sum.dim_IntList,
                     'amax', torch.amax, _ATEN.amax.default), _mean),
    operator.getitem: _index, _ATEN.select.int: _select,
    **dict.fromkeys((
        torch.matmul, torch.bmm, torch.einsum, operator.matmul, 'matmul', 'bmm', '__matmul__',
        _ATEN.matmul.default, _ATEN.bmm.default, _ATEN.einsum.default, torch.flip, 'flip',
        _ATEN.flip.default, torch.roll, 'roll', _ATEN.roll.default, torch.cumsum, 'cumsum',
        _ATEN.cumsum.default, torch.argmax, 'argmax', _ATEN.argmax.default, torch.channel_shuffle,
        _ATEN.channel_shuffle.default, F.group_norm, _ATEN.group_norm.default,
        F.local_response_norm), _by_place),
    attend: _attend,
}
