# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Combinations of operators that a stage allows (E5): one choice each, in a fixed order."""
from __future__ import annotations

import itertools
from typing import Iterator, List, Tuple

from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.elastic.structure import Stage, Unit
from crowdhmt_ros.types import OperatorChoice

Choices = Tuple[OperatorChoice, ...]
MOST_OPERATORS = 3
"""Per stage; more make the space larger, hardly better."""


def combinations(stage: Stage, units: Tuple[Unit, ...], most: int = MOST_OPERATORS
                 ) -> Iterator[Choices]:
    """
    List what the operators can do together in a stage, doing nothing first.

    :param units: of the stage
    :param most: operators at a time
    """
    offers: List[Tuple[Choices, ...]] = [_forms(stage, units)]
    offers += [_single(operator.choices(stage, units)) for name, operator in OPERATORS.items()
               if name not in FORMS]
    for parts in itertools.product(*offers):
        together = tuple(choice for part in parts for choice in part)
        if len(together) <= most:
            yield together


def singles(stage: Stage, units: Tuple[Unit, ...]) -> Choices:
    """List every single choice of a stage."""
    return tuple(c for operator in OPERATORS.values() for c in operator.choices(stage, units))


def _single(choices: Choices) -> Tuple[Choices, ...]:
    return ((), *((choice,) for choice in choices))


def _forms(stage: Stage, units: Tuple[Unit, ...]) -> Tuple[Choices, ...]:
    """One form, or one and another for the units that the first does not take."""
    found: List[Choices] = [()]
    for first, form in FORMS.items():
        left = [u for u in units if u.kind != 'norm' and form.unit_refusal(u)]
        others = [name for name, other in FORMS.items() if name != first
                  and any(not other.unit_refusal(u) for u in left)]
        for choice in form.choices(stage, units):
            found.append((choice,))
            found += [(choice, second) for name in others
                      for second in FORMS[name].choices(stage, units)]
    return tuple(found)
