# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth scaling: a stage keeps its first blocks (P III-A1)."""
from __future__ import annotations

import dataclasses
from typing import Mapping

from crowdhmt_ros.elastic.stage_shapes import StageShape
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, ParameterValue


class Depth:
    """Keep the first `blocks` residual blocks; the first one changes size and always stays."""

    name = 'depth'

    def apply(self, stage: StageShape, parameters: Mapping[str, ParameterValue]) -> StageShape:
        """
        Shorten a stage.

        :param parameters: `blocks`, 1 up to the stage's blocks
        :raises ExportError: the number of blocks is out of range
        """
        blocks = int(parameters.get('blocks', stage.blocks))
        if not 1 <= blocks <= stage.blocks:
            raise ExportError('depth keeps %d blocks; this stage has 1 to %d'
                              % (blocks, stage.blocks))
        return dataclasses.replace(stage, blocks=blocks)


def depth(blocks: int) -> OperatorChoice:
    """Describe a shortening to `blocks` blocks."""
    return OperatorChoice('depth', (('blocks', blocks),))
