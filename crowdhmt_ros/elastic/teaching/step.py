# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One step of a phase: the gradients of the whole network and of others, joined."""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.phases import Phase
from crowdhmt_ros.elastic.teaching.place import Place
from crowdhmt_ros.elastic.teaching.protection import Gradient, merge
from crowdhmt_ros.elastic.teaching.ranks import Ranks
from crowdhmt_ros.types import Variant


class Taught(NamedTuple):
    """
    What a step found, as scalar tensors; reading one waits for the device.

    :param losses: 'backbone', 'variants' (their mean), where there are some
    :param conflict_ratio: see `protection.Merged`
    """

    losses: Dict[str, torch.Tensor]
    conflict_ratio: Optional[torch.Tensor]


class Parties(NamedTuple):
    """
    Gradients of one step by whose they are, each per parameter, before they are joined.

    :param own: the whole network's
    :param steady: of the members that learn at every step, summed
    :param others: of the step's variants, summed
    :param losses: as `Taught` has them
    """

    own: List[Gradient]
    steady: List[Gradient]
    others: List[Gradient]
    losses: Dict[str, torch.Tensor]


class Teacher:
    """Runs the networks of a step and leaves its gradient in the parameters."""

    def __init__(self, net: Supernet, place: Place, ranks: Ranks) -> None:
        """
        Prepare.

        :param place: where, and how precisely
        :param ranks: who else takes part
        """
        self._net, self._place, self._ranks = net, place, ranks
        self._norms = ranks.norms()

    def teach(self, phase: Phase, parameters: Sequence[nn.Parameter],
              variants: Sequence[Variant], inputs: torch.Tensor, labels: torch.Tensor) -> Taught:
        """
        Set the gradients of one step.

        :param phase: says the losses
        :param parameters: that learn
        :param variants: beside the whole network and the members that learn at every step
        """
        found = self.gradients(phase, parameters, variants, inputs, labels)
        merged = merge(found.own, found.others, phase.plan.protection,
                       weight=phase.plan.variants_weight)
        for parameter, gradient, steady in zip(parameters, merged.gradients, found.steady):
            parameter.grad = steady if gradient is None else (
                gradient if steady is None else gradient + steady)
        self._ranks.average(list(found.losses.values()))
        return Taught(found.losses, merged.conflict_ratio)

    def gradients(self, phase: Phase, parameters: Sequence[nn.Parameter],
                  variants: Sequence[Variant], inputs: torch.Tensor, labels: torch.Tensor
                  ) -> Parties:
        """
        Return the gradients of one step, before they are joined, and the losses.

        :param phase: says the losses
        :param parameters: that learn
        :param variants: beside the whole network and the members that learn at every step
        """
        losses: Dict[str, torch.Tensor] = {}
        for parameter in parameters:
            parameter.grad = None
        with self._ranks.drawing():
            teachers = self._whole(phase, inputs, labels, losses)
            own = self._taken(parameters)
            shares = [self._variant(phase, v, inputs, teachers, labels)
                      for v in phase.members.every_step]
            steady = self._taken(parameters)
            shares += [self._variant(phase, v, inputs, teachers, labels) for v in variants]
        if shares:
            losses['variants'] = torch.stack(shares).mean()
        return Parties(own, steady, self._taken(parameters), losses)

    def _variant(self, phase: Phase, variant: Variant, inputs: torch.Tensor,
                 teachers: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Add a variant's gradient to what is there, and return its loss."""
        answers = self._answers(inputs, variant, every_exit=phase.teaches_exits)
        loss = phase.variant_loss(answers, teachers, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _whole(self, phase: Phase, inputs: torch.Tensor, labels: torch.Tensor,
               losses: Dict[str, torch.Tensor]) -> List[torch.Tensor]:
        """Run the whole network, let it learn where the phase says so, return its answers."""
        whole = self._net.whole()
        if not phase.teaches_backbone:
            self._net.eval()  # a teacher that does not learn drops nothing
            with torch.no_grad():
                answers = self._answers(inputs, whole, every_exit=phase.teaches_exits)
            self._net.train()
            return [F.softmax(a.float(), 1) for a in answers]
        answers = self._answers(inputs, whole, every_exit=phase.teaches_exits)
        loss = phase.backbone_loss(answers, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        losses['backbone'] = loss.detach()
        return [F.softmax(a.detach().float(), 1) for a in answers]

    def _answers(self, inputs: torch.Tensor, variant: Variant, *, every_exit: bool = True
                 ) -> List[torch.Tensor]:
        with self._place.computing():
            answers: List[torch.Tensor] = self._net(
                inputs, variant, self._norms, every_exit=every_exit)
        return answers

    def _taken(self, parameters: Sequence[nn.Parameter]) -> List[Gradient]:
        """Take the gradients out of the parameters, averaged over the ranks."""
        taken = [p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        self._ranks.average(taken)
        return taken
