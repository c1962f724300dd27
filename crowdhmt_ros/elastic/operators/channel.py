# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Channel scaling (eta6, P III-A1): layers keep the first channels of each group.

The machinery sorts channels by importance beforehand (`transformation`), so the first ones are
the best. With a seed each group draws its own width around the ratio (channel-wise
randomisation): sub-networks of about equal cost that differ, which makes an ensemble diverse.
"""
from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from crowdhmt_ros.elastic.operators.operator import Parameters, StageConfig
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import OperatorChoice

RATIOS = (0.75, 0.5, 0.375, 0.25)
SEEDS = (1, 2)


class Channel:
    """Keep `ratio` of the channels; `seed` above 0 randomises around it."""

    name = 'channel'
    eta = 6

    def choices(self, stage: Stage, units: Tuple[Unit, ...]) -> Tuple[OperatorChoice, ...]:
        """Offer plain ratios, then randomised ones."""
        if self.refusal(stage, units):
            return ()
        plain = [channel(ratio) for ratio in RATIOS]
        return (*plain, *(channel(r, seed) for r in RATIOS[:2] for seed in SEEDS))

    def refusal(self, stage: Stage, units: Tuple[Unit, ...]) -> str:
        """Refuse a stage without a layer that makes channels."""
        makers = [u for u in units if u.kind != 'norm' and u.outputs > 1]
        return '' if makers else 'no layer of the stage makes channels'

    def configure(self, stage: Stage, config: StageConfig, parameters: Parameters) -> StageConfig:
        """
        Narrow a stage.

        :param parameters: `ratio`, 0 < ratio <= 1, and `seed`, 0 for none
        :raises ExportError: the ratio is out of range
        """
        ratio, seed = float(parameters.get('ratio', 1.0)), int(parameters.get('seed', 0))
        if not 0.0 < ratio <= 1.0:
            raise ExportError('channel ratio is %g; give a ratio above 0 and up to 1' % ratio)
        return replace(config, ratio=ratio, seed=seed)


def channel(ratio: float, seed: int = 0) -> OperatorChoice:
    """Describe a narrowing to `ratio` of the channels."""
    drawn = (('seed', seed),) if seed else ()
    return OperatorChoice('channel', (('ratio', ratio), *drawn))
