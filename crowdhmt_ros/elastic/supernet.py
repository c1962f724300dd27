# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The supernet: shared tensors from which each variant takes parts (E1, E4, P III-A1).

A variant is passed along with each call; no layer remembers which part of it is in use. What a
layer does is a program (`steps`), which training runs here and `extraction` turns into layers.
"""
from __future__ import annotations

import copy
import math
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from crowdhmt_ros.elastic.exits import EXIT_DROPOUT, exit_name, pooled
from crowdhmt_ros.elastic.norms import BatchNorms, Norms
from crowdhmt_ros.elastic.plan import NetPlan, resolve
from crowdhmt_ros.elastic.steps import Apply, Concat, Part, Program
from crowdhmt_ros.elastic.structure import Structure, Unit
from crowdhmt_ros.elastic.trace import Traced
from crowdhmt_ros.types import Variant

LEAST_VECTOR = 8
"""Channels that fill a vector unit with float32."""
PLANS_KEPT = 256
"""Resolved variants that are kept; a plan is a pure function of the variant."""
Observer = Callable[[str, torch.Tensor, torch.Tensor], None]
"""Called with a unit's node, the value that it reads, and what its weights make of it."""
_CONVS = {1: F.conv1d, 2: F.conv2d}


class Supernet(nn.Module):
    """The shared tensors of a family, and how its variants compute."""

    def __init__(self, traced: Traced, structure: Structure, *, seed: int = 0) -> None:
        """
        Take over the backbone's parameters; exits start at random.

        :param traced: the backbone
        :param structure: of it
        :param seed: of the exits' weights
        """
        super().__init__()
        self.structure = structure
        self.graph = traced.module.graph
        self.method = traced.method
        self.weights = nn.ParameterDict()
        self.kept = nn.ModuleDict()
        self.running: Dict[str, Tuple[torch.Tensor, torch.Tensor]] = {}
        self._plans: OrderedDict[Variant, NetPlan] = OrderedDict()
        self.axes = {s.border: s.axis for s in structure.stages}
        self.epsilons = {c.node: c.epsilon for c in structure.cuttables}
        self._nodes: Dict[str, fx.Node] = {n.name: n for n in self.graph.nodes}
        self._take_over(traced)
        self._add_exits(seed)
        self.train()  # layers that are kept come from a network in evaluation

    def _take_over(self, traced: Traced) -> None:
        for unit in self.structure.units:
            self._add_layer(traced, unit)
        taken = {u.node for u in self.structure.units} | {
            u.norm_node for u in self.structure.units}
        for cuttable in self.structure.cuttables:
            taken.add(cuttable.node)
            for name in cuttable.names:
                owner, _, leaf = name.rpartition('.')
                self.add(name, getattr(traced.module.get_submodule(owner), leaf))
        for node in self.graph.nodes:
            layer = traced.layer(node)
            if layer is not None and node.name not in taken:
                self.kept[_key(str(node.target))] = copy.deepcopy(layer)
            elif node.op == 'get_attr' and node.name not in taken:
                owner, _, leaf = str(node.target).rpartition('.')
                value = getattr(traced.module.get_submodule(owner), leaf)
                self.register_buffer(_constant(str(node.target)), value.detach().clone(),
                                     persistent=False)

    def _add_layer(self, traced: Traced, unit: Unit) -> None:
        paths = [p for p in (unit.name if unit.kind != 'norm' else '', unit.norm) if p]
        for path in paths:
            for name, value in traced.module.get_submodule(path).named_parameters():
                self.add('%s.%s' % (path, name), value)
            buffers = dict(traced.module.get_submodule(path).named_buffers())
            if 'running_mean' in buffers:
                self.running[path] = (buffers['running_mean'].clone(),
                                      buffers['running_var'].clone())

    def _add_exits(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for index, stages in enumerate(self.structure.exits[:-1]):
            features = self.structure.stages[stages - 1].channels
            weight = torch.randn(self.structure.classes, features, generator=generator)
            self.add(exit_name(index) + '.weight', weight * features ** -0.5)
            self.add(exit_name(index) + '.bias', torch.zeros(self.structure.classes))

    def add(self, name: str, value: torch.Tensor) -> None:
        """Add a shared tensor, or replace the one of that name."""
        self.weights[_key(name)] = nn.Parameter(value.detach().clone().float().contiguous())

    def tensor(self, name: str) -> nn.Parameter:
        """Return a shared tensor by its name."""
        found: nn.Parameter = self.weights[_key(name)]
        return found

    def has(self, name: str) -> bool:
        """Tell whether there is a shared tensor of that name."""
        return _key(name) in self.weights

    def names(self) -> List[str]:
        """Names of all shared tensors."""
        return [name.replace('/', '.') for name in self.weights]

    def whole(self) -> Variant:
        """Describe the backbone itself."""
        return Variant(((),) * len(self.structure.stages), len(self.structure.exits) - 1)

    def plan(self, variant: Variant) -> NetPlan:
        """
        Resolve a variant.

        :raises ExportError: it does not fit the network
        """
        if variant not in self._plans:
            self._plans[variant] = resolve(self.structure, self.graph, variant)
            while len(self._plans) > PLANS_KEPT:
                self._plans.popitem(last=False)
        return self._plans[variant]

    def forward(self, x: torch.Tensor, variant: Variant, norms: Optional[Norms] = None, *,
                every_exit: bool = True) -> List[Any]:
        """
        Run a variant.

        :param x: (n, ...), as the example that the network was traced with
        :param variant: which part of the family
        :param norms: where normalisations get their statistics; None for the batch
        :param every_exit: also answer at the earlier exits
        :returns: what each exit gives, (n, classes), the variant's own last
        """
        return self.run(x, self.plan(variant), norms, every_exit=every_exit)

    def run(self, x: torch.Tensor, plan: NetPlan, norms: Optional[Norms] = None, *,
            every_exit: bool = True, observe: Optional[Observer] = None) -> List[Any]:
        """
        Run a plan, as `forward` does a variant.

        :param observe: told what each unit reads and gives, before normalisation
        """
        return _Run(self, plan, norms or BatchNorms(), observe).run(x, every_exit)

    def node(self, name: str) -> fx.Node:
        """Return a node of the graph by its name."""
        nodes: Dict[str, fx.Node] = self._nodes
        return nodes[name]

    def kept_layer(self, path: str) -> nn.Module:
        """Return a layer that is kept whole, by its path in the backbone."""
        return self.kept[_key(path)]

    def constant(self, path: str) -> torch.Tensor:
        """Return a tensor of the backbone that is no parameter, by its path there."""
        found: torch.Tensor = self.get_buffer(_constant(path))
        return found

    def part(self, part: Part) -> torch.Tensor:
        """Return a slice of a shared tensor."""
        return self.tensor(part.tensor)[tuple(slice(a, b) for a, b in part.slices)]


def _key(name: str) -> str:
    return name.replace('.', '/')


def _constant(path: str) -> str:
    return 'constant/' + _key(path)


class _Run:
    """One pass through the graph; lives for one call."""

    def __init__(self, net: Supernet, plan: NetPlan, norms: Norms,
                 observe: Optional[Observer]) -> None:
        self.net, self.plan, self.norms, self.observe = net, plan, norms, observe
        self.values: Dict[str, Any] = {}

    def run(self, x: torch.Tensor, every_exit: bool) -> List[Any]:
        exits = {self.plan.alias(border): (number, border, width)
                 for number, border, width in self.plan.exits}
        last = self.plan.exits[-1][0] if self.plan.exits and not self.plan.is_whole else -1
        answers = []
        for name in self.plan.nodes:
            self.values[name] = self._value(self.net.node(name), x)
            if name in exits:  # at once: a later layer may work in place
                number, border, width = exits[name]
                if every_exit or number == last:
                    answers.append(self._exit(border, number, width))
        if self.plan.is_whole:
            answers.append(self._end())
        return answers

    def _end(self) -> Any:
        end = next(n for n in self.net.graph.nodes if n.op == 'output')
        return _mutable(fx.node.map_arg(end.args[0], self._read))

    def _read(self, node: fx.Node) -> Any:
        return self.values[self.plan.alias(node.name)]

    def _exit(self, border: str, number: int, width: int) -> torch.Tensor:
        x = pooled(self.values[self.plan.alias(border)], self.net.axes[border])
        x = F.dropout(x, EXIT_DROPOUT, self.net.training)
        weight = self.net.tensor(exit_name(number) + '.weight')[:, :width]
        return F.linear(x, weight, self.net.tensor(exit_name(number) + '.bias'))

    def _value(self, node: fx.Node, x: torch.Tensor) -> Any:
        name = node.name
        if node.op == 'placeholder':
            return x
        factor = self.plan.subsampled.get(name, 1)
        program = self.plan.programs.get(name)
        if program is not None:
            value = subsampled(self._read(node.all_input_nodes[0]), factor)
            return self._unit(name, program, value)
        if name in self.plan.cuttables:
            return self._cuttable(node)
        if node.op == 'get_attr':
            return self.net.constant(str(node.target))
        args = fx.node.map_arg(node.args, self._read)
        kwargs = fx.node.map_arg(node.kwargs, self._read)
        if factor > 1:
            args = fx.node.map_aggregate(args, lambda a: subsampled(a, factor))
        if node.op == 'call_module':
            return self.net.kept_layer(str(node.target))(*args, **kwargs)
        if node.op == 'call_function':
            return node.target(*args, **kwargs)  # type: ignore[operator]
        assert node.op == 'call_method', node.op
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)

    def _cuttable(self, node: fx.Node) -> torch.Tensor:
        parts = [self.net.part(p) for p in self.plan.cuttables[node.name]]
        if node.op == 'get_attr':
            return parts[0]
        x = self._read(node.all_input_nodes[0])
        weight, bias = (*parts, None, None)[:2]
        return F.layer_norm(x, (x.shape[-1],), weight, bias, self.net.epsilons[node.name])

    def _unit(self, node: str, program: Program, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for step in program:
            if isinstance(step, Concat):
                values.append(torch.cat([values[i] for i in step.sources], 1))
                continue
            y = values[step.source]
            if isinstance(step, Apply):
                y = self._apply(step, y)
                if self.observe is not None:
                    self.observe(node, values[step.source], y)
            if step.norm is not None:
                key = self.plan.key(node, step.norm.key)
                gain, shift = (None if p is None else self.net.part(p)
                               for p in (step.norm.gain, step.norm.shift))
                y = self.norms(y, step.norm, key, gain, shift)
            values.append(y)
        return values[-1]

    def _apply(self, step: Apply, x: torch.Tensor) -> torch.Tensor:
        weight = self.net.part(step.weight)
        bias = None if step.bias is None else self.net.part(step.bias)
        if not step.stride:
            return F.linear(x, weight, bias)
        stride, padding = step.stride, step.padding
        if reads_few_strided(step):
            if any(padding):
                x = F.pad(x, [p for side in reversed(padding) for p in (side, side)])
            places: List[Any] = [Ellipsis, *(slice(None, None, s) for s in stride)]
            x = x[tuple(places)]
            stride, padding = (1,) * len(stride), (0,) * len(padding)
        conv = _CONVS[len(stride)]
        return conv(x, weight, bias, stride, padding, step.dilation, step.groups)


def reads_few_strided(step: Apply) -> bool:
    """
    Tell whether a step is a convolution that a processor must not get as it is.

    oneDNN writes beyond its buffers in the backward pass of a pointwise convolution with a stride
    that reads fewer than 8 channels in the layout channels-last (torch 2.13: "corrupted size vs.
    prev_size"). Leaving out places first, then without a stride, is the same and as fast.
    """
    return (max(step.stride, default=1) > 1 and step.weight.shape[1] < LEAST_VECTOR
            and math.prod(step.weight.shape[2:]) == 1)


def _mutable(value: Any) -> Any:
    """Give lists and dicts as the user's network does; the graph's own cannot be changed."""
    if isinstance(value, list):
        return [_mutable(v) for v in value]
    if isinstance(value, dict):
        return {k: _mutable(v) for k, v in value.items()}
    return tuple(_mutable(v) for v in value) if type(value) is tuple else value


def subsampled(value: Any, factor: int) -> Any:
    """Divide the resolution of a feature map; other values pass."""
    if factor == 1 or not isinstance(value, torch.Tensor) or value.ndim < 3:
        return value
    pool = F.max_pool1d if value.ndim == 3 else F.max_pool2d
    return pool(value, 1, factor)
