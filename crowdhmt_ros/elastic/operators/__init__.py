# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compression operators that a stage can be given (P III-A1).

An operator is a pure function from one stage's shape to another; it holds no state.
"""
from __future__ import annotations

from typing import Dict, Mapping, Protocol, Tuple

from crowdhmt_ros.elastic.stage_shapes import StageShape
from crowdhmt_ros.elastic.operators.channel import Channel
from crowdhmt_ros.elastic.operators.depth import Depth
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, ParameterValue


class Operator(Protocol):
    """One way to make a stage smaller."""

    @property
    def name(self) -> str:
        """Name in an `OperatorChoice`."""

    def apply(self, stage: StageShape, parameters: Mapping[str, ParameterValue]) -> StageShape:
        """
        Shrink one stage.

        :raises ExportError: the parameters do not fit the stage
        """


OPERATORS: Dict[str, Operator] = {o.name: o for o in (Channel(), Depth())}


def apply_operators(stage: StageShape, choices: Tuple[OperatorChoice, ...]) -> StageShape:
    """
    Apply the operators of one stage in order.

    :param stage: the full stage
    :param choices: as in `Variant.stages`
    :raises ExportError: unknown operator or unfit parameters
    """
    for choice in choices:
        operator = OPERATORS.get(choice.operator)
        if operator is None:
            raise ExportError('operator %r is not known; choose one of %s'
                              % (choice.operator, ', '.join(sorted(OPERATORS))))
        stage = operator.apply(stage, dict(choice.parameters))
    return stage
