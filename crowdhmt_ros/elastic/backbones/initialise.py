# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the weights of a new network are drawn; the caller sets the seed (torch.manual_seed)."""
from __future__ import annotations

from typing import Sequence, Union

from torch import nn

from crowdhmt_ros.errors import ConfigError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def draw_for_relu(network: nn.Module) -> None:
    """
    Draw the weights, in place (He et al. 2015).

    Convolutions keep the spread of rectified features, depthwise ones too (by their inputs, which
    are few, and not by their outputs). Linear layers keep what torch drew; biases become 0.
    """
    for layer in network.modules():
        if isinstance(layer, CONVOLUTIONS):
            nn.init.kaiming_normal_(layer.weight, mode='fan_in', nonlinearity='relu')
        if isinstance(layer, (*CONVOLUTIONS, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def check_choice(what: str, value: int, offered: Sequence[int]) -> None:
    """
    Refuse a value that is not offered.

    :raises ConfigError: with the values that are
    """
    if value not in offered:
        raise ConfigError('%s is %s: this network is built for %s' % (
            what, value, ', '.join(str(v) for v in offered)))


def check_counts(**counts: Union[int, Sequence[int]]) -> None:
    """
    Refuse a number of classes, channels or layers that is not a positive whole number.

    :raises ConfigError: which of them, and its value
    """
    for name, value in counts.items():
        numbers = (value,) if isinstance(value, int) else tuple(value)
        if not numbers or any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ConfigError('%s is %r: give whole numbers of at least 1' % (name, value))
