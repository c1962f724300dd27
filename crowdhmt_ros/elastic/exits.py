# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exits: where a network may answer, and the head that answers there (P III-A1)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

EXIT_DROPOUT = 0.1
"""Share of features hidden from an exit's classifier while it is trained."""


def exit_name(exit_index: int) -> str:
    """Return the name of the shared tensors of an exit's classifier, without '.weight'."""
    return 'exits.%d' % exit_index


def pooled(x: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """
    Pool features over all places.

    :param x: (n, c, ...) or, with the last axis for channels, (n, ..., c)
    :returns: (n, c)
    """
    places = [a for a in range(1, x.ndim) if a != channel_axis % x.ndim]
    return x.mean(places) if places else x


class ExitHead(nn.Module):
    """Adaptive average pool, dropout, linear classifier."""

    def __init__(self, features: int, classes: int, channel_axis: int) -> None:
        """
        Build an untrained head.

        :param features: channels that come in
        :param classes: scores that go out
        :param channel_axis: of the features
        """
        super().__init__()
        self.channel_axis = channel_axis
        self.dropout = nn.Dropout(EXIT_DROPOUT)
        self.linear = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (n, classes)."""
        if x.ndim == 4 and self.channel_axis == 1:
            x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)  # one operator of an engine
        else:
            x = pooled(x, self.channel_axis)
        logits: torch.Tensor = self.linear(self.dropout(x))
        return logits
