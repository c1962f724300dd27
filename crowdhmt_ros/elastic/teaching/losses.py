# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses: of the backbone against labels, of a variant against the whole network's answers."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F


def distilled(logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor,
              hard_share: float) -> torch.Tensor:
    """
    Return the loss against a teacher's answer, mixed with that against the labels.

    :param logits: (n, classes)
    :param teacher: probabilities, (n, classes)
    :param labels: (n,)
    :param hard_share: share of the labels' loss
    """
    soft = -(teacher * F.log_softmax(logits.float(), 1)).sum(1).mean()
    if hard_share == 0.0:
        return soft
    return hard_share * F.cross_entropy(logits.float(), labels) + (1.0 - hard_share) * soft


def of_backbone(answers: Sequence[torch.Tensor], labels: torch.Tensor, *, smoothing: float,
                early_exit_weight: float, hard_share: float) -> torch.Tensor:
    """
    Return the cross entropy of the last exit; the earlier ones learn from it and the labels.

    :param answers: of each exit, the last one last
    """
    loss = F.cross_entropy(answers[-1].float(), labels, label_smoothing=smoothing)
    teacher = F.softmax(answers[-1].detach().float(), 1)
    for early in answers[:-1]:
        loss = loss + early_exit_weight * distilled(early, teacher, labels, hard_share)
    return loss


def of_variant(answers: Sequence[torch.Tensor], teachers: Sequence[torch.Tensor],
               labels: torch.Tensor, *, early_exit_weight: float, hard_share: float
               ) -> torch.Tensor:
    """
    Return the loss of all exits against the whole network's answers.

    :param answers: of each exit, the variant's own last
    :param teachers: probabilities that each exit learns
    """
    loss = distilled(answers[-1], teachers[-1], labels, hard_share)
    for early, teacher in zip(answers[:-1], teachers):
        loss = loss + early_exit_weight * distilled(early, teacher, labels, hard_share)
    return loss
