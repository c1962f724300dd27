# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How often variants are right (P IV-A): each is taken out of the family, and answers every input.

Nothing is calibrated here: a variant is judged with the statistics that it was given.
"""
from __future__ import annotations

from typing import Any, Dict, List, Mapping, Protocol

import torch

from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import FixedNorms, Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import Variant

BATCH = 250


class LabelledInputs(Protocol):
    """Inputs with their classes."""

    @property
    def inputs(self) -> torch.Tensor:
        """Inputs as the network takes them: float32 (n, ...)."""

    @property
    def labels(self) -> torch.Tensor:
        """Classes: int64 (n,)."""


def accuracies(net: Supernet, variants: Mapping[str, Variant], statistics: Statistics,
               labelled: LabelledInputs, *, balanced: bool = False, batch: int = BATCH
               ) -> Dict[str, float]:
    """
    Measure how often each variant is right, at its own exit.

    :param variants: name -> variant
    :param statistics: of all of them
    :param balanced: the mean over the classes that are there, instead of over the inputs
    :param batch: inputs at a time; makes no difference to the answers
    :returns: name -> ratio of right answers
    :raises ExportError: statistics are missing, or a variant does not fit
    :raises DataError: there are no inputs, or not one label for each
    """
    _check(labelled)
    return {name: accuracy_of(answers(net, variant, statistics, labelled.inputs, batch=batch),
                              labelled.labels, balanced=balanced)
            for name, variant in variants.items()}


@torch.inference_mode()
def answers(net: Supernet, variant: Variant, statistics: Statistics, inputs: torch.Tensor, *,
            batch: int = BATCH) -> torch.Tensor:
    """
    Return the scores that a variant gives, (n, classes), on the processor.

    :param statistics: of the variant
    :param inputs: (n, ...), as the network takes them
    :raises ExportError: statistics are missing, or the variant does not fit
    """
    device = next(net.parameters()).device
    module = extract(net, variant, statistics).module.to(device)
    found = []
    for part in torch.split(inputs, batch):
        x = part.to(device)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # faster; the answers stay
        found.append(module(x).float().cpu())
    return torch.cat(found)


@torch.inference_mode()
def outputs_of(net: Supernet, variant: Variant, statistics: Statistics, inputs: torch.Tensor, *,
               batch: int = BATCH) -> List[torch.Tensor]:
    """
    Return the scores that a variant gives at each exit on its way.

    :param statistics: of the variant
    :param inputs: (n, ...), as the network takes them
    :returns: per exit (n, classes), the earliest first, the variant's own last
    :raises ExportError: statistics are missing, or the variant does not fit
    """
    norms, device = FixedNorms(statistics), next(net.parameters()).device
    was_training = net.training
    net.eval()
    parts: List[List[Any]] = [net(part.to(device), variant, norms, every_exit=True)
                              for part in torch.split(inputs, batch)]
    net.train(was_training)
    return [torch.cat(scores).float().cpu() for scores in zip(*parts)]


def accuracy_of(scores: torch.Tensor, labels: torch.Tensor, *, balanced: bool = False) -> float:
    """
    Return the ratio of right answers.

    :param scores: (n, classes)
    :param labels: (n,)
    :param balanced: the mean over the classes that are there, instead of over the inputs
    """
    right = (scores.argmax(1) == labels).double()
    if not balanced:
        return float(right.mean())
    counts = torch.bincount(labels)
    hits = torch.bincount(labels, right)
    there = counts > 0
    return float((hits[there] / counts[there]).mean())


def _check(labelled: LabelledInputs) -> None:
    inputs, labels = len(labelled.inputs), len(labelled.labels)
    if not labels or inputs != labels:
        raise DataError('accuracy needs inputs, and a label for each: there are %d inputs and '
                        '%d labels' % (inputs, labels))
