# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A battery that drains by a base load plus the energy of the inference that runs.

    ratio' = ratio - compression * (base_w * dt_s + inference_j) / capacity_j

`compression` lets a minute stand for hours: each second drains as much as `compression` seconds
would. The energy of inference is an estimate (profiling), so the ratio is one as well.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Battery:
    """
    State of charge.

    :param capacity_j: energy of the full battery.
    :param ratio: charge left, 0..1.
    :param time_compression_ratio: how many seconds' worth one second drains.
    :raises ValueError: a number that no battery has.
    """

    capacity_j: float
    ratio: float
    time_compression_ratio: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (math.isfinite(self.capacity_j) and self.capacity_j > 0.0):
            raise ValueError(f'capacity_j must be above 0, not {self.capacity_j}')
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f'ratio must be in 0..1, not {self.ratio}')
        if not (math.isfinite(self.time_compression_ratio) and self.time_compression_ratio > 0):
            raise ValueError('time_compression_ratio must be above 0, not '
                             f'{self.time_compression_ratio}')

    @property
    def energy_j(self) -> float:
        """Energy left."""
        return self.ratio * self.capacity_j

    def drain(self, base_w: float, inference_j: float, dt_s: float) -> Battery:
        """
        Battery after a while; it stops at empty.

        :param base_w: power of everything but inference.
        :param inference_j: energy of the inference that ran meanwhile.
        :param dt_s: length of the while.
        :raises ValueError: a negative or unknown amount.
        """
        for name, value in (('base_w', base_w), ('inference_j', inference_j), ('dt_s', dt_s)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f'{name} must be 0 or more, not {value}')
        used_j = self.time_compression_ratio * (base_w * dt_s + inference_j)
        return replace(self, ratio=max(0.0, self.ratio - used_j / self.capacity_j))


def compression_for(*, capacity_j: float, start_ratio: float, end_ratio: float, base_w: float,
                    inference_j: float, duration_s: float) -> float:
    """
    Time compression with which a run ends at a given charge.

    :param inference_j: energy that inference takes over the whole run.
    :raises ValueError: nothing drains the battery, or it would have to charge.
    """
    used_j = base_w * duration_s + inference_j
    if used_j <= 0.0 or end_ratio >= start_ratio:
        raise ValueError('a battery drains only with a load and towards a lower ratio')
    return (start_ratio - end_ratio) * capacity_j / used_j
