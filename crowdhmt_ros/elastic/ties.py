# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which channels of a traced network must scale together (E1, P III-A1).

Each axis of each value carries a label: the group whose channels lie along it. Layers make
groups, functions pass labels on, and where two labels meet the groups become one. Where the
machinery cannot follow - channels concatenated, reshaped, shuffled - it fixes the width and
says why. What it believes is tried afterwards (`make_elastic.verify_widths`).
"""
from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import torch
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


class Ties:
    """The labels of a network, and the groups that they merge into."""

    def __init__(self, traced: Traced) -> None:
        """
        Label a network.

        :param traced: with the shapes of an example whose batch is first
        """
        self.traced = traced
        self.labels: Dict[str, Labels] = {}
        self.made: Dict[str, int] = {}
        self.sizes: List[int] = []
        self.granularity: Dict[int, int] = {}
        self.fixed: Dict[int, str] = {}
        self._parents: List[int] = []
        for node in traced.module.graph.nodes:
            self._visit(node)

    def root(self, group: int) -> int:
        """Return the group that a group was merged into."""
        while self._parents[group] != group:
            group = self._parents[group]
        return group

    def label(self, node: str, axis: int) -> Optional[Label]:
        """Return what lies along an axis of a node's value, None for something of fixed size."""
        labels = self.labels.get(node, ())
        if not -len(labels) <= axis < len(labels):
            return None
        found = labels[axis]
        return None if found is None else Label(self.root(found.group), found.repeat)

    def fix(self, label: Optional[Label], reason: str) -> None:
        """Keep a group's width, for this reason; an earlier one stands."""
        if label is not None:
            self.fixed.setdefault(self.root(label.group), reason)

    def _new(self, size: int) -> int:
        self._parents.append(len(self._parents))
        self.sizes.append(size)
        return len(self._parents) - 1

    def _unite(self, first: Optional[Label], second: Optional[Label], what: str) -> None:
        """Merge two groups; what meets an axis of fixed size, or another repeat, is fixed."""
        if first is None or second is None or first.repeat != second.repeat:
            for label in (first, second):
                self.fix(label, 'its channels meet others of fixed number in %s' % what)
            return
        a, b = self.root(first.group), self.root(second.group)
        if a == b:
            return
        low, high = min(a, b), max(a, b)
        self._parents[high] = low
        if high in self.fixed:
            self.fixed.setdefault(low, self.fixed.pop(high))
        grain = math.lcm(self.granularity.get(a, 1), self.granularity.get(b, 1))
        self.granularity[low] = grain

    def _shape(self, node: fx.Node) -> Optional[Shape]:
        return self.traced.shapes.get(node.name)

    def _visit(self, node: fx.Node) -> None:
        shape = self._shape(node)
        if node.op == 'output':
            for source in node.all_input_nodes:
                for label in self.labels.get(source.name, ()):
                    self.fix(label, 'it is what the network gives')
        elif shape is None:
            self._refuse_inputs(node)
        elif node.op == 'placeholder':
            self.labels[node.name] = (None,) * len(shape)
        elif node.op == 'get_attr':
            self.labels[node.name] = self._of_parameter(node, shape)
        else:
            self.labels[node.name] = self._of_call(node, shape)

    def _of_parameter(self, node: fx.Node, shape: Shape) -> Labels:
        """Let a parameter take part in any group that it meets along an axis."""
        made = tuple(Label(self._new(extent)) if extent > 1 else None for extent in shape)
        self.made[node.name] = -1
        return made

    def _refuse_inputs(self, node: fx.Node) -> None:
        if node.target in _HARMLESS:
            return
        for source in node.all_input_nodes:
            for label in self.labels.get(source.name, ()):
                self.fix(label, 'its channels pass through %s' % _name(node))

    def _of_call(self, node: fx.Node, shape: Shape) -> Labels:
        layer = self.traced.layer(node)
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            return self._of_conv(node, layer, shape)
        if isinstance(layer, nn.Linear):
            source = self.labels[node.all_input_nodes[0].name]
            self.made[node.name] = self._new(layer.out_features)
            return (*source[:-1], Label(self.made[node.name]))
        if layer is not None and not _is_plain(layer):
            return self._kept_whole(node, layer, shape)
        rule = _RULES.get(_key(node, layer))
        return rule(self, node, shape) if rule else self._passed_on(node, shape)

    def _of_conv(self, node: fx.Node, layer: Any, shape: Shape) -> Labels:
        source = self.labels[node.all_input_nodes[0].name]
        others: Labels = (None,) * (len(shape) - 2)
        if layer.groups == 1:
            self.made[node.name] = self._new(layer.out_channels)
            return (source[0], Label(self.made[node.name]), *others)
        if layer.groups == layer.in_channels == layer.out_channels:
            label = source[1]
            self.made[node.name] = -1 if label is None else label.group
            return (source[0], label, *others)
        reason = 'it goes through the grouped convolution %s' % node.target
        self.fix(source[1], reason)
        self.made[node.name] = self._new(layer.out_channels)
        label = Label(self.made[node.name])
        self.fix(label, 'it comes from the grouped convolution %s' % node.target)
        return (source[0], label, *others)

    def _kept_whole(self, node: fx.Node, layer: nn.Module, shape: Shape) -> Labels:
        for source in node.all_input_nodes:
            for label in self.labels.get(source.name, ()):
                self.fix(label, '%s is a %s, which is kept whole'
                         % (node.target, type(layer).__name__))
        return (None,) * len(shape)

    def _passed_on(self, node: fx.Node, shape: Shape) -> Labels:
        """A function passes an axis on where it and what lies before it stay as they are."""
        kept: List[Optional[Label]] = [None] * len(shape)
        sources = [s for s in node.all_input_nodes if s.name in self.labels]
        widest = max((len(self._shape(s) or ()) for s in sources), default=0)
        for source in sources:
            before = self._shape(source) or ()
            lead = len(shape) - len(before) if len(before) < widest else 0
            for axis, label in enumerate(self.labels[source.name]):
                if label is None:
                    continue
                at = axis + lead
                if at < len(shape) and _stays(before, shape, axis, lead):
                    if kept[at] is not None:
                        self._unite(kept[at], label, _name(node))
                    kept[at] = label
                elif not _is_reduced(before, shape, axis):
                    self.fix(label, 'its channels pass through %s' % _name(node))
        self._meet_fixed(node, sources, kept, shape)
        return tuple(kept)

    def _meet_fixed(self, node: fx.Node, sources: List[fx.Node], kept: List[Optional[Label]],
                    shape: Shape) -> None:
        """Fix a label where another operand of the same extent has none."""
        for source in sources:
            before, labels = self._shape(source) or (), self.labels[source.name]
            lead = len(shape) - len(before)
            for axis, label in enumerate(labels):
                at = axis + lead
                if (label is None and 0 < at < len(shape) and kept[at] is not None
                        and before[axis] == shape[at] > 1):
                    self.fix(kept[at], 'its channels meet others of fixed number in %s'
                             % _name(node))
                    kept[at] = None


def _stays(before: Shape, after: Shape, axis: int, lead: int) -> bool:
    at = axis + lead
    if before[axis] != after[at]:
        return False
    return all(b in (1, a) for b, a in zip(before[:axis], after[lead:at]))


def _is_reduced(before: Shape, after: Shape, axis: int) -> bool:
    """Whether an axis is summed away, all before it kept."""
    if len(after) == len(before):
        return after[axis] == 1 and after[:axis] == before[:axis]
    return (len(after) == len(before) - 1 and after[:axis] == before[:axis]
            and after[axis:] == before[axis + 1:])


_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer's parameters can be cut along the channels, or it has none."""
    if isinstance(layer, nn.LayerNorm):
        return len(layer.normalized_shape) == 1
    count = sum(p.numel() for p in layer.parameters())
    return isinstance(layer, _PLAIN) or count == 0 or (isinstance(layer, nn.PReLU) and count == 1)


def _name(node: fx.Node) -> str:
    target = node.target
    return target if isinstance(target, str) else getattr(target, '__name__', str(target))


def _key(node: fx.Node, layer: Optional[nn.Module]) -> Any:
    return type(layer) if layer is not None else node.target


def _argument(node: fx.Node, index: int, name: str, default: Any) -> Any:
    if name in node.kwargs:
        return node.kwargs[name]
    return node.args[index] if len(node.args) > index else default


def _flatten(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    source = node.all_input_nodes[0]
    before = ties.traced.shapes[source.name]
    labels = ties.labels[source.name]
    layer = ties.traced.layer(node)
    if isinstance(layer, nn.Flatten):
        start, end = layer.start_dim, layer.end_dim
    else:
        start = int(_argument(node, 1, 'start_dim', 0))
        end = int(_argument(node, 2, 'end_dim', -1))
    start, end = start % len(before), end % len(before)
    inner = math.prod(before[start + 1:end + 1])
    first = labels[start]
    merged = None if first is None else Label(first.group, first.repeat * inner)
    for label in labels[start + 1:end + 1]:
        ties.fix(label, 'its channels are flattened behind another axis')
    return (*labels[:start], merged, *labels[end + 1:])


def _view(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    """`x.view(n, -1)` flattens; anything else that changes the channels fixes them."""
    source = node.all_input_nodes[0]
    before, labels = ties.traced.shapes[source.name], ties.labels[source.name]
    if len(shape) != 2 or len(before) < 3 or shape[0] != before[0] or not _ends_open(node):
        return ties._passed_on(node, shape)
    first = labels[1]
    repeat = math.prod(before[2:])
    return (labels[0], None if first is None else Label(first.group, first.repeat * repeat))


def _ends_open(node: fx.Node) -> bool:
    last = node.args[-1]
    return bool(last == -1 or (isinstance(last, (list, tuple)) and last and last[-1] == -1))


def _permute(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    given = node.args[1:] if not isinstance(node.args[1], (list, tuple)) else node.args[1]
    labels = ties.labels[node.all_input_nodes[0].name]
    return tuple(labels[int(axis)] for axis in given)  # type: ignore[arg-type]


def _transpose(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    labels = list(ties.labels[node.all_input_nodes[0].name])
    a, b = int(_argument(node, 1, 'dim0', 0)), int(_argument(node, 2, 'dim1', 1))
    labels[a], labels[b] = labels[b], labels[a]
    return tuple(labels)


def _concat(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    axis = int(_argument(node, 1, 'dim', 0)) % len(shape)
    for source in node.all_input_nodes:
        ties.fix(ties.labels[source.name][axis], 'its channels are concatenated with others')
    kept = ties._passed_on(node, shape)
    return tuple(None if at == axis else label for at, label in enumerate(kept))


def _mean(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    source = node.all_input_nodes[0]
    before, labels = ties.traced.shapes[source.name], ties.labels[source.name]
    given = _argument(node, 1, 'dim', None)
    axes = given if isinstance(given, (list, tuple)) else range(len(before)) \
        if given is None else (given,)
    gone = {int(axis) % len(before) for axis in axes}
    if len(shape) == len(before):
        return tuple(None if axis in gone else label for axis, label in enumerate(labels))
    return tuple(label for axis, label in enumerate(labels) if axis not in gone)


def _attend(ties: Ties, node: fx.Node, shape: Shape) -> Labels:
    """Attention mixes tokens, not channels; a width is a whole number of heads."""
    labels = [ties.labels[s.name][-1] for s in node.all_input_nodes]
    for label in labels[1:]:
        ties._unite(labels[0], label, 'attention')
    if labels[0] is not None:
        root = ties.root(labels[0].group)
        size = int(_argument(node, 3, 'head_size', 1))
        ties.granularity[root] = math.lcm(ties.granularity.get(root, 1), size)
    return (*ties.labels[node.all_input_nodes[0].name][:-1], labels[0])


_HARMLESS = {getattr, 'size', 'dim', operator.getitem, torch._assert, operator.eq,
             operator.mul, operator.add, operator.floordiv}
"""Functions that ask a value's shape and give no tensor."""

Rule = Callable[[Ties, fx.Node, Shape], Labels]
_RULES: Mapping[Any, Rule] = {
    nn.Flatten: _flatten, torch.flatten: _flatten, 'flatten': _flatten,
    'view': _view, 'reshape': _view, torch.reshape: _view,
    torch.ops.aten.view.default: _view, torch.ops.aten.reshape.default: _view,
    torch.ops.aten.flatten.using_ints: _flatten,
    'permute': _permute, torch.permute: _permute, torch.ops.aten.permute.default: _permute,
    'transpose': _transpose, torch.transpose: _transpose,
    torch.ops.aten.transpose.int: _transpose,
    torch.cat: _concat, torch.concat: _concat, torch.ops.aten.cat.default: _concat,
    'mean': _mean, torch.mean: _mean, torch.ops.aten.mean.dim: _mean, 'sum': _mean,
    torch.sum: _mean, 'amax': _mean, torch.amax: _mean,
    attend: _attend,
}
