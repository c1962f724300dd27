# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One combination of operators per latency budget, chosen before training (AdaDeep-like, P IV-A).

AdaDeep (Liu et al. 2018) picks, per budget, a combination of compression techniques, and trains
that one network. The rule here is *reconstructed*: of all combinations of one or two operators,
the same in every stage that takes them, those count that were measured at no more than the budget;
of these the one with the most multiply-accumulates is taken: the largest network that fits.
"""
from __future__ import annotations

import itertools
from typing import Dict, List, Mapping, Tuple

from crowdhmt_ros.elastic.evolve.generate import signature
from crowdhmt_ros.elastic.operators.table import FORMS, OPERATORS
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import DataError, ExportError
from crowdhmt_ros.tasks.baselines import uniform
from crowdhmt_ros.types import OperatorChoice, Variant

MOST_OPERATORS = 2
WHOLE = 'whole'


def candidates(net: Supernet) -> Dict[str, Variant]:
    """
    Name every combination, and the whole network; what computes the same comes once.

    Randomised widths are left out: they cost what the plain ones do.
    """
    found = {signature(net.plan(net.whole())): (WHOLE, net.whole())}
    for choices in _combinations(net):
        variant = uniform(net, choices)
        try:
            key = signature(net.plan(variant))
        except ExportError:
            continue
        found.setdefault(key, ('+'.join(_text(c) for c in choices), variant))
    return dict(found.values())


def chosen(net: Supernet, variants: Mapping[str, Variant], seconds: Mapping[str, float],
           speedup: float) -> str:
    """
    Choose for one budget.

    :param variants: those of `candidates`
    :param seconds: name -> measured latency, of the whole network too
    :param speedup: the budget is the whole network's latency divided by it
    :raises DataError: nothing fits
    """
    budget_s = seconds[WHOLE] / speedup
    fitting = [name for name in variants if name != WHOLE and seconds[name] <= budget_s]
    if not fitting:
        raise DataError('no combination of %d operators takes %.3g ms or less'
                        % (MOST_OPERATORS, budget_s * 1e3))
    return max(fitting, key=lambda name: (net.plan(variants[name]).macs, -seconds[name], name))


def _combinations(net: Supernet) -> List[Tuple[OperatorChoice, ...]]:
    """List single choices, then pairs of different operators with one form at most."""
    structure, singles = net.structure, []
    for operator in OPERATORS.values():
        offered = [choice for index, stage in enumerate(structure.stages)
                   for choice in operator.choices(stage, structure.units_of(index))]
        singles += [c for c in dict.fromkeys(offered) if 'seed' not in dict(c.parameters)]
    pairs = [(a, b) for a, b in itertools.combinations(singles, MOST_OPERATORS)
             if a.operator != b.operator and not {a.operator, b.operator} <= set(FORMS)]
    return [*((single,) for single in singles), *pairs]


def _text(choice: OperatorChoice) -> str:
    return choice.operator + ','.join('%s%g' % (n[:1], float(v)) for n, v in choice.parameters)
