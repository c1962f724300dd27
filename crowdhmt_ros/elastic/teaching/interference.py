# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Interference: what a step of one variant does to the others that share its weights (P III-A1).

From the same tensors, with the same gradients, one step is tried for each protection and undone.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from crowdhmt_ros.elastic.norms import BatchNorms
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.members import has_any
from crowdhmt_ros.elastic.teaching.phases import PHASES
from crowdhmt_ros.elastic.teaching.place import Place
from crowdhmt_ros.elastic.teaching.protection import Gradient, merge
from crowdhmt_ros.elastic.teaching.ranks import Ranks
from crowdhmt_ros.elastic.teaching.recipe import PROTECTIONS, PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.step import Teacher
from crowdhmt_ros.types import Variant

Labelled = Tuple[torch.Tensor, torch.Tensor]
"""Inputs (n, ...) and labels (n,)."""


@dataclass(frozen=True)
class Interference:
    """
    Losses of the others around one variant's step.

    :param before: name -> cross entropy before the step
    :param after: protection -> name -> cross entropy behind it
    :param conflict_ratio: see `protection.Merged`; None where nothing is shared
    """

    before: Mapping[str, float]
    after: Mapping[str, Mapping[str, float]]
    conflict_ratio: Optional[float]

    def damage(self, protection: str) -> Dict[str, float]:
        """Return by how much each loss rose; below 0 where the step helped."""
        return {name: loss - self.before[name] for name, loss in self.after[protection].items()}


def interference(net: Supernet, recipe: Recipe, *, plan: PhaseRecipe, variant: Variant,
                 others: Mapping[str, Variant], learnt: Labelled, judged: Labelled
                 ) -> Interference:
    """
    Measure what one step of a variant does to others, without protection and with it.

    The step is the variant's part of a training step alone, plain descent at the phase's peak
    learning rate; the whole network's own part would hide it. One that learns at every step counts
    as the recipe has it: wholly, and unprotected. The tensors are left as they were,
    and so is the state of the random numbers.

    :param net: the family, on the device of the inputs
    :param recipe: of the whole training
    :param plan: of the phase that the step is of
    :param variant: takes the step
    :param others: name -> whose losses are told; the whole network belongs among them
    :param learnt: what the step learns from
    :param judged: what the losses are of
    :raises ExportError: a variant does not fit the network
    """
    phase = PHASES[plan.phase](net, plan, recipe)
    parameters = [net.tensor(name) for name in sorted(phase.trained())]
    was_training = net.training
    with torch.random.fork_rng():
        found = Teacher(net.train(), Place(), Ranks()).gradients(
            phase, parameters, [variant], *learnt)
    own, theirs = found.own, found.others
    steady = has_any(variant, plan.every_step)
    net.eval()
    before = _losses(net, others, judged)
    ratio: Gradient = None
    after: Dict[str, Dict[str, float]] = {}
    for protection in PROTECTIONS:
        merged = merge(own, theirs, 'none' if steady else protection,
                       weight=1.0 if steady else plan.variants_weight)
        ratio = merged.conflict_ratio
        after[protection] = _after(net, parameters, _parts(own, theirs, merged.gradients),
                                   plan.learning_rate, others, judged)
    net.train(was_training)
    return Interference(before, after, None if ratio is None else float(ratio))


def _parts(own: Sequence[Gradient], theirs: Sequence[Gradient], merged: Sequence[Gradient]
           ) -> List[Gradient]:
    """Return what of the joined gradients is the variant's."""
    return [None if t is None or m is None else m if o is None else m - o
            for o, t, m in zip(own, theirs, merged)]


@torch.no_grad()
def _after(net: Supernet, parameters: Sequence[nn.Parameter], parts: Sequence[Gradient],
           rate: float, others: Mapping[str, Variant], judged: Labelled) -> Dict[str, float]:
    """Return the losses behind a step, and undo it."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        for parameter, part in zip(parameters, parts):
            if part is not None:
                parameter.sub_(rate * part)
        return _losses(net, others, judged)
    finally:
        for parameter, value in zip(parameters, kept):
            parameter.copy_(value)


@torch.no_grad()
def _losses(net: Supernet, variants: Mapping[str, Variant], judged: Labelled) -> Dict[str, float]:
    inputs, labels = judged
    return {name: float(F.cross_entropy(
        net(inputs, variant, BatchNorms(), every_exit=False)[-1].float(), labels))
        for name, variant in variants.items()}
