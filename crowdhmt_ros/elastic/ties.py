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
from typing import Any, Dict, List, Optional

from torch import fx, nn

from crowdhmt_ros.elastic.ties_rules import (
    HARMLESS,
    Label,
    Labels,
    is_plain,
    is_unit_layer,
    name_of,
    rule_of,
)
from crowdhmt_ros.elastic.trace import Shape, Traced


class Ties:
    """The labels of a network, and the groups that they merge into."""

    def __init__(self, traced: Traced) -> None:
        """
        Label a network.

        :param traced: with the shapes of an example whose batch is first
        """
        self.traced = traced
        self.labels: Dict[str, Labels] = {}
        self._first: Dict[str, str] = {}
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

    def new(self, size: int) -> int:
        self._parents.append(len(self._parents))
        self.sizes.append(size)
        return len(self._parents) - 1

    def unite(self, first: Optional[Label], second: Optional[Label], what: str) -> None:
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
            self._as_before(node)
        else:
            self.labels[node.name] = self._of_call(node, shape)
            if node.op == 'call_module':
                self._as_before(node)

    def _as_before(self, node: fx.Node) -> None:
        """Tie what a layer that is called once more reads and gives to the first time."""
        first = self._first.setdefault(str(node.target), node.name)
        layer = self.traced.layer(node)
        if first == node.name or not (layer is None or list(layer.parameters())):
            return
        what = '%s, which is used more than once' % node.target
        before = self.traced.node(first)
        for old, new in zip((before, *before.all_input_nodes), (node, *node.all_input_nodes)):
            axes = range(len(self.labels[new.name])) if layer is None else (
                -1 if isinstance(layer, (nn.Linear, nn.LayerNorm)) else 1,)
            for axis in axes:
                self.unite(self.labels[old.name][axis], self.labels[new.name][axis], what)

    def _of_parameter(self, node: fx.Node, shape: Shape) -> Labels:
        """Let a parameter take part in any group that it meets along an axis."""
        if not self.traced.is_parameter(node):
            return (None,) * len(shape)
        return tuple(Label(self.new(extent)) if extent > 1 else None for extent in shape)

    def _refuse_inputs(self, node: fx.Node) -> None:
        if node.target in HARMLESS:
            return
        for source in node.all_input_nodes:
            for label in self.labels.get(source.name, ()):
                self.fix(label, 'its channels pass through %s' % name_of(node))

    def _of_call(self, node: fx.Node, shape: Shape) -> Labels:
        layer = self.traced.layer(node)
        if is_unit_layer(layer):
            return self._of_unit(node, layer, shape)
        if layer is not None and not is_plain(layer):
            return self._kept_whole(node, layer, shape)
        rule = rule_of(node, layer)
        return rule(self, node, shape) if rule else self.passed_on(node, shape)

    def _of_unit(self, node: fx.Node, layer: Any, shape: Shape) -> Labels:
        source = self.labels[node.all_input_nodes[0].name]
        if isinstance(layer, nn.Linear):
            return (*source[:-1], Label(self.new(layer.out_features)))
        for label in source[2:]:
            self.fix(label, 'its channels are places of the convolution %s' % node.target)
        return self._of_conv(node, layer, shape)

    def _of_conv(self, node: fx.Node, layer: Any, shape: Shape) -> Labels:
        source = self.labels[node.all_input_nodes[0].name]
        others: Labels = (None,) * (len(shape) - 2)
        if layer.groups == 1:
            return (source[0], Label(self.new(layer.out_channels)), *others)
        if layer.groups == layer.in_channels == layer.out_channels:
            return (source[0], source[1], *others)
        reason = 'it goes through the grouped convolution %s' % node.target
        self.fix(source[1], reason)
        label = Label(self.new(layer.out_channels))
        self.fix(label, 'it comes from the grouped convolution %s' % node.target)
        return (source[0], label, *others)

    def _kept_whole(self, node: fx.Node, layer: nn.Module, shape: Shape) -> Labels:
        for source in node.all_input_nodes:
            for label in self.labels.get(source.name, ()):
                self.fix(label, '%s is a %s, which is kept whole'
                         % (node.target, type(layer).__name__))
        return (None,) * len(shape)

    def passed_on(self, node: fx.Node, shape: Shape) -> Labels:
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
                        self.unite(kept[at], label, name_of(node))
                    kept[at] = label
                elif not _is_reduced(before, shape, axis):
                    self.fix(label, 'its channels pass through %s' % name_of(node))
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
                             % name_of(node))
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
