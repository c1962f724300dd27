# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The phases of a training, in the paper's order (E3, P III-A1): what a step trains, and its loss.

Each one says which tensors it trains, which variants a step takes beside the whole network, and
how these lose. The whole network is the teacher of every step.
"""
from __future__ import annotations

import math
from typing import Dict, List, Optional, Sequence, Set, Type

import numpy as np
import torch

from crowdhmt_ros.elastic.exits import exit_name
from crowdhmt_ros.elastic.plan import part_names
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching import losses
from crowdhmt_ros.elastic.teaching.members import Members
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.sampling import Sampler
from crowdhmt_ros.types import Variant


class Phase:
    """What phases have in common."""

    teaches_backbone = True
    """Whether the whole network learns too, from the labels."""
    can_sandwich = False
    """Whether the leanest variant is trained at every step, unless the recipe says otherwise."""

    def __init__(self, net: Supernet, plan: PhaseRecipe, recipe: Recipe,
                 members: Sequence[Variant] = ()) -> None:
        """
        Prepare a phase.

        :param net: the family
        :param plan: of this phase
        :param recipe: of the whole training
        :param members: of the family that are trained by name
        :raises ExportError: a member does not fit the network
        """
        self.net, self.plan, self.recipe = net, plan, recipe
        self.sampler = Sampler(net, plan.categories, least_ratio=plan.least_ratio,
                               operators=plan.operators)
        self.members = Members(net, members, self.sampler.operators, self.trained(),
                               largest=plan.largest, every_step=plan.every_step)
        self._leanest: Optional[Variant] = None
        if self.sandwiches:
            self._leanest = self.members.leanest() or self.sampler.leanest()
            self.members.leave_out(self._leanest)

    @property
    def transforms(self) -> bool:
        """Whether the forms are derived from the backbone at the start."""
        return self.plan.transform

    @property
    def sandwiches(self) -> bool:
        """Whether the leanest variant is trained at every step."""
        return self.can_sandwich and self.plan.sandwich

    @property
    def is_idle(self) -> bool:
        """Whether the network offers none of the phase's operators: there is nothing to do."""
        return not self.sampler.operators

    @property
    def teaches_exits(self) -> bool:
        """Whether earlier exits answer and learn beside a network's own end."""
        return self.plan.early_exit_weight > 0.0

    def trained(self) -> Set[str]:
        """Name the shared tensors that learn."""
        return set(self.net.names())

    def variants(self, step: int, rng: np.random.Generator) -> List[Variant]:
        """
        Choose the variants of a step, beside those that learn at every one.

        :param step: counted over the phase; every member gets its turn, and every operator its
            turn as the focus of a random draw
        :param rng: of this step
        """
        count = self.plan.variants
        chosen = [self._drawn(step * count + k, rng) for k in range(count)]
        return chosen if self._leanest is None else [self._leanest, *chosen]

    def _drawn(self, number: int, rng: np.random.Generator) -> Variant:
        """Draw the phase's next variant: a member, or one at random."""
        ratio = self.plan.members_ratio if len(self.members) else 0.0
        turns = math.floor(number * ratio)
        if math.floor((number + 1) * ratio) > turns:
            return self.members.turn(turns)
        names = self.sampler.operators
        return self.sampler.draw(rng, names[(number - turns) % len(names)])

    def backbone_loss(self, answers: Sequence[torch.Tensor], labels: torch.Tensor
                      ) -> torch.Tensor:
        """Return the whole network's loss: see `losses.of_backbone`."""
        return losses.of_backbone(
            answers, labels, smoothing=self.recipe.label_smoothing,
            early_exit_weight=self.plan.early_exit_weight, hard_share=self.plan.hard_share)

    def variant_loss(self, answers: Sequence[torch.Tensor], teachers: Sequence[torch.Tensor],
                     labels: torch.Tensor) -> torch.Tensor:
        """
        Return a variant's loss: every exit learns the whole network's last answer.

        :param answers: of each exit, the variant's own last
        :param teachers: probabilities that the whole network's exits give, its own end last
        """
        return losses.of_variant(
            answers, [teachers[-1]] * len(answers), labels,
            early_exit_weight=self.plan.early_exit_weight, hard_share=self.plan.hard_share)


class BackbonePhase(Phase):
    """The largest network alone, to high accuracy, with its exits."""

    @property
    def is_idle(self) -> bool:
        """There is always a backbone."""
        return False

    def trained(self) -> Set[str]:
        """Name the backbone's tensors and the exits'."""
        return own_tensors(self.net)

    def variants(self, step: int, rng: np.random.Generator) -> List[Variant]:
        """Choose none."""
        return []


class TransformationPhase(Phase):
    """
    Forms of layers (eta1, eta2): derived from the backbone's tensors, then fitted.

    Only what the forms do not share learns, and it learns the backbone's answers: labels
    would pull the form away from what it stands for.
    """

    teaches_backbone = False

    @property
    def transforms(self) -> bool:
        """The forms begin here."""
        return True

    def trained(self) -> Set[str]:
        """Name the forms' own tensors."""
        return set(self.net.names()) - own_tensors(self.net)

    def variant_loss(self, answers: Sequence[torch.Tensor], teachers: Sequence[torch.Tensor],
                     labels: torch.Tensor) -> torch.Tensor:
        """Return the distance from the backbone's answers alone; exits cannot move here."""
        return losses.of_variant(
            answers, [*teachers[:len(answers) - 1], teachers[-1]], labels,
            early_exit_weight=self.plan.early_exit_weight, hard_share=0.0)


class DistillationPhase(Phase):
    """Variants of other kernels, strides, depths and cheap maps learn soft answers (eta3..5)."""


class MutationPhase(Phase):
    """Channel-wise mutation (eta6): narrower and randomised variants beside the leanest one."""

    can_sandwich = True


class JointPhase(Phase):
    """All operators in combination: largest, leanest and drawn ones (sandwich)."""

    can_sandwich = True


PHASES: Dict[str, Type[Phase]] = {
    'backbone': BackbonePhase,
    'transformation': TransformationPhase,
    'distillation': DistillationPhase,
    'mutation': MutationPhase,
    'joint': JointPhase,
}
"""By name, as `recipe.ETAS`."""


def own_tensors(net: Supernet) -> Set[str]:
    """Name the tensors of the whole network and of the exits: everything but the forms'."""
    names = part_names(net.plan(net.whole()))
    for index in range(len(net.structure.exits) - 1):
        names |= {exit_name(index) + '.weight', exit_name(index) + '.bias'}
    return names & set(net.names())
