# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: any variant is worth choosing, and what ten times less latency costs.

Variants are drawn by a seed that training does not know, calibrated, and judged on the test part
beside the listed ones; all latencies are measured in turns. Which variant stands for 4.2 and for
10 times less latency is decided on the data held back, and judged on the whole test part.

A hundred variants on all inputs would take most of the bench's half hour. So drawn variants and
the front they are held against are judged on the same 2500 inputs of the test part, choices are
made on 1000 held back, and drawn variants are calibrated on 512 inputs; docs/decisions/0014 says
what that costs in precision.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks._training_claims import held
from benchmarks._training_logs import Run
from benchmarks._training_shared import material_for, reached, thinned
from crowdhmt_ros.cli.figures import HIGHER, Figure, inform
from crowdhmt_ros.elastic.evolve.generate import generate
from crowdhmt_ros.elastic.store import load_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.fronts import Point, chosen_within, front_of, share_near
from crowdhmt_ros.tasks.latency import latencies
from crowdhmt_ros.tasks.material import Labelled, Material
from crowdhmt_ros.tasks.members import drawn
from crowdhmt_ros.types import Variant

NEAR, WITHIN_PT = 'random_variants_near_front', 5.0
LOSSES: Mapping[str, float] = {'%s_loss_pt_at_4x': 4.2, '%s_loss_pt_at_10x': 10.0}
"""Figure of a task -> how many times less latency."""
BACKBONE, LARGEST = '%s_backbone_accuracy', 'largest_member_lost_pt'
SEEDS = 2
"""That a claim needs."""
DRAWN, SPREAD, DRAW_SEED, ROUNDS = 50, 20, 20261, 100
NEAR_INPUTS, CHOICE_INPUTS = 2500, 1000
CALIBRATION_BATCHES, CALIBRATION_BATCH = 2, 256
QUICK_DRAWN, QUICK_INPUTS, QUICK_ROUNDS = 6, 200, 5
WHOLE = 'full'
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judged:
    """
    What was measured of a family's variants.

    :param seed: of its training
    :param listed: points of the listed variants, the whole network among them
    :param drawn: points of the variants drawn as training draws them, on the same inputs
    :param spread: points of the variants drawn from the whole space, each option as likely
    :param held_back: name -> accuracy on the data held back
    :param whole_test: name -> accuracy on the whole test part, of all that a loss is told of
    """

    seed: int
    listed: Tuple[Point, ...]
    drawn: Tuple[Point, ...]
    spread: Tuple[Point, ...]
    held_back: Mapping[str, float]
    whole_test: Mapping[str, float]

    @property
    def whole(self) -> Point:
        """The whole network."""
        return next(p for p in self.listed if p.name == WHOLE)

    def near(self, points: Sequence[Point]) -> Optional[float]:
        """Return the share of points near the front of everything that was measured."""
        front = front_of([*self.listed, *self.drawn, *self.spread])
        return share_near(points, front, within=WITHIN_PT / 100) if points else None

    def lost_at(self, ratio: float, backbone: Optional[float] = None
                ) -> Tuple[Optional[float], str]:
        """
        Return what the variant for a latency loses, and its name.

        :param ratio: how many times less latency than the whole network
        :param backbone: accuracy to compare with; None for the whole network of the family
        """
        best = chosen_within((*self.listed, *self.drawn), self.held_back, self.whole.cost / ratio)
        if best is None:
            return None, 'none is so fast'
        against = self.whole_test[WHOLE] if backbone is None else backbone
        return against - self.whole_test[best.name], '%s at %.2fx' % (
            best.name, self.whole.cost / best.cost)


def random_figures(found: Sequence[Tuple[Run, Path]], data: Path, *,
                   backbones: Mapping[int, float], task: str = 'cifar100', count: int = DRAWN,
                   quick: bool = False, say: Say = lambda line: None) -> List[Figure]:
    """
    Judge families of one task.

    :param found: runs with their families' files, one per seed
    :param data: folder with the task's files
    :param backbones: seed -> accuracy of the backbone trained alone
    :param task: after which the figures are named
    :param count: variants that are drawn, 0 for the listed ones alone
    :param quick: few variants, inputs and rounds
    :param say: told how it goes
    :raises DataError: a family or the data cannot be read
    """
    judged = []
    for run, path in found:
        judged.append(judge(run, path, data, count=count, quick=quick))
        say('%s, seed %d: whole network %.4f, leanest %.4f' % (
            run.name, run.seed, judged[-1].whole_test[WHOLE],
            min(judged[-1].listed, key=lambda p: p.cost).accuracy))
    return figures_of(judged, backbones, task=task, drawn_too=count > 0)


def judge(run: Run, path: Path, data: Path, *, count: int = DRAWN, quick: bool = False) -> Judged:
    """
    Measure the listed variants of a family, and as many drawn ones as are asked for.

    :raises DataError: the family or the data cannot be read
    :raises ExportError: a variant cannot be expressed
    """
    net, statistics, _ = load_family(path)
    material = material_for(run.task, data, held_out=run.held_out, seed=run.seed)
    count = min(count, QUICK_DRAWN) if quick else count
    groups = {'listed': _named_whole(run.variants, net.whole()),
              'drawn': _fresh(net, count), 'spread': _spread(net, min(count, SPREAD))}
    variants = {n: v for group in groups.values() for n, v in group.items()}
    inputs = material.train.unvaried(CALIBRATION_BATCHES, CALIBRATION_BATCH, 0)
    statistics = calibrate(net, variants.values(), inputs, statistics)
    with hold_machine():
        seconds = latencies(net, variants, statistics, run.task.backbone.example()[:1],
                            rounds=QUICK_ROUNDS if quick else ROUNDS)

    def right(names: Mapping[str, Variant], part: Labelled) -> Dict[str, float]:
        return reached(run.sha256, net, names, statistics, part, balanced=run.task.balanced)

    few = QUICK_INPUTS if quick else 0
    near = right(variants, thinned(material.test, few or NEAR_INPUTS))
    points = {name: tuple(Point(n, seconds[n], near[n]) for n in group)
              for name, group in groups.items()}
    offered = {**groups['listed'], **groups['drawn']}
    choices = right(offered, thinned(_held_back(material), few or CHOICE_INPUTS))
    chosen = [chosen_within((*points['listed'], *points['drawn']), choices, seconds[WHOLE] / ratio)
              for ratio in LOSSES.values()]
    told = {WHOLE, *(p.name for p in chosen if p)}
    test = thinned(material.test, few) if quick else material.test
    return Judged(run.seed, points['listed'], points['drawn'], points['spread'], choices,
                  right({n: offered[n] for n in told}, test))


def _named_whole(variants: Mapping[str, Variant], whole: Variant) -> Dict[str, Variant]:
    """Return listed variants with the whole network under its own name, first."""
    return {WHOLE: whole, **{n: v for n, v in variants.items() if v != whole and n != WHOLE}}


def _fresh(net: Supernet, count: int) -> Dict[str, Variant]:
    """Draw variants as training draws them, by another seed."""
    found = drawn(net, 4 * count, seed=DRAW_SEED) if count else {}
    return dict(list(found.items())[:count])


def _spread(net: Supernet, count: int) -> Dict[str, Variant]:
    """Draw variants of the whole space that end where the network does."""
    space, rng = generate(net), np.random.default_rng(DRAW_SEED)
    last = len(space.exits) - 1
    found: Dict[Variant, None] = {}
    while len(found) < count:
        found[space.variant(space.repaired((last, *space.random(rng)[1:])))] = None
    return {'space%d' % number: variant for number, variant in enumerate(found)}


def _held_back(material: Material) -> Labelled:
    """Return the data held back; without any the test part decides, which flatters."""
    return material.held_back if len(material.held_back) else material.test


def figures_of(judged: Sequence[Judged], backbones: Mapping[int, float], *,
               task: str = 'cifar100', drawn_too: bool = True) -> List[Figure]:
    """
    Return the figures of what was measured.

    :param judged: one family per seed
    :param backbones: seed -> accuracy of the backbone trained alone
    :param task: after which figures are named
    :param drawn_too: whether variants were drawn
    """
    how = 'mean over %d seeds; latency by ONNX Runtime, one thread' % len(judged)
    found = [held(BACKBONE % task, _mean(list(backbones.values())), also=len(backbones) >= SEEDS,
                  how='the backbone trained alone, mean over seeds: ' + ', '.join(
                      '%d: %.4f' % pair for pair in backbones.items()))]
    if drawn_too:
        found += [*_shares(judged, how), _largest(judged, backbones, how)]
    return found + [_loss(key, judged, backbones, task, how) for key in LOSSES]


def _shares(judged: Sequence[Judged], how: str) -> List[Figure]:
    """Return the shares of drawn variants near the front."""
    shares = {kind: _mean([s for s in (j.near(getattr(j, kind)) for j in judged) if s is not None])
              for kind in ('drawn', 'spread')}
    how = '%d test inputs, the same for the front; %s' % (NEAR_INPUTS, how)
    return [
        held(NEAR, shares['drawn'], also=len(judged) >= SEEDS,
             how='share of %s variants, drawn as training draws them by another seed, within '
             '%g points of the front at their latency; %s' % (
                 _counted(judged, 'drawn'), WITHIN_PT, how)),
        inform(NEAR + '/space', shares['spread'], better=HIGHER,
               how='likewise of %s variants of the whole space, each combination of operators as '
               'likely as another; %s' % (_counted(judged, 'spread'), how))]


def _loss(key: str, judged: Sequence[Judged], backbones: Mapping[int, float], task: str,
          how: str) -> Figure:
    ratio = LOSSES[key]
    found = [j.lost_at(ratio, backbones.get(j.seed)) for j in judged]
    lost = [100 * value for value, _ in found if value is not None]
    alone = all(j.seed in backbones for j in judged)
    against = 'the backbone trained alone' if alone else 'the whole network of the family'
    return held(key % task, _mean(lost) if len(lost) == len(judged) else None,
                also=alone and len(judged) >= SEEDS,
                how='points below %s at %g times less latency, chosen on %d inputs held back, '
                'told of the whole test part: %s; %s' % (
                    against, ratio, CHOICE_INPUTS, ', '.join(
                        '%s (seed %d)' % (name, j.seed) for (_, name), j in zip(found, judged)),
                    how))


def _largest(judged: Sequence[Judged], backbones: Mapping[int, float], how: str) -> Figure:
    lost = [100 * (backbones[j.seed] - j.whole_test[WHOLE]) for j in judged if j.seed in backbones]
    return held(LARGEST, _mean(lost), also=len(lost) >= SEEDS,
                how="points that the family's largest member lies below the backbone trained "
                'alone; %s' % how)


def _counted(judged: Sequence[Judged], kind: str) -> str:
    return ' and '.join(str(len(getattr(j, kind))) for j in judged) or 'no'


def _mean(values: Sequence[Any]) -> Optional[float]:
    return float(np.mean(values)) if values else None
