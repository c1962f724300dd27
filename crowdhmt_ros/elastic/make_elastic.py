# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Make any network elastic: one call from an `nn.Module` to a family of variants (E1, E5).

What the machinery believes of the network is tried before it is offered: every width, depth and
stride is run on tensors without data, and what fails is left alone, with the reason.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import List, Mapping, Optional, Sequence, Set, Tuple

import torch
from torch import nn

from crowdhmt_ros.elastic.discover import discover
from crowdhmt_ros.elastic.norms import SkippedNorms
from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.elastic.plan import resolve
from crowdhmt_ros.elastic.structure import LeftAlone, Structure
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.trace import Traced, trace
from crowdhmt_ros.types import OperatorChoice, Variant


@dataclass(frozen=True, eq=False)
class Elastic:
    """
    A network made elastic.

    :param net: shared tensors and how variants compute
    :param left_alone: what stays as it is, per operator and layer, with the reason
    """

    net: Supernet
    left_alone: Tuple[LeftAlone, ...]

    def operators(self) -> Tuple[str, ...]:
        """Name the operators that have something to offer somewhere."""
        return tuple(name for name in OPERATORS if any(self.choices(name)))

    def choices(self, operator: str) -> Tuple[Tuple[OperatorChoice, ...], ...]:
        """Return what an operator offers, per stage."""
        structure = self.net.structure
        return tuple(OPERATORS[operator].choices(stage, structure.units_of(index))
                     for index, stage in enumerate(structure.stages))

    def report(self) -> str:
        """Say in lines what was found and what was left alone."""
        structure = self.net.structure
        lines = ['%d layers, %d stages, %d exits, traced by %s' % (
            len(structure.units), len(structure.stages), len(structure.exits), self.net.method)]
        lines += ['%s: %s' % (name, 'applies' if name in self.operators() else 'nowhere')
                  for name in OPERATORS]
        return '\n'.join([*lines, *('%s is left alone by %s: %s' % (a.layer, a.what, a.reason)
                                    for a in self.left_alone)])


def make_elastic(module: nn.Module, example: torch.Tensor, *,
                 exits: Optional[Sequence[int]] = None, seed: int = 0) -> Elastic:
    """
    Make a network elastic.

    :param module: any network with one tensor as its input; it is not changed
    :param example: an input, batch of at least 2 first
    :param exits: numbers of stages after which it may answer early; None for every border
    :param seed: of the exits' weights
    :raises ExportError: it cannot be traced, or holds no layer that scales
    """
    traced = trace(module, example)
    structure = discover(traced, exits)
    structure = _tried(traced, structure, example)
    net = Supernet(traced, structure, seed=seed)
    _add_form_tensors(net)
    return Elastic(net, (*structure.left_alone, *_refusals(structure)))


def _add_form_tensors(net: Supernet) -> None:
    """Derive every form's tensors from the backbone's weights alone."""
    for unit in net.structure.units:
        for form in FORMS.values():
            if unit.kind != 'norm' and not form.unit_refusal(unit):
                weight = net.tensor(unit.name + '.weight').detach().double()
                for name, value in form.tensors(unit, weight).items():
                    net.add(name, value)


def _refusals(structure: Structure) -> List[LeftAlone]:
    found = [LeftAlone(unit.name, form.name, form.unit_refusal(unit))
             for unit in structure.units for form in FORMS.values()
             if unit.kind != 'norm' and form.unit_refusal(unit)]
    for name, operator in OPERATORS.items():
        if name in FORMS:
            continue
        for index, stage in enumerate(structure.stages):
            reason = operator.refusal(stage, structure.units_of(index))
            if reason:
                found.append(LeftAlone('stage %d' % index, name, reason))
    return found


class _Trial:
    """Runs variants without data: shapes only."""

    def __init__(self, traced: Traced, structure: Structure, example: torch.Tensor) -> None:
        self._example = example.to('meta')
        traced = replace(traced, module=copy.deepcopy(traced.module).to('meta'))
        self._net = Supernet(traced, structure).to('meta').eval()
        self._wanted = _shapes(self._net(self._example, self._net.whole(), SkippedNorms()))

    @torch.no_grad()
    def fails(self, structure: Structure, stages: Mapping[int, OperatorChoice]) -> str:
        """
        Return why a variant does not run, '' where it does.

        :param stages: number of a stage -> its operator
        """
        chosen = tuple((stages[i],) if i in stages else () for i in range(len(structure.stages)))
        variant = Variant(chosen, len(structure.exits) - 1)
        try:
            found = _shapes(self._net.run(
                self._example, resolve(structure, self._net.graph, variant), SkippedNorms()))
        except Exception as error:  # noqa: BLE001 - runs the user's functions
            return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        return '' if found == self._wanted else 'the network would give another shape'


def _shapes(answers: Sequence[object]) -> List[Tuple[int, ...]]:
    flat: List[object] = []
    waiting = list(answers)
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, (list, tuple)):
            waiting = [*value, *waiting]
        elif isinstance(value, dict):
            waiting = [*value.values(), *waiting]
        else:
            flat.append(value)
    return [tuple(v.shape) for v in flat if isinstance(v, torch.Tensor)]


def _tried(traced: Traced, structure: Structure, example: torch.Tensor) -> Structure:
    """Keep what runs; fix or forbid the rest, with the reason."""
    trial = _Trial(traced, structure, example)
    structure = _with_tried_widths(trial, structure)
    structure = _with_tried_depths(trial, structure)
    return _with_tried_strides(trial, structure)


def _only(structure: Structure, index: int) -> Structure:
    """Fix every group but one."""
    groups = {i: g if i == index or g.fixed else replace(g, fixed='not this one')
              for i, g in structure.groups.items()}
    return replace(structure, groups=groups)


def _with_tried_widths(trial: _Trial, structure: Structure) -> Structure:
    """Try all widths at once; where that fails, one group after the other."""
    if not _halved(trial, structure):
        return structure
    groups, left = dict(structure.groups), list(structure.left_alone)
    for index, group in structure.groups.items():
        reason = '' if group.fixed else _halved(trial, _only(structure, index))
        bound = [i for i, g in groups.items() if g.peers == group.peers and not g.fixed]
        for peer in bound if reason else ():  # as wide as each other, or no block can go
            groups[peer] = replace(groups[peer], fixed=reason)
            left += [LeftAlone(u.name, 'width', reason) for u in structure.units
                     if u.out_group == peer]
    return replace(structure, groups=groups, left_alone=tuple(left))


def _halved(trial: _Trial, structure: Structure) -> str:
    half = OperatorChoice('channel', (('ratio', 0.5),))
    return trial.fails(structure, dict.fromkeys(range(len(structure.stages)), half))


def _with_tried_depths(trial: _Trial, structure: Structure) -> Structure:
    """Try without all blocks that may go; where that fails, without one after the other."""
    if not _shortened(trial, structure):
        return structure
    for index, stage in enumerate(structure.stages):
        for number, block in enumerate(stage.blocks):
            alone = _with_droppable(structure, index, {number} if block.droppable else set())
            reason = _shortened(trial, alone, (index,))
            if reason:
                kept = {i for i, b in enumerate(structure.stages[index].blocks)
                        if b.droppable and i != number}
                structure = _with_droppable(structure, index, kept)
                structure = replace(structure, left_alone=(
                    *structure.left_alone, LeftAlone(block.border, 'depth', reason)))
    return structure


def _shortened(trial: _Trial, structure: Structure, indices: Sequence[int] = ()) -> str:
    """Leave out all that may go, in some stages or in all of them."""
    stages = {index: OperatorChoice('depth', (('blocks', stage.least_blocks),))
              for index, stage in enumerate(structure.stages)
              if len(stage.blocks) > stage.least_blocks and (not indices or index in indices)}
    return trial.fails(structure, stages) if stages else ''


def _with_droppable(structure: Structure, index: int, numbers: Set[int]) -> Structure:
    """Let only some blocks of a stage be left out."""
    stages = list(structure.stages)
    blocks = tuple(replace(b, droppable=i in numbers) for i, b in enumerate(stages[index].blocks))
    stages[index] = replace(stages[index], blocks=blocks)
    return replace(structure, stages=tuple(stages))


def _with_tried_strides(trial: _Trial, structure: Structure) -> Structure:
    stages = list(structure.stages)
    wider = OperatorChoice('scale', (('stride', 2),))
    for index, stage in enumerate(structure.stages):
        if not any(u.kernel for u in structure.units_of(index)):
            reason = 'it works on tokens, which have no stride'
        elif min(stage.extent, default=1) < 2:
            reason = 'its result has a single place already'
        else:
            reason = trial.fails(structure, {index: wider})
        stages[index] = replace(stage, stride_refused=reason)
    structure = replace(structure, stages=tuple(stages))
    free = [i for i, s in enumerate(stages) if not s.stride_refused]
    most = min(1, len(free))
    # Which stages they are makes no difference to the resolution at the end.
    while most < len(free) and not trial.fails(structure, dict.fromkeys(free[:most + 1], wider)):
        most += 1
    return replace(structure, most_strides=most)
