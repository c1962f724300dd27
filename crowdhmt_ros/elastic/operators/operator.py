# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The contract of a compression operator (E2, P III-A1); docs/adding_an_operator.md teaches it.

An operator configures a stage. A `Form` also rewrites single units: it gives another program,
the shared tensors that the program reads, and how these derive from the backbone's.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, Mapping, Optional, Protocol, Tuple

import torch

from crowdhmt_ros.elastic.steps import Apply, Norm, Normalise, Part, Program
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, ParameterValue

Parameters = Mapping[str, ParameterValue]
WIDTH_STEPS = 8
"""Widths are eighths of a group's size."""


@dataclass(frozen=True)
class StageConfig:
    """
    What the operators of a variant make of a stage.

    :param ratio: width of the stage's groups, 0 < ratio <= 1
    :param seed: draws each group's own width around `ratio`; 0 for none
    :param blocks: how many stay
    :param kernel: largest kernel, 0 for no limit
    :param stride: additional stride at the stage's entry
    :param forms: (operator, parameters), the first that applies to a unit rewrites it
    """

    ratio: float = 1.0
    seed: int = 0
    blocks: int = 1
    kernel: int = 0
    stride: int = 1
    forms: Tuple[OperatorChoice, ...] = ()


@dataclass(frozen=True)
class UnitShape:
    """
    A unit as wide as a variant wants it.

    :param unit: the full unit
    :param inputs: channels that come in, the first ones
    :param outputs: channels that go out, the first ones
    :param kernel: per spatial axis, not larger than the unit's and of the same parity
    :param stride: per spatial axis
    """

    unit: Unit
    inputs: int
    outputs: int
    kernel: Tuple[int, ...]
    stride: Tuple[int, ...]

    @property
    def padding(self) -> Tuple[int, ...]:
        """Padding for this kernel, so that the result is as large as with the full one."""
        return tuple(p - d * (full - k) // 2 for p, d, full, k in zip(
            self.unit.padding, self.unit.dilation, self.unit.kernel, self.kernel))

    def crop(self, axis: int) -> Tuple[int, int]:
        """Return the middle part of a full kernel along a spatial axis."""
        margin = (self.unit.kernel[axis] - self.kernel[axis]) // 2
        return (margin, margin + self.kernel[axis])

    @property
    def crops(self) -> Tuple[Tuple[int, int], ...]:
        """`crop` of every spatial axis."""
        return tuple(self.crop(axis) for axis in range(len(self.kernel)))

    def own(self) -> Program:
        """Write down what the unit does in its own form: slices of the backbone's tensors."""
        unit = self.unit
        if unit.kind == 'norm':
            norm = self.norm()
            assert norm is not None
            return (Normalise(0, norm),)
        channels, groups = (0, unit.inputs // unit.groups), unit.groups
        if unit.groups == 1:
            channels = (0, self.inputs)
        elif unit.is_depthwise:
            groups = self.outputs
        weight = Part(unit.name + '.weight', ((0, self.outputs), channels, *self.crops))
        return (Apply(0, weight, self.bias(), self.stride, self.padding, unit.dilation, groups,
                      self.norm()),)

    def bias(self, start: int = 0, stop: Optional[int] = None) -> Optional[Part]:
        """Return the unit's bias for a span of its outputs, None where it has none."""
        end = self.outputs if stop is None else stop
        return Part(self.unit.name + '.bias', ((start, end),)) if self.unit.bias else None

    def norm(self, start: int = 0, stop: Optional[int] = None) -> Optional[Norm]:
        """Return the unit's normalisation for a span of its outputs, None where it has none."""
        if not self.unit.norm:
            return None
        span = (start, self.outputs if stop is None else stop)
        gain = shift = None
        if self.unit.norm_affine:
            gain = Part(self.unit.norm + '.weight', (span,))
            shift = Part(self.unit.norm + '.bias', (span,))
        return Norm(self.unit.norm, span, gain, shift, self.unit.epsilon)


class Operator(Protocol):
    """One way to make a stage cheaper."""

    @property
    def name(self) -> str:
        """Name in an `OperatorChoice`."""

    @property
    def eta(self) -> int:
        """Category of the paper, 1 to 6."""

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """
        Offer what makes sense for a stage, the mildest first; empty where nothing does.

        :param units: of the stage
        """

    def refusal(self, stage: Stage, units: Tuple[Unit, ...]) -> str:
        """Tell why the operator does not fit a stage, '' where it does."""

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """
        Enter the operator into a stage's configuration.

        :raises ExportError: the parameters do not fit
        """


class Form(Operator, Protocol):
    """An operator that rewrites single units (eta1, eta2, eta4)."""

    def unit_refusal(self, unit: Unit) -> str:
        """Tell why a unit keeps its own form, '' where this one applies."""

    def tensors(self, unit: Unit, weight: torch.Tensor, moment: Optional[torch.Tensor] = None,
                outputs: Optional[torch.Tensor] = None) -> Dict[str, torch.Tensor]:
        """
        Derive the form's shared tensors from the backbone's (parameter transformation).

        :param weight: the unit's, (outputs, inputs / groups, *kernel), float64
        :param moment: mean of x x^T over images and places, (inputs, inputs), float64, of
            centred inputs where a normalisation follows: it absorbs constants; None while
            nothing is known of the inputs
        :param outputs: the same of what the layer gives, (outputs, outputs)
        :returns: shared tensors by name, float64; at full width, sliced by `program`
        """

    def program(self, shape: UnitShape, parameters: Parameters) -> Program:
        """
        Write down what the unit does in this form.

        :raises ExportError: the parameters do not fit
        """


@dataclass(frozen=True)
class FormBase:
    """What forms have in common: entering themselves, and refusing stages without a fit unit."""

    name: str = field(init=False, default='')

    def unit_refusal(self, unit: Unit) -> str:
        """See `Form.unit_refusal`."""
        raise NotImplementedError

    def refusal(self, stage: Stage, units: Tuple[Unit, ...]) -> str:
        """Refuse a stage none of whose units takes the form; the commonest reason is given."""
        reasons = [self.unit_refusal(u) for u in units]
        if '' in reasons:
            return ''
        return max(set(reasons), key=reasons.count) if reasons else 'the stage has no layers'

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """Append the form; an earlier one of the same stage goes first."""
        if any(c.operator == self.name for c in config.forms):
            raise ExportError('operator %s comes twice in a stage; name it once' % self.name)
        choice = OperatorChoice(self.name, tuple(sorted(parameters.items())))
        return replace(config, forms=(*config.forms, choice))
