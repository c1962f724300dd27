# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a variant after parameter transformation alone (E5): nothing is trained."""
from __future__ import annotations

from functools import cached_property
from typing import List, NamedTuple, Protocol, Sequence

import torch
import torch.nn.functional as F

from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import Variant


class Measured(NamedTuple):
    """
    What a variant is worth.

    :param loss: divergence of its scores from the whole network's, nats per image; 0 is alike
    :param accuracy: share of right answers, 0 to 1
    """

    loss: float
    accuracy: float


class Meter(Protocol):
    """Measures variants of a network."""

    @property
    def net(self) -> Supernet:
        """The network."""

    def measure(self, variant: Variant) -> Measured:
        """
        Measure a variant.

        :raises ExportError: it does not fit the network
        """


class ZeroShot:
    """Runs variants on images that were held back, with statistics of other images."""

    def __init__(self, net: Supernet, calibration: Sequence[torch.Tensor],
                 images: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> None:
        """
        Take what is measured on.

        :param net: transformed
        :param calibration: batches from which statistics are measured, per variant
        :param images: batches of other images
        :param labels: their classes, as many
        :raises DataError: there are none, or the network gives no classes
        """
        if not net.structure.classes:
            raise DataError('the network gives no scores of classes: its accuracy is unknown')
        if not images or not calibration or [len(x) for x in images] != list(map(len, labels)):
            raise DataError('no images to measure on; give images with as many labels')
        self.net, self._calibration = net, calibration
        self._images, self._labels = images, labels

    @property
    def count(self) -> int:
        """Images that an accuracy is measured on."""
        return sum(map(len, self._images))

    @torch.no_grad()
    def logits(self, variant: Variant) -> torch.Tensor:
        """Return the scores of all images, (n, classes)."""
        norms = FixedNorms(calibrate(self.net, [variant], self._calibration))
        was_training = self.net.training
        self.net.eval()
        answers: List[torch.Tensor] = [
            self.net(x, variant, norms, every_exit=False)[-1] for x in self._images]
        self.net.train(was_training)
        return torch.cat(answers)

    @cached_property
    def _wanted(self) -> torch.Tensor:
        return F.softmax(self.logits(self.net.whole()).double(), 1)

    def measure(self, variant: Variant) -> Measured:
        """See `Meter.measure`."""
        logits = self.logits(variant).double()
        loss = F.kl_div(F.log_softmax(logits, 1), self._wanted, reduction='batchmean')
        right = logits.argmax(1) == torch.cat(list(self._labels))
        return Measured(float(loss), float(right.double().mean()))
