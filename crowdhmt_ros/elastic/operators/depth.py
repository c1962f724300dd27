# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth scaling (eta5, P III-A1): a stage keeps its first blocks."""
from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from crowdhmt_ros.elastic.operators.operator import Parameters, StageConfig
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice


class Depth:
    """Keep `blocks` blocks; those that change the shape always stay."""

    name = 'depth'
    eta = 5

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer every smaller number of blocks."""
        return tuple(depth(n) for n in range(len(stage.blocks) - 1, stage.least_blocks - 1, -1))

    def refusal(self, stage: Stage, units: Tuple[Unit, ...]) -> str:
        """Refuse a stage all of whose blocks change the shape."""
        return '' if len(stage.blocks) > stage.least_blocks else (
            'every block of the stage changes the shape or the width of what passes')

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """
        Shorten a stage.

        :param parameters: `blocks`, up to the stage's blocks
        :raises ExportError: the number of blocks is out of range
        """
        blocks = int(parameters.get('blocks', len(stage.blocks)))
        if not stage.least_blocks <= blocks <= len(stage.blocks):
            raise ExportError('depth keeps %d blocks; this stage has %d to %d'
                              % (blocks, stage.least_blocks, len(stage.blocks)))
        return replace(config, blocks=blocks)


def depth(blocks: int) -> OperatorChoice:
    """Describe a shortening to `blocks` blocks."""
    return OperatorChoice('depth', (('blocks', blocks),))
