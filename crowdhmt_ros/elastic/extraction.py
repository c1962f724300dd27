# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One variant as a plain network with weights of its own, its normalisations folded in.

The network walks the same plan as the supernet. Each of its parameters is a recipe over the
family's shared tensors, so that an exported graph needs no weights but those.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import fx, nn

from crowdhmt_ros.elastic.exits import ExitHead, exit_name
from crowdhmt_ros.elastic.norms import Statistics, statistics_of
from crowdhmt_ros.elastic.plan import NetPlan
from crowdhmt_ros.elastic.steps import Apply, Concat, Normalise, Part, Program
from crowdhmt_ros.elastic.supernet import Supernet, subsampled
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.graph.family import Recipe, realise
from crowdhmt_ros.types import Variant

_CONVS = {1: F.conv1d, 2: F.conv2d}
Tensors = Dict[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Extracted:
    """
    A variant taken out.

    :param module: takes (n, ...), gives what the variant's exit gives; with early exits a tuple
        of that and of what each of them gives
    :param recipes: parameter of the module -> how it follows from `tensors`
    :param tensors: the shared tensors that the recipes name; weights of many axes in float16
        where `half` was asked for
    """

    module: fx.GraphModule
    recipes: Mapping[str, Recipe]
    tensors: Tensors


class FoldedUnit(nn.Module):
    """A layer of one variant: its program, with weights of its own."""

    def __init__(self, program: Program, *, tokens: bool) -> None:
        """
        Build a layer with random weights.

        :param program: what it does
        :param tokens: a linear layer on more than two axes, whose weights lie (inputs, outputs)
        """
        super().__init__()
        self.program, self.tokens = program, tokens
        for number, step in enumerate(program):
            if isinstance(step, Apply):
                shape = step.weight.shape[::-1] if tokens else step.weight.shape
                self._add(number, 'weight', shape)
                if step.bias is not None or step.norm is not None:
                    self._add(number, 'bias', (step.outputs,))
            elif isinstance(step, Normalise):
                count = step.norm.span[1] - step.norm.span[0]
                self._add(number, 'weight', (count,))
                self._add(number, 'bias', (count,))

    def _add(self, number: int, name: str, shape: Tuple[int, ...]) -> None:
        # The exporter merges equal parameters; random ones are all different.
        self.register_parameter('%s%d' % (name, number), nn.Parameter(torch.rand(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's result."""
        values = [x]
        for number, step in enumerate(self.program):
            if isinstance(step, Concat):
                values.append(torch.cat([values[i] for i in step.sources], 1))
                continue
            weight, bias = (getattr(self, '%s%d' % (n, number), None) for n in ('weight', 'bias'))
            assert weight is not None
            values.append(self._step(step, values[step.source], weight, bias))
        return values[-1]

    def _step(self, step: Any, x: torch.Tensor, weight: torch.Tensor,
              bias: Optional[torch.Tensor]) -> torch.Tensor:
        if isinstance(step, Normalise):
            assert bias is not None
            axes = (1, -1) + (1,) * (x.ndim - 2)
            return x * weight.reshape(axes) + bias.reshape(axes)
        if not step.stride and self.tokens:
            y = torch.matmul(x, weight)
            return y if bias is None else y + bias
        if not step.stride:
            return F.linear(x, weight, bias)
        return _CONVS[len(step.stride)](x, weight, bias, step.stride, step.padding,
                                        step.dilation, step.groups)


def subsample(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Divide the resolution of a feature map."""
    value: torch.Tensor = subsampled(x, factor)
    return value


def normalised(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Normalise along the last axis, without gain and shift."""
    return F.layer_norm(x, (x.shape[-1],), None, None, epsilon)


class _Builder:
    """Gathers an extracted network; lives for one call."""

    def __init__(self, net: Supernet, plan: NetPlan, statistics: Statistics, half: bool,
                 early: Sequence[int]) -> None:
        self.net, self.plan, self.statistics, self.half = net, plan, statistics, half
        self.early = _early_exits(plan, early)
        self.modules: Dict[str, nn.Module] = {}
        self.recipes: Dict[str, Recipe] = {}
        self.tensors: Tensors = {}
        self.graph = fx.Graph()
        self.made: Dict[str, fx.Node] = {}
        self.units = {u.node: u for u in net.structure.units}

    def build(self) -> Extracted:
        heads: Dict[int, fx.Node] = {}
        for name in self.plan.nodes:
            self.made[name] = self._node(self.net.node(name))
            for number, border, width in self.early.get(name, ()):  # at once, see `_Run.run`
                heads[number] = self._head('head%d' % number, number, border, width)
        end = self._end()
        self.graph.output((end, *(heads[n] for n in sorted(heads))) if heads else end)
        module = fx.GraphModule(self.modules, self.graph)
        self._fill(module)
        return Extracted(module.eval(), self.recipes, self.tensors)

    def _read(self, node: fx.Node) -> fx.Node:
        return self.made[self.plan.alias(node.name)]

    def _subsampled(self, factor: int, node: fx.Node) -> fx.Node:
        found = self._read(node)
        return found if factor == 1 else self.graph.call_function(subsample, (found, factor))

    def _free(self, key: str) -> str:
        """Return a name that no module has yet; a layer may be used more than once."""
        found, count = key, 0
        while found in self.modules:
            count += 1
            found = '%s_again%d' % (key, count)
        return found

    def _node(self, node: fx.Node) -> fx.Node:
        name = node.name
        if node.op == 'placeholder':
            return self.graph.placeholder('image')
        program = self.plan.programs.get(name)
        if program is not None:
            factor = self.plan.subsampled.get(name, 1)
            return self._unit(name, program, self._subsampled(factor, node.all_input_nodes[0]))
        if name in self.plan.cuttables:
            return self._cuttable(node)
        if node.op == 'get_attr':
            key = self._free('constant_' + str(node.target).replace('.', '_'))
            self.modules[key] = _Constant(self.net.constant(str(node.target)))
            return self.graph.call_module(key, ())
        read = partial(self._subsampled, self.plan.subsampled.get(name, 1))
        args, kwargs = fx.node.map_arg(node.args, read), fx.node.map_arg(node.kwargs, self._read)
        if node.op == 'call_module':
            key = self._free('kept_' + str(node.target).replace('.', '_'))
            self.modules[key] = copy.deepcopy(self.net.kept_layer(str(node.target)))
            return self.graph.call_module(key, args, kwargs)
        return self.graph.create_node(node.op, node.target, args, kwargs)

    def _unit(self, name: str, program: Program, source: fx.Node) -> fx.Node:
        unit = self.units[name]
        tokens = unit.kind == 'linear' and bool(unit.extent)
        key = self._free('units_' + unit.name.replace('.', '_'))
        self.modules[key] = FoldedUnit(program, tokens=tokens)
        for number, step in enumerate(program):
            if isinstance(step, Concat):
                continue
            for leaf, recipe in self._recipes(name, step, tokens):
                self.recipes['%s.%s%d' % (key, leaf, number)] = recipe
        return self.graph.call_module(key, (source,))

    def _recipes(self, node: str, step: Union[Apply, Normalise], tokens: bool
                 ) -> Iterator[Tuple[str, Recipe]]:
        """Yield the recipes of a step's weight and bias."""
        scale, shift = (None, None) if step.norm is None else self._folded(node, step)
        if isinstance(step, Apply):
            yield 'weight', self._weight(step.weight, scale, tokens)
        elif scale is not None:
            yield 'weight', _whole(scale, self.tensors)
        if shift is not None:
            yield 'bias', _whole(shift, self.tensors)
        elif isinstance(step, Apply) and step.bias is not None:
            yield 'bias', self._shared(step.bias)

    def _shared(self, part: Part) -> Recipe:
        if part.tensor not in self.tensors:
            self.tensors[part.tensor] = self.net.tensor(
                part.tensor).detach().cpu().numpy().astype(np.float32)
        return Recipe(part.tensor, part.slices)

    def _weight(self, part: Part, scale: Optional[str], tokens: bool) -> Recipe:
        if part.tensor not in self.tensors:
            value = self.net.tensor(part.tensor).detach().cpu().numpy()
            value = value.T if tokens else value
            self.tensors[part.tensor] = np.ascontiguousarray(
                value.astype(np.float16 if self.half else np.float32))
        slices = part.slices[::-1] if tokens else part.slices
        return Recipe(part.tensor, slices, scale, 1 if tokens and scale else 0)

    def _folded(self, node: str, step: Union[Apply, Normalise]) -> Tuple[str, str]:
        """Store scale and bias of a normalisation in its context; return their names."""
        norm = step.norm
        assert norm is not None
        key = self.plan.key(node, norm.key)
        if key + '.scale' not in self.tensors:
            mean, variance = (v.double().cpu() for v in statistics_of(self.statistics, key))
            scale = (variance + norm.epsilon).rsqrt()
            shift = torch.zeros_like(mean)
            if norm.gain is not None and norm.shift is not None:
                scale = scale * self.net.part(norm.gain).detach().double().cpu()
                shift = self.net.part(norm.shift).detach().double().cpu()
            if isinstance(step, Apply) and step.bias is not None:
                mean = mean - self.net.part(step.bias).detach().double().cpu()
            self.tensors[key + '.scale'] = scale.float().numpy()
            self.tensors[key + '.bias'] = (shift - mean * scale).float().numpy()
        return key + '.scale', key + '.bias'

    def _cuttable(self, node: fx.Node) -> fx.Node:
        parts = self.plan.cuttables[node.name]
        key = 'cut_' + node.name
        recipes = [self._shared(part) for part in parts]
        if node.op == 'get_attr':
            self.modules[key] = _Holder(parts[0].shape)
            self.recipes[key + '.value'] = recipes[0]
            return self.graph.call_module(key, ())
        source = self._read(node.all_input_nodes[0])
        if not parts:
            return self.graph.call_function(normalised, (source, self.net.epsilons[node.name]))
        layer = nn.LayerNorm(parts[0].shape[0], self.net.epsilons[node.name],
                             bias=len(parts) > 1)
        for (name, parameter), recipe in zip(layer.named_parameters(), recipes):
            nn.init.uniform_(parameter)
            self.recipes['%s.%s' % (key, name)] = recipe
        self.modules[key] = layer
        return self.graph.call_module(key, (source,))

    def _end(self) -> Any:
        if self.plan.is_whole:
            end = next(n for n in self.net.graph.nodes if n.op == 'output')
            return fx.node.map_arg(end.args[0], self._read)
        return self._head('head', *self.plan.exits[-1])

    def _head(self, key: str, number: int, border: str, width: int) -> fx.Node:
        head = ExitHead(width, self.net.structure.classes, self.net.axes[border])
        nn.init.uniform_(head.linear.bias)
        self.modules[key] = head
        classes = (0, self.net.structure.classes)
        name = exit_name(number)
        self.recipes[key + '.linear.weight'] = self._weight(
            Part(name + '.weight', (classes, (0, width))), None, False)
        self.recipes[key + '.linear.bias'] = self._shared(Part(name + '.bias', (classes,)))
        return self.graph.call_module(key, (self.made[self.plan.alias(border)],))

    def _fill(self, module: nn.Module) -> None:
        """Give the parameters the values that the recipes tell."""
        with torch.no_grad():
            for name, recipe in self.recipes.items():
                owner, _, leaf = name.rpartition('.')
                parameter = getattr(module.get_submodule(owner), leaf)
                parameter.copy_(torch.from_numpy(realise(recipe, self.tensors)))


class _Constant(nn.Module):
    """A tensor that is no parameter."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer('value', value.clone())

    def forward(self) -> torch.Tensor:
        """Return it."""
        return self.get_buffer('value')


class _Holder(nn.Module):
    """A parameter that stands alone in the graph."""

    def __init__(self, shape: Tuple[int, ...]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.rand(shape))

    def forward(self) -> torch.Tensor:
        """Return it."""
        return self.value


def _whole(name: str, tensors: Tensors) -> Recipe:
    return Recipe(name, tuple((0, extent) for extent in tensors[name].shape))


def _early_exits(plan: NetPlan, early: Sequence[int]
                 ) -> Dict[str, List[Tuple[int, str, int]]]:
    """Return node -> exits that answer from its value."""
    known = {number: (number, border, width) for number, border, width in (
        plan.exits if plan.is_whole else plan.exits[:-1])}
    unknown = sorted(set(early) - set(known))
    if unknown:
        raise ExportError('the variant has no early exit %s; it has %s' % (
            ', '.join(map(str, unknown)), ', '.join(map(str, known)) or 'none'))
    found: Dict[str, List[Tuple[int, str, int]]] = {}
    for number in sorted(set(early)):
        found.setdefault(plan.alias(known[number][1]), []).append(known[number])
    return found


def extract(net: Supernet, variant: Variant, statistics: Statistics, *, half: bool = False,
            early: Sequence[int] = ()) -> Extracted:
    """
    Take a variant out.

    :param statistics: of its normalisations
    :param half: store weights of several axes in float16, as a bundle does; the module then has
        the rounded ones
    :param early: numbers of earlier exits that shall answer, too
    :raises ExportError: unfit variant or missing statistics, or it has no such early exit
    """
    with torch.no_grad():
        return _Builder(net, net.plan(variant), statistics, half, early).build()
