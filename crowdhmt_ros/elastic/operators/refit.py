# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Channel scaling with a re-fit (eta6, P III-A1): what is left stands in for what is gone.

A stage keeps the first channels of each group. Each layer's weights on the channels that stay are
changed so that they tell, as well as a linear map can, what the others would have added: with the
covariance S of the inputs, W_kept + W_gone S_gone,kept S_kept,kept^-1 (least squares). These are
tensors of the layer's own, for one ratio; before any training they lose far less than slices.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple

import torch

from crowdhmt_ros.elastic.operators.operator import (
    FormBase,
    Parameters,
    StageConfig,
    UnitShape,
)
from crowdhmt_ros.elastic.steps import Apply, Part, Program
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

RATIO = 0.75
MULTIPLE = 8
RIDGE = 1e-3
"""Of the mean variance, added to each channel's: keeps the least squares well posed."""


@dataclass(frozen=True)
class Refit(FormBase):
    """Keep three quarters of the channels, with weights fitted to it."""

    name: str = 'refit'
    eta: int = 6

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer the one ratio."""
        return () if self.refusal(stage, units) else (refit(),)

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """
        Narrow the stage, and enter the form.

        :raises ExportError: a parameter is given, or another ratio is in force
        """
        if parameters:
            raise ExportError('refit takes no parameters; its ratio is %g' % RATIO)
        if config.ratio not in (1.0, RATIO) or config.seed:
            raise ExportError('refit keeps %g of the channels; leave out the other ratio' % RATIO)
        return replace(super().configure(stage, config, parameters), ratio=RATIO)

    def unit_refusal(self, unit: Unit) -> str:
        """Refuse what does not mix channels, or reads none that can go."""
        if not unit.is_dense:
            return 'its channels are not mixed: none stands in for another'
        if unit.in_group is None:
            return 'it reads the input of the network'
        if _kept(unit) >= unit.inputs:
            return 'it has too few inputs to leave some out'
        return ''

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """Add to the weights that stay what the others can be told from."""
        kept = _kept(unit)
        fitted = weight[:, :kept].clone()
        if moment is not None:
            own = moment[:kept, :kept]
            ridge = RIDGE * own.diagonal().mean() * torch.eye(kept, dtype=own.dtype)
            told = torch.linalg.solve(own + ridge, moment[:kept, kept:])
            fitted += torch.einsum('ng...,kg->nk...', weight[:, kept:], told)
        return {unit.name + '.refit.weight': fitted}

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """Apply the fitted weights; the unit's own where its inputs come from another stage."""
        unit = shape.unit
        if shape.inputs != _kept(unit):
            return shape.own()
        weight = Part(unit.name + '.refit.weight',
                      ((0, shape.outputs), (0, shape.inputs), *shape.crops))
        return (Apply(0, weight, shape.bias(), shape.stride, shape.padding, unit.dilation, 1,
                      shape.norm()),)


def _kept(unit: Unit) -> int:
    """Return how many inputs stay."""
    channels = unit.inputs // unit.in_repeat
    step = MULTIPLE if channels % MULTIPLE == 0 else 1
    return max(step, round(channels * RATIO / step) * step) * unit.in_repeat


def refit() -> OperatorChoice:
    """Describe a narrowing to three quarters with fitted weights."""
    return OperatorChoice('refit')
