# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a supernet to the whole space of its variants (E5)."""
from __future__ import annotations

import hashlib
from typing import Dict, List, Optional, Tuple

from crowdhmt_ros.elastic.evolve.combine import MOST_OPERATORS, Choices, combinations
from crowdhmt_ros.elastic.evolve.space import Option, Space
from crowdhmt_ros.elastic.plan import NetPlan, configure
from crowdhmt_ros.elastic.steps import parts_of
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import ExportError
from crowdhmt_ros.types import Variant


def generate(net: Supernet, most: int = MOST_OPERATORS) -> Space:
    """
    Make the whole space of a network's variants.

    Of options that compute the same, the one with fewest operators stays; what a plan refuses is
    left out.

    :param net: supernet of the backbone
    :param most: operators per stage
    """
    stages = tuple(_options(net, index, most) for index in range(len(net.structure.stages)))
    finest = tuple(min(s.extent, default=1) for s in net.structure.stages)
    return Space(stages, net.structure.exits, finest)


def _options(net: Supernet, index: int, most: int) -> Tuple[Option, ...]:
    """Options of a stage, the whole one first, then from dear to cheap."""
    structure = net.structure
    stage = structure.stages[index]
    found: Dict[str, Option] = {}
    configs = set()
    for choices in sorted(combinations(stage, structure.units_of(index), most), key=len):
        try:
            config = configure(stage, choices)
            if config in configs:
                continue
            configs.add(config)
            plan = net.plan(with_stage(net, index, choices))
        except ExportError:
            continue
        found.setdefault(signature(plan),
                         Option(choices, config.stride, plan.macs, weight_words(plan)))
    whole, *rest = found.values()
    rest.sort(key=lambda o: (-o.macs, o.stride, o.words, [c.sort_key for c in o.choices]))
    return (whole, *rest)


def with_stage(net: Supernet, index: int, choices: Choices) -> Variant:
    """Describe the network of which one stage is changed."""
    stages = tuple(choices if i == index else () for i in range(len(net.structure.stages)))
    return Variant(stages, len(net.structure.exits) - 1)


def signature(plan: NetPlan) -> str:
    """
    Digest what a plan computes: equal for two variants that compute the same.

    :param plan: of either; its contexts digest every layer with all that is before it
    """
    last = plan.exits[-1][1:] if plan.exits and not plan.is_whole else ()
    values = [plan.contexts[node] for node in plan.nodes]
    return hashlib.sha256(repr((values, last, plan.is_whole)).encode()).hexdigest()


def weight_words(plan: NetPlan, classes: Optional[int] = None) -> int:
    """
    Count the words of all weights that a plan reads; each slice counts once.

    :param classes: scores of the exit that answers; None where its head is not to be counted
    """
    parts = {p for program in plan.programs.values() for p in parts_of(program)}
    parts |= {p for own in plan.cuttables.values() for p in own}
    words = sum(p.words for p in parts)
    if classes is not None and plan.exits and not plan.is_whole:
        words += (plan.exits[-1][2] + 1) * classes
    return words


def distinct(net: Supernet, variants: List[Variant]) -> int:
    """Count how many variants compute something of their own."""
    return len({signature(net.plan(v)) for v in variants})
