# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: any variant is worth choosing, and what ten times less latency costs.

Variants are drawn by a seed that training does not know, calibrated, and judged on the test part
beside the listed ones; all latencies are measured in turns. Which variant stands for 4.2 and for
10 times less latency is decided on the data held back, and judged on the test part.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks._training_logs import Run
from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.elastic.evolve.generate import generate
from crowdhmt_ros.elastic.store import load_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.evaluation import accuracies
from crowdhmt_ros.tasks.fronts import Point, below, best_within, front_of
from crowdhmt_ros.tasks.latency import latencies
from crowdhmt_ros.tasks.material import Labelled, Material, open_material
from crowdhmt_ros.tasks.members import drawn
from crowdhmt_ros.tasks.training import calibrated
from crowdhmt_ros.types import Variant

NEAR, NEAR_TARGET, WITHIN_PT = 'random_variants_near_front', 0.9, 5.0
LOSSES: Mapping[str, Tuple[float, float]] = {
    'cifar100_loss_pt_at_4x': (4.2, 3.0), 'cifar100_loss_pt_at_10x': (10.0, 8.0)}
"""Figure -> how many times less latency, and points that may be lost."""
LARGEST, LARGEST_TARGET_PT = 'largest_member_lost_pt', 0.5
DRAWN, DRAW_SEED, ROUNDS = 50, 20261, 100
QUICK_DRAWN, QUICK_INPUTS, QUICK_ROUNDS = 6, 200, 5
WHOLE = 'full'
CLAIMS: Dict[str, Tuple[float, str]] = {
    NEAR: (NEAR_TARGET, HIGHER), **{key: (most, LOWER) for key, (_, most) in LOSSES.items()}}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judged:
    """
    What was measured of a family's variants.

    :param seed: of its training
    :param listed: points of the listed variants, the whole network among them
    :param drawn: points of the variants drawn as training draws them
    :param spread: points of the variants drawn from the whole space, each option as likely
    :param held_back: name -> accuracy on the data held back
    """

    seed: int
    listed: Tuple[Point, ...]
    drawn: Tuple[Point, ...]
    spread: Tuple[Point, ...]
    held_back: Mapping[str, float]

    @property
    def whole(self) -> Point:
        """The whole network."""
        return next(p for p in self.listed if p.name == WHOLE)

    def distances(self, points: Sequence[Point]) -> List[float]:
        """Return how far points lie below the front of everything that was measured."""
        return below(points, front_of([*self.listed, *self.drawn, *self.spread]))

    def lost_at(self, ratio: float, backbone: Optional[float] = None
                ) -> Tuple[Optional[float], str]:
        """
        Return what the variant for a latency loses, and its name.

        :param ratio: how many times less latency than the whole network
        :param backbone: accuracy to compare with; None for the whole network of the family
        """
        points = {p.name: p for p in (*self.listed, *self.drawn)}
        best = best_within([Point(n, p.cost, self.held_back[n]) for n, p in points.items()],
                           self.whole.cost / ratio)
        if best is None:
            return None, 'none is so fast'
        against = self.whole.accuracy if backbone is None else backbone
        return against - points[best.name].accuracy, '%s at %.2fx' % (
            best.name, self.whole.cost / best.cost)


def random_figures(found: Sequence[Tuple[Run, Path]], data: Path, *,
                   backbones: Optional[Mapping[int, float]] = None,
                   quick: bool = False, say: Say = lambda line: None) -> List[Figure]:
    """
    Judge families of one task.

    :param found: runs with their families' files, one per seed
    :param data: folder with the task's files
    :param backbones: seed -> accuracy of the backbone trained alone, None for none
    :param quick: few variants, inputs and rounds
    :param say: told how it goes
    :raises DataError: a family or the data cannot be read
    """
    judged = []
    for run, path in found:
        judged.append(judge(run, path, data, quick=quick))
        say('%s, seed %d: whole network %.4f, leanest %.4f' % (
            run.name, run.seed, judged[-1].whole.accuracy,
            min(judged[-1].listed, key=lambda p: p.cost).accuracy))
    return figures_of(judged, backbones)


def judge(run: Run, path: Path, data: Path, *, quick: bool = False) -> Judged:
    """
    Measure the listed variants of a family, and as many drawn ones as are asked for.

    :raises DataError: the family or the data cannot be read
    :raises ExportError: a variant cannot be expressed
    """
    net, statistics, _ = load_family(path)
    material = open_material(run.task, data, held_out=run.held_out, seed=run.seed)
    count = QUICK_DRAWN if quick else DRAWN
    groups = {'listed': {**_named_whole(run.variants, net.whole())},
              'drawn': _fresh(net, count), 'spread': _spread(net, count)}
    variants = {n: v for group in groups.values() for n, v in group.items()}
    statistics = calibrated(net, material.train, variants.values(), statistics)
    right, held = (accuracies(net, group, statistics, part, balanced=run.task.balanced)
                   for group, part in (
                       (variants, _part(material.test, quick)),
                       ({**groups['listed'], **groups['drawn']}, _held_back(material, quick))))
    with hold_machine():
        seconds = latencies(net, variants, statistics, run.task.backbone.example()[:1],
                            rounds=QUICK_ROUNDS if quick else ROUNDS)
    points = {name: tuple(Point(n, seconds[n], right[n]) for n in group)
              for name, group in groups.items()}
    return Judged(run.seed, points['listed'], points['drawn'], points['spread'], held)


def _named_whole(variants: Mapping[str, Variant], whole: Variant) -> Dict[str, Variant]:
    """Return listed variants with the whole network under its own name, first."""
    return {WHOLE: whole, **{n: v for n, v in variants.items() if v != whole and n != WHOLE}}


def _fresh(net: Supernet, count: int) -> Dict[str, Variant]:
    """Draw variants as training draws them, by another seed."""
    found = drawn(net, 4 * count, seed=DRAW_SEED)
    return dict(list(found.items())[:count])


def _spread(net: Supernet, count: int) -> Dict[str, Variant]:
    """Draw variants of the whole space that end where the network does."""
    space, rng = generate(net), np.random.default_rng(DRAW_SEED)
    last = len(space.exits) - 1
    found: Dict[Variant, None] = {}
    while len(found) < count:
        found[space.variant(space.repaired((last, *space.random(rng)[1:])))] = None
    return {'space%d' % number: variant for number, variant in enumerate(found)}


def _part(labelled: Labelled, quick: bool) -> Labelled:
    return Labelled(labelled.inputs[:QUICK_INPUTS], labelled.labels[:QUICK_INPUTS]) \
        if quick else labelled


def _held_back(material: Material, quick: bool) -> Labelled:
    """Return the data held back; without any the test part decides, which flatters."""
    return _part(material.held_back if len(material.held_back) else material.test, quick)


def figures_of(judged: Sequence[Judged], backbones: Optional[Mapping[int, float]] = None
               ) -> List[Figure]:
    """
    Return the figures of what was measured.

    :param judged: one family per seed
    :param backbones: seed -> accuracy of the backbone trained alone, None for none
    """
    backbones = backbones or {}
    shares = {kind: _mean([float(np.mean([d <= WITHIN_PT / 100 for d in j.distances(
        getattr(j, kind))])) for j in judged]) for kind in ('drawn', 'spread')}
    how = 'mean over %d seeds; test part; latency by ONNX Runtime, one thread' % len(judged)
    found = [
        claim(NEAR, shares['drawn'], NEAR_TARGET, better=HIGHER,
              how='share of %s variants, drawn as training draws them by another seed, within '
              '%g points of the front at their latency, %s' % (
                  _counted(judged, 'drawn'), WITHIN_PT, how)),
        inform(NEAR + '/space', shares['spread'], better=HIGHER,
               how='likewise of %s variants of the whole space, each combination of operators as '
               'likely as another' % _counted(judged, 'spread'))]
    return found + [_loss(key, judged, backbones, how) for key in LOSSES] + [
        _largest(judged, backbones, how)]


def _loss(key: str, judged: Sequence[Judged], backbones: Mapping[int, float], how: str) -> Figure:
    ratio, most = LOSSES[key]
    found = [j.lost_at(ratio, backbones.get(j.seed)) for j in judged]
    lost = [100 * value for value, _ in found if value is not None]
    against = ('the backbone trained alone' if all(j.seed in backbones for j in judged)
               else 'the whole network of the family')
    return claim(key, _mean(lost) if len(lost) == len(judged) else None, most, better=LOWER,
                 how='points below %s at %g times less latency, chosen on data held back: %s; %s'
                 % (against, ratio, ', '.join('%s (seed %d)' % (name, j.seed) for (_, name), j
                                              in zip(found, judged)), how))


def _largest(judged: Sequence[Judged], backbones: Mapping[int, float], how: str) -> Figure:
    lost = [100 * (backbones[j.seed] - j.whole.accuracy) for j in judged if j.seed in backbones]
    if not lost:
        return inform(LARGEST, None, how='no backbone trained alone is there to compare with')
    return claim(LARGEST, _mean(lost), LARGEST_TARGET_PT, better=LOWER,
                 how="points that the family's largest member lies below the backbone trained "
                 'alone, %s' % how)


def _counted(judged: Sequence[Judged], kind: str) -> str:
    return ' and '.join(str(len(getattr(j, kind))) for j in judged) or 'no'


def _mean(values: Sequence[Any]) -> Optional[float]:
    return float(np.mean(values)) if values else None
