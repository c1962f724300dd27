# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Composite scaling (eta3, P III-A1): kernel and stride of a stage's convolutions.

A smaller kernel is the middle of the full one, as in Once-for-all; a larger stride halves the
resolution at the stage's entry, for the shortcuts too. The third member, the number of input
and output channels, is the ratio, which composite scaling may carry along.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from crowdhmt_ros.elastic.operators.operator import Parameters, StageConfig
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, ParameterValue


class Scale:
    """Limit the kernels of a stage, and divide its resolution."""

    name = 'scale'
    eta = 3

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer smaller kernels, a larger stride, and all three scales together."""
        largest = max([k for u in units for k in u.kernel], default=1)
        found = [scale(kernel=k) for k in (5, 3, 1) if k < largest]
        if not stage.stride_refused:
            found += [scale(stride=2), scale(stride=2, ratio=0.75)]
        return tuple(found)

    def refusal(self, stage: Stage, units: Tuple[Unit, ...]) -> str:
        """Refuse a stage whose kernels are of one place and whose resolution must stay."""
        if any(k > 1 for u in units for k in u.kernel) or not stage.stride_refused:
            return ''
        return 'its layers have no kernel to shrink, and ' + stage.stride_refused

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """
        Scale a stage.

        :param parameters: any of `kernel` (largest, odd), `stride` (factor) and `ratio`
        :raises ExportError: one of them is out of range
        """
        kernel, stride = int(parameters.get('kernel', 0)), int(parameters.get('stride', 1))
        ratio = float(parameters.get('ratio', config.ratio))
        if kernel < 0 or (kernel and kernel % 2 == 0):
            raise ExportError('scale limits kernels to %d; give an odd number' % kernel)
        if stride not in (1, 2):
            raise ExportError('scale divides the resolution by %d; give 1 or 2' % stride)
        if not 0.0 < ratio <= 1.0:
            raise ExportError('scale ratio is %g; give a ratio above 0 and up to 1' % ratio)
        return replace(config, kernel=kernel, stride=stride, ratio=ratio)


def scale(*, kernel: int = 0, stride: int = 1, ratio: float = 1.0) -> OperatorChoice:
    """Describe a scaling; what changes nothing is left out."""
    given: Tuple[Tuple[str, ParameterValue, ParameterValue], ...] = (
        ('kernel', kernel, 0), ('ratio', ratio, 1.0), ('stride', stride, 1))
    return OperatorChoice('scale', tuple((n, v) for n, v, neutral in given if v != neutral))
