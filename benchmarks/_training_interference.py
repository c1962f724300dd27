# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: what one step of a variant does to the others in a trained family.

Each listed variant takes one step of the recipe's last phase from the same tensors, without
protection and with it; how much the losses of some others rise is what sharing weights costs.
"""
from __future__ import annotations

from typing import List, Mapping

import numpy as np

from crowdhmt_ros.cli.figures import LOWER, Figure, inform
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.batches import Draw
from crowdhmt_ros.elastic.teaching.interference import Interference, interference
from crowdhmt_ros.elastic.teaching.recipe import PROTECTIONS, Recipe
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.types import Variant

LEARNT, JUDGED, JUDGES = 128, 256, 4
"""Inputs of a step, inputs that its effect is told of, and how many others are asked."""


def interference_figures(net: Supernet, recipe: Recipe, variants: Mapping[str, Variant],
                         material: Material) -> List[Figure]:
    """
    Measure the interference of all listed variants.

    :param net: trained
    :param variants: name -> variant; the whole network among them
    :param material: steps learn from its training part, effects are told of its test part
    """
    plan, test = recipe.phases[-1], material.test
    _, *learnt = next(iter(material.train.epoch(
        Draw(0, recipe.epochs, LEARNT, plan.edge_at(plan.epochs - 1)))))
    whole = next(name for name, v in variants.items() if v == net.whole())
    names = list(variants)
    judges = {n: variants[n] for n in dict.fromkeys(
        [whole, *(names[k] for k in np.linspace(0, len(names) - 1, JUDGES).astype(int))])}
    found = {name: interference(
        net, recipe, plan=plan, variant=variant, others=judges, learnt=(learnt[0], learnt[1]),
        judged=(test.inputs[:JUDGED], test.labels[:JUDGED]))
        for name, variant in variants.items() if name != whole}
    return figures_of(found, whole)


def figures_of(found: Mapping[str, Interference], whole: str) -> List[Figure]:
    """
    Return the figures of what was measured.

    :param found: name of the variant that took the step -> its effect
    :param whole: name of the whole network
    """
    conflicts = [i.conflict_ratio for i in found.values() if i.conflict_ratio is not None]
    told = ('%d variants, a step of %d inputs each; %s of their squared gradient opposes the '
            "whole network's" % (len(found), LEARNT, _mean(conflicts, '%.3f')))
    figures = []
    for protection in PROTECTIONS:
        rises = {name: i.damage(protection) for name, i in found.items()}
        others = [rise for name, each in rises.items() for n, rise in each.items() if n != name]
        figures.append(inform(
            'interference_' + protection, float(np.mean(others)), better=LOWER,
            how="rise of the others' cross entropy by one step, nats; of the whole network "
            '%s, of the variant that steps itself %s; %s' % (
                _mean([each[whole] for each in rises.values()], '%+.4f'),
                _mean(_selves(rises), '%+.4f'), told)))
    return figures


def _selves(rises: Mapping[str, Mapping[str, float]]) -> List[float]:
    return [each[name] for name, each in rises.items() if name in each]


def _mean(values: List[float], pattern: str) -> str:
    return pattern % float(np.mean(values)) if values else 'unknown'
