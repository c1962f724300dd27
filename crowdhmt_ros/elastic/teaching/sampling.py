# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which variants a step trains: draws over operators, and the extremes (sandwich).

Half of the draws treat all stages alike, as most deployed variants do; the others choose for
each stage. One operator of a draw is its focus, so that each one gets its turn.
"""
from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np

from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.types import OperatorChoice, Variant

OTHERS_RATIO = 0.4
"""How often a draw takes an operator beside its focus."""
FOCUS_RATIO = 0.75
"""How often a stage takes the focus, where stages choose for themselves."""
Offers = Tuple[Tuple[OperatorChoice, ...], ...]


class Sampler:
    """Draws variants of a network from some categories of operators."""

    def __init__(self, net: Supernet, categories: Sequence[int], *, least_ratio: float = 0.0,
                 operators: Sequence[str] = ()) -> None:
        """
        Look up what there is to draw.

        :param net: the family
        :param categories: of the paper, eta 1 to 6
        :param least_ratio: of the channels that a variant keeps
        :param operators: names of those that may be drawn; empty for all of the categories
        """
        structure = net.structure
        self._stages = len(structure.stages)
        self._exit = len(structure.exits) - 1
        self.offers: Dict[str, Offers] = {}
        for name in operators or OPERATORS:
            operator = OPERATORS[name]
            offers = tuple(
                tuple(c for c in operator.choices(stage, structure.units_of(index))
                      if name != 'channel' or float(dict(c.parameters)['ratio']) >= least_ratio)
                for index, stage in enumerate(structure.stages))
            if operator.eta in categories and any(offers):
                self.offers[name] = offers

    @property
    def operators(self) -> Tuple[str, ...]:
        """Operators that have something to offer."""
        return tuple(self.offers)

    def alone(self, operator: str, number: int = 0) -> Variant:
        """
        Return the variant that has one operator in every stage where it is offered.

        :param number: of the choice, 0 the mildest, negative ones from the harshest
        """
        stages = [() if not offers else (offers[_clipped(number, len(offers))],)
                  for offers in self.offers[operator]]
        return self._variant(stages, 0)

    def leanest(self) -> Variant:
        """Return the narrowest and shortest variant in the backbone's own forms."""
        stages: List[List[OperatorChoice]] = [[] for _ in range(self._stages)]
        for name in ('depth', 'channel'):
            for stage, offers in zip(stages, self.offers.get(name, ())):
                plain = [c for c in offers if 'seed' not in dict(c.parameters)]
                stage += plain[-1:]
        return self._variant(stages, 0)

    def draw(self, rng: np.random.Generator, focus: str) -> Variant:
        """
        Draw a variant.

        :param focus: operator that it surely has, in some stage
        """
        if rng.random() < 0.5:
            names = self._names(rng, focus)
            where = {name: rng.random() for name in names}
            stages = [[_at(self.offers[n][s], where[n]) for n in names if self.offers[n][s]]
                      for s in range(self._stages)]
        else:
            stages = [self._stage(rng, focus, s) for s in range(self._stages)]
            if not any(c.operator == focus for stage in stages for c in stage):
                offering = [s for s in range(self._stages) if self.offers[focus][s]]
                stage = int(rng.choice(offering))
                stages[stage] = [_at(self.offers[focus][stage], rng.random())]
        return self._variant(stages, int(rng.integers(self._stages)))

    def _names(self, rng: np.random.Generator, focus: str) -> List[str]:
        """Choose the operators of a draw: the focus and some others, one form at most."""
        taken = [name for name in self.offers if name == focus or rng.random() < OTHERS_RATIO]
        forms = [name for name in taken if name in FORMS]
        form = focus if focus in FORMS else str(rng.choice(forms)) if forms else ''
        return [name for name in taken if name not in FORMS or name == form]

    def _stage(self, rng: np.random.Generator, focus: str, stage: int) -> List[OperatorChoice]:
        names = self._names(rng, focus)
        if rng.random() >= FOCUS_RATIO:
            names.remove(focus)
        return [_at(self.offers[n][stage], rng.random()) for n in names if self.offers[n][stage]]

    def _variant(self, stages: Sequence[Sequence[OperatorChoice]], kept: int) -> Variant:
        """Make a variant in which one stage at most divides the resolution."""
        striding = [s for s, choices in enumerate(stages) if any(map(_strides, choices))]
        keep = striding[kept % len(striding)] if striding else -1
        return Variant(tuple(
            tuple(self._without_stride(s, c) if s != keep else c for c in choices)
            if any(map(_strides, choices)) and s != keep else tuple(choices)
            for s, choices in enumerate(stages)), self._exit)

    def _without_stride(self, stage: int, choice: OperatorChoice) -> OperatorChoice:
        if not _strides(choice):
            return choice
        rest = tuple((n, v) for n, v in choice.parameters if n != 'stride')
        return OperatorChoice(choice.operator, rest)


def _strides(choice: OperatorChoice) -> bool:
    return int(dict(choice.parameters).get('stride', 1)) > 1


def _at(offers: Tuple[OperatorChoice, ...], where: float) -> OperatorChoice:
    """Choose by a number from 0 to 1."""
    return offers[min(len(offers) - 1, int(where * len(offers)))]


def _clipped(number: int, count: int) -> int:
    return max(-count, min(count - 1, number))
