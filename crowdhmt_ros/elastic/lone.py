# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A variant with tensors of its own: exactly those parts that it reads, drawn at random.

It is what the variant would be had nobody built a family: the yardstick of weight sharing. It is
a supernet whose whole is that variant, so the same frame trains, calibrates and measures it.
"""
from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import replace
from typing import Dict, Optional, Union

import torch
from torch import nn

from crowdhmt_ros.elastic.exits import exit_name
from crowdhmt_ros.elastic.plan import NetPlan
from crowdhmt_ros.elastic.steps import Apply, Concat, Norm, Normalise, Part, Program, full
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

CLASSIFIER_SPREAD = 1.0 / math.sqrt(3.0)
"""Of a linear layer's weights, over the inverse root of its inputs: as torch draws them."""


class LoneNet(Supernet):
    """One variant; to the training frame it is the whole network, and the only one."""

    def __init__(self, family: Supernet, variant: Variant, *, seed: int) -> None:
        """
        Draw a variant's tensors.

        :param family: says how the variant computes, untrained: layers that are kept whole are
            taken over as they are
        :param variant: of the family
        :param seed: of the weights
        :raises ExportError: the variant does not fit the family
        """
        nn.Module.__init__(self)
        self.structure, self.graph, self.method = family.structure, family.graph, family.method
        self.axes, self.epsilons = family.axes, family.epsilons
        self._nodes = family._nodes
        self.weights = nn.ParameterDict()
        self.kept = copy.deepcopy(family.kept)
        for name, value in family.named_buffers(recurse=False):
            self.register_buffer(name, value.clone(), persistent=False)
        self.running = {}
        self._variant = variant
        self._drawing = _Drawing(self, family, seed)
        self._plans: OrderedDict[Variant, NetPlan] = OrderedDict()
        self._plans[variant] = self._drawing.plan(family.plan(variant))
        self._add_own_exit(family, variant, seed)
        self.train()

    def _add_own_exit(self, family: Supernet, variant: Variant, seed: int) -> None:
        """Draw the exit that answers, where it is an early one; earlier ones are not there."""
        plan = self._plans[variant]
        if plan.is_whole:
            return
        number, _, width = plan.exits[-1]
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(self.structure.classes, width, generator=generator)
        self.add(exit_name(number) + '.weight', weight * width ** -0.5)
        self.add(exit_name(number) + '.bias', torch.zeros(self.structure.classes))

    def whole(self) -> Variant:
        """Describe the variant."""
        return self._variant

    def plan(self, variant: Variant) -> NetPlan:
        """
        Return the variant's plan.

        :raises ExportError: another variant is asked for
        """
        if variant != self._variant:
            raise ExportError('this network is one variant alone; it has no others')
        return self._plans[variant]


class _Drawing:
    """Draws each part that a plan reads, once, and names it anew."""

    def __init__(self, net: LoneNet, family: Supernet, seed: int) -> None:
        self._net, self._family = net, family
        self._generator = torch.Generator().manual_seed(seed)
        self._names: Dict[Part, Part] = {}

    def plan(self, plan: NetPlan) -> NetPlan:
        programs = {node: self._program(program) for node, program in plan.programs.items()}
        cuttables = {node: tuple(self._copied(part) for part in parts)
                     for node, parts in plan.cuttables.items()}
        return replace(plan, programs=programs, cuttables=cuttables,
                       exits=() if plan.is_whole else plan.exits[-1:])

    def _program(self, program: Program) -> Program:
        return tuple(self._step(step) for step in program)

    def _step(self, step: Union[Apply, Normalise, Concat]) -> Union[Apply, Normalise, Concat]:
        if isinstance(step, Concat):
            return step
        if isinstance(step, Normalise):
            return replace(step, norm=self._norm(step.norm))
        weight = self._own(step.weight, self._drawn(step))
        bias = None if step.bias is None else self._own(step.bias, torch.zeros(step.outputs))
        norm = None if step.norm is None else self._norm(step.norm)
        return replace(step, weight=weight, bias=bias, norm=norm)

    def _norm(self, norm: Norm) -> Norm:
        return replace(norm, gain=self._filled(norm.gain, 1.0),
                       shift=self._filled(norm.shift, 0.0))

    def _filled(self, part: Optional[Part], value: float) -> Optional[Part]:
        return None if part is None else self._own(part, torch.full(part.shape, value))

    def _drawn(self, step: Apply) -> torch.Tensor:
        """Draw a weight (He et al. 2015); a linear layer's as torch does."""
        shape = step.weight.shape
        inputs = math.prod(shape[1:])
        spread = math.sqrt(2.0 / inputs)
        if not step.stride:
            spread = CLASSIFIER_SPREAD / math.sqrt(inputs)
        return torch.randn(shape, generator=self._generator) * spread

    def _copied(self, part: Part) -> Part:
        """Take over what is drawn outside of layers, positions for example."""
        return self._own(part, self._family.part(part).detach().clone())

    def _own(self, part: Part, value: torch.Tensor) -> Part:
        if part not in self._names:
            name, number = part.tensor, 1
            while self._net.has(name):  # another part of the same tensor
                number += 1
                name = '%s.%d' % (part.tensor, number)
            self._net.add(name, value)
            self._names[part] = full(name, *part.shape)
        return self._names[part]


def lone(family: Supernet, variant: Variant, *, seed: int) -> LoneNet:
    """
    Make a variant of a family a network of its own, untrained.

    :param seed: of the weights
    :raises ExportError: the variant does not fit the family
    """
    return LoneNet(family, variant, seed=seed)
