# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tuning: the statistics of listed members, which are measured first, then learn (*reconstructed*).

Mean and variance of a normalisation in its context are free numbers: another pair stands for
another gain and shift of that context alone. So members get gains and shifts of their own, as
switchable normalisations have them (Yu et al. 2019), without a tensor more, and what others answer
does not move. The whole network teaches.
"""
from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Set, Tuple

import torch
import torch.nn.functional as F

from crowdhmt_ros.elastic.norms import Affine, FixedNorms, Statistics, statistics_of
from crowdhmt_ros.elastic.plan import NetPlan
from crowdhmt_ros.elastic.steps import Norm, norms_of
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.losses import distilled
from crowdhmt_ros.types import Variant

LEARNING_RATE = 0.02
LEAST_SPREAD = 1e-6
Pair = Tuple[torch.Tensor, torch.Tensor]
Labelled = Tuple[torch.Tensor, torch.Tensor]


class LearningNorms:
    """Statistics of which some learn."""

    def __init__(self, statistics: Statistics, learning: Set[str]) -> None:
        """
        Begin with measured ones.

        :param statistics: of every normalisation that will run
        :param learning: keys of those that learn
        """
        self._fixed = FixedNorms(statistics)
        self._start: Dict[str, Pair] = {}
        self.moves: Dict[str, Pair] = {}
        for key in sorted(learning):
            mean, variance = statistics_of(statistics, key)
            spread = variance.clamp_min(LEAST_SPREAD).sqrt()
            self._start[key] = (mean.float(), spread.float())
            self.moves[key] = (torch.zeros_like(mean, dtype=torch.float32, requires_grad=True),
                               torch.zeros_like(mean, dtype=torch.float32, requires_grad=True))

    def parameters(self) -> List[torch.Tensor]:
        """Return what learns: per key a shift in spreads and the logarithm of a factor."""
        return [tensor for pair in self.moves.values() for tensor in pair]

    def __call__(self, x: torch.Tensor, norm: Norm, key: str, gain: Affine, shift: Affine
                 ) -> torch.Tensor:
        """See `Norms`."""
        if key not in self.moves:
            return self._fixed(x, norm, key, gain, shift)
        mean, spread = self._moved(key)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        scale = 1.0 / (spread.square() + norm.epsilon).sqrt()
        scale = scale if gain is None else scale * gain
        offset = -mean * scale if shift is None else shift - mean * scale
        return torch.addcmul(offset.view(shape), x, scale.view(shape))

    def _moved(self, key: str) -> Pair:
        (mean, spread), (step, factor) = self._start[key], self.moves[key]
        return mean + step * spread, spread * factor.exp()

    def statistics(self) -> Dict[str, Pair]:
        """Return those that learnt, as the others are given."""
        found = {}
        for key in self.moves:
            mean, spread = (value.detach().double() for value in self._moved(key))
            found[key] = (mean, spread.square())
        return found


def tune(net: Supernet, members: Sequence[Variant], statistics: Statistics,
         batches: Sequence[Labelled], *, hard_share: float,
         learning_rate: float = LEARNING_RATE) -> Dict[str, Pair]:
    """
    Let the statistics of members learn from the whole network's answers and the labels.

    Members come from dear to cheap; what a dearer one or the whole network normalises as well
    stays as it is.

    :param net: trained
    :param members: variants
    :param statistics: measured, of all of them and of the whole network
    :param batches: inputs (n, ...) and labels (n,)
    :param hard_share: share of the labels' loss
    :param learning_rate: peak; it falls to 0 for each member
    :returns: all statistics
    :raises ExportError: statistics are missing, or a member does not fit the network
    """
    net.eval()
    tuned = dict(statistics)
    whole = net.plan(net.whole())
    settled, fixed = set(_keys(whole)), FixedNorms(statistics)
    with torch.no_grad():
        teachers = [F.softmax(net.run(inputs, whole, fixed, every_exit=False)[-1].float(), 1)
                    for inputs, _ in batches]
    held = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    for parameter, _ in held:
        parameter.requires_grad_(False)
    for member in sorted(set(members), key=lambda m: -net.plan(m).macs):
        plan = net.plan(member)
        own = set(_keys(plan)) - settled
        settled |= own
        if own:
            tuned.update(_tuned(net, plan, LearningNorms(tuned, own), batches, teachers,
                                hard_share=hard_share, learning_rate=learning_rate))
    for parameter, learns in held:
        parameter.requires_grad_(learns)
    return tuned


def _tuned(net: Supernet, plan: NetPlan, norms: LearningNorms, batches: Sequence[Labelled],
           teachers: Sequence[torch.Tensor], *, hard_share: float, learning_rate: float
           ) -> Mapping[str, Pair]:
    optimizer = torch.optim.Adam(norms.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for (inputs, labels), teacher in zip(batches, teachers):
        optimizer.zero_grad()
        answer = net.run(inputs, plan, norms, every_exit=False)[-1]
        distilled(answer, teacher, labels, hard_share).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return norms.statistics()


def _keys(plan: NetPlan) -> List[str]:
    """Name the statistics that a plan reads."""
    return [plan.key(node, norm.key) for node, program in plan.programs.items()
            for norm in norms_of(program)]
