# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a variant means for a network: which nodes run, and what each layer does (E2, E4).

Pure: a variant goes in, a plan comes out, and nothing remembers it.
"""
from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from torch import fx

from crowdhmt_ros.elastic.operators.macs import program_macs
from crowdhmt_ros.elastic.operators.operator import StageConfig, UnitShape
from crowdhmt_ros.elastic.operators.table import OPERATORS, form_of
from crowdhmt_ros.elastic.steps import Part, Program, full, parts_of
from crowdhmt_ros.elastic.structure import Cuttable, Group, Stage, Structure, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant

CHANNEL_MULTIPLE = 8
"""Widths are multiples of it: vector units stay full (and oneDNN fails on fewer than 8)."""
RANDOM_STEPS = (-2, -1, 0, 1, 2)
"""A randomised width differs from the stage's by so many eighths."""


@dataclass(frozen=True, eq=False)
class NetPlan:
    """
    A variant, resolved.

    :param nodes: that run, in order
    :param programs: node of a unit -> what it does
    :param cuttables: node -> parts of its shared tensors
    :param aliases: node that does not run -> node whose value stands for it
    :param subsampled: node -> factor by which the resolution of what it reads is divided; the
        strides of convolutions hold it already
    :param contexts: node -> digest of everything that shapes its value; names statistics
    :param exits: (number of the exit, border, channels), ascending, early ones only
    :param is_whole: whether the network runs to its own end
    :param macs: multiply-accumulates of one input
    """

    nodes: Tuple[str, ...]
    programs: Mapping[str, Program]
    cuttables: Mapping[str, Tuple[Part, ...]]
    aliases: Mapping[str, str]
    subsampled: Mapping[str, int]
    contexts: Mapping[str, str]
    exits: Tuple[Tuple[int, str, int], ...]
    is_whole: bool
    macs: int

    def alias(self, name: str) -> str:
        """Return the node whose value stands for a node's."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def key(self, node: str, name: str) -> str:
        """Name the statistics of a normalisation within a unit."""
        return '%s@%s' % (name, self.contexts[node])


def configure(stage: Stage, choices: Iterable[Any]) -> StageConfig:
    """
    Apply a stage's operators in order.

    :raises ExportError: unknown operator or unfit parameters
    """
    config = StageConfig(blocks=len(stage.blocks))
    for choice in choices:
        operator = OPERATORS.get(choice.operator)
        if operator is None:
            raise ExportError('operator %r is not known; choose one of %s'
                              % (choice.operator, ', '.join(sorted(OPERATORS))))
        config = operator.configure(stage, config, dict(choice.parameters))
    return config


def configs_of(structure: Structure, variant: Variant) -> Tuple[StageConfig, ...]:
    """
    Configure the stages that a variant runs.

    :raises ExportError: the variant does not fit the network
    """
    if not 0 <= variant.exit_index < len(structure.exits):
        raise ExportError('variant asks for exit %d; this network has exits 0 to %d'
                          % (variant.exit_index, len(structure.exits) - 1))
    used = structure.exits[variant.exit_index]
    if len(variant.stages) != used:
        raise ExportError('variant describes %d stages; exit %d runs %d'
                          % (len(variant.stages), variant.exit_index, used))
    return tuple(configure(s, c) for s, c in zip(structure.stages, variant.stages))


def _draw(seed: int, group: Group) -> int:
    digest = hashlib.sha256(b'%d/%d' % (seed, group.peers)).digest()
    return RANDOM_STEPS[digest[0] % len(RANDOM_STEPS)]


def width_of(group: Group, config: StageConfig) -> int:
    """
    Return how many channels of a group a stage's configuration keeps.

    :param group: one of its groups
    :param config: of the stage that the group belongs to
    """
    if group.fixed:
        return group.size
    ratio = config.ratio
    if config.seed:
        ratio = min(1.0, max(0.125, ratio + _draw(config.seed, group) / 8.0))
    multiple = CHANNEL_MULTIPLE if group.size % CHANNEL_MULTIPLE == 0 else 1
    step = math.lcm(group.granularity, multiple)
    if step >= group.size:
        return group.size
    return int(min(group.size, max(1, round(group.size * ratio / step)) * step))


def _dropped(stage: Stage, keep: int) -> Tuple[int, ...]:
    """Choose the blocks to leave out: the last ones that may go."""
    if not stage.least_blocks <= keep <= len(stage.blocks):
        raise ExportError('depth keeps %d blocks; this stage has %d to %d'
                          % (keep, stage.least_blocks, len(stage.blocks)))
    may_go = [i for i, b in enumerate(stage.blocks) if b.droppable]
    return tuple(may_go[len(may_go) - (len(stage.blocks) - keep):])


class _Resolver:
    """Gathers a plan; lives for one call."""

    def __init__(self, structure: Structure, graph: fx.Graph, variant: Variant) -> None:
        self.structure, self.graph = structure, graph
        self.configs = configs_of(structure, variant)
        self.used = structure.exits[variant.exit_index]
        self.variant = variant
        self.is_whole = variant.exit_index == len(structure.exits) - 1
        last = self.configs[-1]
        self.widths = {
            g.index: width_of(g, self.configs[g.stage] if g.stage < self.used else last)
            for g in structure.groups.values()}
        self.aliases: Dict[str, str] = {}
        self.subsampled: Dict[str, int] = {}
        self.nodes = {n.name: n for n in graph.nodes}
        self.first = next(n.name for n in graph.nodes if n.op == 'placeholder')

    def plan(self) -> NetPlan:
        self._leave_out()
        nodes = self._running()
        self._subsample(nodes)
        running = set(nodes)
        programs, macs = {}, 0
        factors = self._factors()
        for unit in self.structure.units:
            if unit.node in running:
                programs[unit.node] = self._program(unit)
                macs += _macs(programs[unit.node], unit, factors[unit.stage])
        cuttables = {c.node: self._parts(c) for c in self.structure.cuttables
                     if c.node in running}
        strided = {u.node for u in self.structure.units if u.kind == 'conv'}
        subsampled = {n: f for n, f in self.subsampled.items() if n not in strided}
        return NetPlan(nodes, programs, cuttables, dict(self.aliases), subsampled,
                       self._contexts(nodes, programs, cuttables), self._exits(), self.is_whole,
                       macs)

    def _leave_out(self) -> None:
        for stage, config in zip(self.structure.stages, self.configs):
            for index in _dropped(stage, config.blocks):
                self.aliases[stage.blocks[index].border] = stage.blocks[index].entry
        for unit in self.structure.units:
            if unit.norm_node and unit.kind != 'norm':
                self.aliases[unit.norm_node] = unit.node

    def alias(self, name: str) -> str:
        while name in self.aliases:
            name = self.aliases[name]
        return name

    def _targets(self) -> List[str]:
        if self.is_whole:
            end = next(n for n in self.graph.nodes if n.op == 'output')
            wanted = [n.name for n in end.all_input_nodes]
        else:
            wanted = []
        return [self.alias(n) for n in (*wanted, *(b for _, b, _ in self._exits()))]

    def _exits(self) -> Tuple[Tuple[int, str, int], ...]:
        found = []
        early = self.structure.exits[:-1][:self.variant.exit_index + 1]
        for number, stages in enumerate(early):
            stage = self.structure.stages[stages - 1]
            width = stage.channels if stage.group is None else self.widths[stage.group]
            found.append((number, stage.border, width))
        return tuple(found)

    def _running(self) -> Tuple[str, ...]:
        waiting, seen = self._targets(), set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            waiting += [self.alias(s.name) for s in self.nodes[name].all_input_nodes]
        return tuple(n for n in self.nodes if n in seen)

    def _subsample(self, nodes: Sequence[str]) -> None:
        """Whatever reads a stage's entry reads it at the lower resolution."""
        strides, most = sum(c.stride > 1 for c in self.configs), self.structure.most_strides
        for stage, config in zip(self.structure.stages, self.configs):
            if config.stride == 1:
                continue
            if self.is_whole and most is not None and strides > most >= 1:
                raise ExportError('strides grow in %d stages; what follows works with %d at most'
                                  % (strides, most))
            if stage.stride_refused:
                raise ExportError('the stride of a stage cannot grow: %s' % stage.stride_refused)
            entry = self.alias(stage.entry or self.first)
            for name in nodes:
                sources = {self.alias(s.name) for s in self.nodes[name].all_input_nodes}
                if entry in sources:
                    self.subsampled[name] = config.stride

    def _factors(self) -> List[int]:
        factors, factor = [], 1
        for stage, config in zip(self.structure.stages, self.configs):
            factor *= config.stride
            if factor > min(stage.extent, default=factor):
                raise ExportError('strides divide the resolution of %s by %d'
                                  % ('x'.join(map(str, stage.extent)), factor))
            factors.append(factor)
        return factors

    def _program(self, unit: Unit) -> Program:
        config = self.configs[unit.stage]
        inputs, outputs = unit.inputs, unit.outputs
        if unit.in_group is not None:
            inputs = self.widths[unit.in_group] * unit.in_repeat
        if unit.out_group is not None:
            outputs = self.widths[unit.out_group] * (
                unit.in_repeat if unit.kind == 'norm' else 1)
        kernel = tuple(_cropped(k, config.kernel, p // d) for k, p, d in zip(
            unit.kernel, unit.padding, unit.dilation))
        factor = self.subsampled.get(unit.node, 1)
        stride = tuple(s * factor for s in unit.stride)
        shape = UnitShape(unit, inputs, outputs, kernel, stride)
        for choice in config.forms:
            form = form_of(choice.operator)
            if not form.unit_refusal(unit):
                return form.program(shape, dict(choice.parameters))
        return shape.own()

    def _parts(self, cuttable: Cuttable) -> Tuple[Part, ...]:
        parts = []
        for name in cuttable.names:
            part = full(name, *cuttable.shape)
            if cuttable.axis is not None and cuttable.group is not None:
                slices = list(part.slices)
                slices[cuttable.axis] = (0, self.widths[cuttable.group])
                part = Part(name, tuple(slices))
            parts.append(part)
        return tuple(parts)

    def _contexts(self, nodes: Sequence[str], programs: Mapping[str, Program],
                  cuttables: Mapping[str, Tuple[Part, ...]]) -> Dict[str, str]:
        contexts: Dict[str, str] = {}
        for name in nodes:
            node = self.nodes[name]
            target = re.sub(' at 0x[0-9a-f]+', '', str(node.target))  # alike in every process
            own = (programs.get(name) or cuttables.get(name) or (node.op, target),
                   self.subsampled.get(name, 1),
                   [contexts.get(self.alias(s.name), '') for s in node.all_input_nodes])
            digest = hashlib.sha256(repr(own).encode()).hexdigest()[:16]
            if digest in contexts.values():  # two calls that may differ in a constant
                digest = hashlib.sha256(repr((name, own)).encode()).hexdigest()[:16]
            contexts[name] = digest
        return contexts


def _cropped(kernel: int, limit: int, padding: int) -> int:
    """Return the extent of the middle of a kernel: odd ones shrink, as far as padding allows."""
    if not limit or kernel <= limit or kernel % 2 == 0:
        return kernel
    return max(limit, kernel - 2 * padding)


def _macs(program: Program, unit: Unit, factor: int) -> int:
    """Count the multiply-accumulates of a unit whose resolution is divided."""
    extent = tuple(-(-e // factor) for e in unit.extent) if unit.kernel else unit.extent
    return program_macs(program, extent)


def resolve(structure: Structure, graph: fx.Graph, variant: Variant) -> NetPlan:
    """
    Resolve a variant.

    :param structure: of the network
    :param graph: of the network
    :raises ExportError: the variant does not fit
    """
    return _Resolver(structure, graph, variant).plan()


def part_names(plan: NetPlan) -> Set[str]:
    """Name every shared tensor that a plan reads, exits apart."""
    names = {p.tensor for program in plan.programs.values() for p in parts_of(program)}
    return names | {p.tensor for parts in plan.cuttables.values() for p in parts}
