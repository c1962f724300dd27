# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Sparse coding (eta1, P III-A1; Bhattacharya and Lane, SenSys 2016): atoms, and codes that mix them.

A layer's rows are written as sparse mixtures of the atoms of a dictionary. Engines do not skip
scattered zeros, so the support is blockwise: BLOCK outputs share `atoms` atoms of their own. The
dictionary is a convolution to all blocks' atoms, the codes are a grouped 1x1 convolution with a
group per block. Of each block the atoms are the directions in which its outputs vary most.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.macs import cost_refusal, whole
from crowdhmt_ros.elastic.operators.operator import FormBase, Parameters, UnitShape
from crowdhmt_ros.elastic.operators.smooth import seen
from crowdhmt_ros.elastic.steps import Apply, Concat, Norm, Part, Program, Step
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

BLOCK = 8
ATOMS = (4, 2)
"""Per block. Each has a dictionary of its own: slices cannot thin out every block at once."""


@dataclass(frozen=True)
class Sparse(FormBase):
    """Mix each block of outputs from `atoms` atoms."""

    name: str = 'sparse'
    eta: int = 1

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer numbers of atoms."""
        return () if self.refusal(stage, units) else tuple(sparse(atoms) for atoms in ATOMS)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse what is no dense convolution, or does not fall into blocks."""
        if unit.kind != 'conv':
            return 'codes are a grouped convolution, and it is none'
        if not unit.is_dense:
            return 'its channels are not mixed: there is nothing to code'
        if unit.outputs % BLOCK:
            return 'its %d outputs do not fall into blocks of %d' % (unit.outputs, BLOCK)
        return cost_refusal(unit, self.program(whole(unit), {}))

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Take each block's principal outputs as atoms; the codes are their coordinates."""
        blocks = weight.reshape(-1, BLOCK, math.prod(weight.shape[1:]))
        if outputs is None:
            grams = seen(unit, weight, moment).reshape(blocks.shape) @ blocks.transpose(1, 2)
        else:
            parted = outputs.reshape(len(blocks), BLOCK, len(blocks), BLOCK)
            grams = torch.stack([parted[i, :, i] for i in range(len(blocks))])
        codes = torch.linalg.eigh(grams)[1].flip(2)
        atoms = codes.transpose(1, 2) @ blocks
        ones = (1,) * len(unit.kernel)
        found = {}
        for count in ATOMS:
            found[_dictionary(unit, count)] = atoms[:, :count].reshape(-1, *weight.shape[1:])
            found[_codes(unit, count)] = codes[:, :, :count].reshape(-1, count, *ones)
        return found

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """Apply the dictionary, then mix; a block that is cut off is mixed by itself."""
        atoms = int(parameters.get('atoms', ATOMS[0]))
        if atoms not in ATOMS:
            raise ExportError('sparse has no dictionary of %d atoms; choose one of %s'
                              % (atoms, ', '.join(map(str, ATOMS))))
        blocks, rest = divmod(shape.outputs, BLOCK)
        if not blocks or not rest:
            return _coded(shape, atoms, (0, shape.outputs), 1)
        start = blocks * BLOCK
        return (*_coded(shape, atoms, (0, start), 1),
                *_coded(shape, atoms, (start, shape.outputs), 3), Concat((2, 4)))


def _dictionary(unit: Unit, atoms: int) -> str:
    return '%s.sparse.atoms%d' % (unit.name, atoms)


def _codes(unit: Unit, atoms: int) -> str:
    return '%s.sparse.codes%d' % (unit.name, atoms)


def _coded(shape: UnitShape, atoms: int, span: Tuple[int, int], number: int) -> Tuple[Step, ...]:
    """
    Code outputs.

    :param span: of them; from the start of a block
    :param number: of the first step
    """
    unit, ones = shape.unit, tuple(1 for _ in shape.kernel)
    groups = max(1, (span[1] - span[0]) // BLOCK)
    first = span[0] // BLOCK
    norm: Optional[Norm] = shape.norm(*span)
    rows = (first * atoms, (first + groups) * atoms)
    return (
        Apply(0, Part(_dictionary(unit, atoms), (rows, (0, shape.inputs), *shape.crops)), None,
              shape.stride, shape.padding, unit.dilation),
        Apply(number, Part(_codes(unit, atoms), (span, (0, atoms), *((0, 1) for _ in ones))),
              shape.bias(*span), ones, tuple(0 for _ in ones), ones, groups, norm))


def sparse(atoms: int) -> OperatorChoice:
    """Describe a sparse coding with so many atoms per block of outputs."""
    return OperatorChoice('sparse', (('atoms', atoms),))
