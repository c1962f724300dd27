# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Channel scaling: a stage keeps the first channels of each of its layers (P III-A1)."""
from __future__ import annotations

import dataclasses
from typing import Mapping

from crowdhmt_ros.elastic.stage_shapes import StageShape
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice, ParameterValue

CHANNEL_MULTIPLE = 8
"""Widths are rounded to this: vector units stay full (and oneDNN fails on fewer than 8)."""


class Channel:
    """Keep the first `ratio` of the channels; the weights are slices of the shared ones."""

    name = 'channel'

    def apply(self, stage: StageShape, parameters: Mapping[str, ParameterValue]) -> StageShape:
        """
        Narrow a stage.

        :param parameters: `ratio`, 0 < ratio <= 1
        :raises ExportError: the ratio is out of range
        """
        ratio = float(parameters.get('ratio', 1.0))
        if not 0.0 < ratio <= 1.0:
            raise ExportError('channel ratio is %g; give a ratio above 0 and up to 1' % ratio)
        steps = max(1, round(stage.width * ratio / CHANNEL_MULTIPLE))
        return dataclasses.replace(stage, width=min(stage.width, steps * CHANNEL_MULTIPLE))


def channel(ratio: float) -> OperatorChoice:
    """Describe a narrowing to `ratio` of the channels."""
    return OperatorChoice('channel', (('ratio', ratio),))
