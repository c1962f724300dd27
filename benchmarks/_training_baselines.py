# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: the family beside hand-made compressions, all with equal epochs.

Fronts are compared at latencies 2, 4 and 8 times lower than the whole network's, measured with all
networks in turn. A baseline that does not get so far is compared where it is fastest: what it
cannot do at all is no margin.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from benchmarks._training_baseline_runs import (
    MOBILENET,
    SPEEDUPS,
    opened_run,
    read_choices,
    runs_of,
)
from benchmarks._training_claims import held
from benchmarks._training_logs import sha256_of
from benchmarks._training_shared import material_for, reached
from benchmarks._training_shelf import Plan, Say, Shelf, is_done
from benchmarks._training_shelf import opened as opened_family
from crowdhmt_ros.cli.figures import HIGHER, Figure, inform
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.fronts import Point, accuracy_at, front_of
from crowdhmt_ros.tasks.latency import measured, session_of
from crowdhmt_ros.tasks.material import Labelled
from crowdhmt_ros.tasks.static_choice import WHOLE
from crowdhmt_ros.tasks.task_file import read_task
from crowdhmt_ros.types import Variant

MARGIN, MARGIN_OFA, OFA, FAMILY = 'baseline_margin_pt', 'baseline_margin_ofa_pt', 'ofa', 'family'
SEEDS, ROUNDS = 2, 60
QUICK_ROUNDS, QUICK_INPUTS = 3, 500
Front = Tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Net:
    """
    A trained network and the variants that it is measured at.

    :param side: the family, or the baseline to whose front it belongs
    :param run: of the training
    :param example: one input, (1, ...)
    :param sha256: of its file
    """

    side: str
    run: str
    net: Supernet
    statistics: Statistics
    variants: Mapping[str, Variant]
    example: torch.Tensor
    sha256: str

    def key(self, name: str) -> str:
        """Name a variant among those of all networks."""
        return '%s:%s' % (self.run, name)


@dataclass(frozen=True)
class Margin:
    """
    How far the family's front lies above a baseline's, at one latency.

    :param asked: how many times less than the whole network's latency was asked for
    :param speedup: that the baseline reaches: what was asked for, or less
    :param family: accuracy of its front there
    :param baseline: likewise
    """

    asked: float
    speedup: float
    family: float
    baseline: float

    @property
    def points(self) -> float:
        """In points of accuracy."""
        return 100.0 * (self.family - self.baseline)


def baseline_figures(families: Sequence[Plan], shelf: Shelf, *, quick: bool = False,
                     say: Say = print) -> List[Figure]:
    """
    Measure the family and every baseline, and compare their fronts.

    :param families: trainings of the baselines' task, one for each seed; those that are there
        are compared
    :param shelf: where trainings and data lie
    :param quick: a part of the test part, few rounds
    :param say: told how it goes
    :raises DataError: a training or the data is missing
    """
    seconds: Dict[str, float] = {}
    fronts: Dict[int, Dict[str, Front]] = {}
    there = [plan for plan in families if is_done(plan, shelf)] or list(families)
    for family in there[:1] if quick else there:
        nets = _nets(family, shelf)
        if not seconds:  # weights make no difference to it
            seconds = _latencies(nets, QUICK_ROUNDS if quick else ROUNDS)
        fronts[family.seed] = _fronts(nets, seconds, family, shelf, quick=quick, say=say)
    if not fronts:
        raise DataError('no family of the task is named; nothing to compare')
    return figures_of(fronts, seconds['%s:%s' % (FAMILY, WHOLE)])


def _nets(family: Plan, shelf: Shelf) -> List[Net]:
    """Open the family, first, and every baseline of its seed."""
    own, choices = opened_family(family, shelf), read_choices()
    example = own.task.backbone.example()[:1]
    found = [Net(FAMILY, FAMILY, own.net, own.statistics,
                 {WHOLE: own.net.whole(), **own.variants}, example, own.log['sha256'])]
    for run in runs_of(read_task(choices.task), choices, family.seed):
        net, statistics, course = opened_run(run, shelf)  # refused unless epochs are the recipe's
        found.append(Net(run.baseline, run.label, net, statistics, course.measured, example,
                         sha256_of(shelf.file(run))))
    return found


def _latencies(nets: Sequence[Net], rounds: int) -> Dict[str, float]:
    """Measure all variants of all networks in turn."""
    sessions = {net.key(name): session_of(
        extract(net.net, variant, net.statistics).module, net.example)
        for net in nets for name, variant in net.variants.items()}
    with hold_machine():
        return measured(sessions, rounds=rounds)


def _fronts(nets: Sequence[Net], seconds: Mapping[str, float], family: Plan, shelf: Shelf, *,
            quick: bool, say: Say) -> Dict[str, Front]:
    """Measure accuracies; return the front of the family and of each baseline."""
    task = read_task(family.task)
    test = material_for(task, shelf.data, seed=family.seed).test
    if quick:
        test = Labelled(test.inputs[:QUICK_INPUTS], test.labels[:QUICK_INPUTS])
    points: Dict[str, List[Point]] = {}
    for net in nets:
        right = reached(net.sha256, net.net, net.variants, net.statistics, test,
                        balanced=task.balanced)
        points.setdefault(net.side, []).extend(
            Point(net.key(n), seconds[net.key(n)], accuracy) for n, accuracy in right.items())
        say('seed %d, %s: %s' % (family.seed, net.run, ', '.join(
            '%s %.1f %% in %.3f ms' % (n, 100.0 * a, 1e3 * seconds[net.key(n)])
            for n, a in right.items())))
    return {side: front_of(found) for side, found in points.items()}


def margins(family: Front, baseline: Front, whole_s: float,
            speedups: Sequence[float] = SPEEDUPS) -> Tuple[Margin, ...]:
    """
    Compare two fronts at some latencies, or where the slower of the two is fastest.

    Latencies that come to the same count once; where the family is not so fast, its accuracy
    counts as 0.

    :param whole_s: latency of the whole network
    """
    found: Dict[float, Margin] = {}
    for asked in speedups:
        cost_s = max(whole_s / asked, baseline[0].cost)
        theirs = accuracy_at(baseline, cost_s)
        assert theirs is not None, 'a front begins at its first cost'
        ours = accuracy_at(family, cost_s)
        found.setdefault(cost_s, Margin(asked, whole_s / cost_s, ours or 0.0, theirs))
    return tuple(found.values())


def figures_of(fronts: Mapping[int, Mapping[str, Front]], whole_s: float) -> List[Figure]:
    """
    Return the figures of what was measured.

    :param fronts: seed -> the family or a baseline -> its front
    :param whole_s: latency of the whole network
    """
    compared: Dict[str, List[Tuple[Margin, ...]]] = {}
    for own in fronts.values():
        for side, front in own.items():
            if side != FAMILY:
                compared.setdefault(side, []).append(margins(own[FAMILY], front, whole_s))
    means = {side: float(np.mean([m.points for one in seeds for m in one]))
             for side, seeds in compared.items()}
    enough = len(fronts) >= SEEDS
    said = '%d seeds, front of test accuracies over one-thread latency' % len(fronts)
    figures = [
        held(MARGIN, _mean(list(means.values())), also=enough, how='points that the family is '
             'better, mean over baselines and over 2, 4, 8 times less latency, or where a '
             'baseline is fastest; %s: %s' % (said, ', '.join(
                 '%s %+.2f' % item for item in means.items()))),
        held(MARGIN_OFA, means.get(OFA), also=enough,
             how='the same against the OFA-like one alone; %s' % said)]
    return [*figures, *(inform('baseline_margin_pt/%s' % side, means[side], better=HIGHER,
                               how=_told(seeds)) for side, seeds in compared.items()),
            *_rows(fronts, whole_s)]


def _told(seeds: Sequence[Sequence[Margin]]) -> str:
    return '; '.join(', '.join(
        '%.1fx%s: %.1f against %.1f %%' % (
            m.speedup, '' if m.speedup >= 0.99 * m.asked else ' (its fastest, not %gx)' % m.asked,
            100.0 * m.family, 100.0 * m.baseline) for m in one) for one in seeds)


def _rows(fronts: Mapping[int, Mapping[str, Front]], whole_s: float) -> List[Figure]:
    """Return MobileNetV2's rows of the table: each multiplier of its front."""
    found: Dict[str, List[Point]] = {}
    for own in fronts.values():
        for point in own.get(MOBILENET, ()):
            found.setdefault(point.name.partition(':')[0], []).append(point)
    return [inform(name, _mean([100.0 * p.accuracy for p in points]), better=HIGHER,
                   how='%% right, mean of %d seeds; %.3f ms, %.2f times as fast as the whole '
                   'network' % (len(points), 1e3 * points[0].cost, whole_s / points[0].cost))
            for name, points in found.items()]


def _mean(values: Sequence[float]) -> Optional[float]:
    return sum(values) / len(values) if values else None
