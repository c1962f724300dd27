# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From what a data set gives to what a network takes; goes with a family's file to the robot."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import torch


@dataclass(frozen=True)
class InputScaling:
    """
    From what a data set gives to a network's input: (x * scale - mean) / std, per channel.

    :param mean: per channel; empty where it is still to be measured on the training part
    :param std: per channel, above 0; empty likewise
    :param scale: of the values; 1/255 for pixels, whose mean and std are of values from 0 to 1
    """

    mean: Tuple[float, ...] = ()
    std: Tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def settled(self) -> bool:
        """Whether mean and standard deviation are known."""
        return bool(self.mean)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """
        Turn values into a network's input, in place.

        :param x: float32 (n, c, ...)
        :returns: the same tensor
        """
        shape = (1, -1, *(1,) * (x.ndim - 2))
        gain = torch.tensor([self.scale / s for s in self.std]).view(shape)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std)]).view(shape)
        return x.mul_(gain).add_(shift)
