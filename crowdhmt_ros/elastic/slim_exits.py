# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exits: where a network may answer, and the head that answers there (P III-A1)."""
from __future__ import annotations

import torch
from torch import nn

EXIT_DROPOUT = 0.1
"""Share of features hidden from an exit's classifier while it is trained."""


def exit_name(exit_index: int) -> str:
    """Return the name of the shared weight of an exit's classifier, without '.weight'."""
    return 'exits.%d' % exit_index


class ExitHead(nn.Module):
    """Adaptive average pool, dropout, linear classifier."""

    def __init__(self, features: int, classes: int) -> None:
        """
        Build an untrained head.

        :param features: channels that come in
        :param classes: scores that go out
        """
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(EXIT_DROPOUT)
        self.linear = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (n, classes), of features of shape (n, c, h, w)."""
        logits: torch.Tensor = self.linear(self.dropout(torch.flatten(self.pool(x), 1)))
        return logits
