# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: every family whose log is committed, judged again; all fronts.

`python -m benchmarks._training_fronts --data DIR --checkpoints DIR` also draws the fronts and
writes docs/fronts.md.
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks._training_claims import held
from benchmarks._training_logs import (
    RUNS,
    Run,
    checkpoints_folder,
    families,
    missing,
    read_runs,
)
from benchmarks._training_shared import material_for, reached
from crowdhmt_ros.cli.figures import HIGHER, Figure, inform
from crowdhmt_ros.elastic.store import load_family
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.fronts import Point, best_within
from crowdhmt_ros.tasks.latency import latencies
from crowdhmt_ros.tasks.members import drawn
from crowdhmt_ros.tasks.training import calibrated, shown_variants
from crowdhmt_ros.types import Variant

AGAIN = 'reevaluated_diff_pt'
CHEAPER = 8.0
"""Times fewer operations at which the loss of a task over folds is told."""
FEW, OTHERS, OTHERS_SEED = 5, 32, 5
"""A log with fewer variants is judged on others too: that many are drawn, by this seed."""
ROUNDS, QUICK_ROUNDS = 60, 3
Say = Callable[[str], None]
Timed = Dict[str, Dict[Variant, float]]
"""Task -> variant -> latency, seconds."""


@dataclass(frozen=True)
class CrossValidated:
    """
    What a task is judged over.

    :param folds: that must be there, in each seed
    :param seeds: that must be there
    :param worst: whether a target is stated for the worst fold
    """

    folds: int
    seeds: int
    worst: bool = False


FOLDED: Mapping[str, CrossValidated] = {
    'har': CrossValidated(5, 1, worst=True), 'esc10': CrossValidated(3, 2)}


@dataclass(frozen=True)
class Judged:
    """
    A family judged again.

    :param run: its training
    :param whole: name of the whole network among its variants
    :param accuracy: name -> ratio of right answers on the test part, measured now; of the logged
        variants, and of others where there are few
    :param macs: name -> operations
    :param latency_s: name -> seconds, ONNX Runtime, one thread
    """

    run: Run
    whole: str
    accuracy: Mapping[str, float]
    macs: Mapping[str, int]
    latency_s: Mapping[str, float]

    @property
    def difference_pt(self) -> float:
        """Largest difference to the logged accuracies, points."""
        return max(100 * abs(self.accuracy[n] - a) for n, a in self.run.accuracy.items())


def front_figures(runs: Sequence[Run], folder: Path, data: Path, *, refused: Sequence[str] = (),
                  quick: bool = False, say: Say = lambda line: None) -> List[Figure]:
    """
    Judge the families of all runs again.

    :param runs: as their logs tell them
    :param folder: where families are looked for
    :param data: folder with the tasks' files
    :param refused: what is to be said of logs that are not judged
    :param quick: few rounds of latency, and one family of each task
    :raises DataError: a family or its data cannot be read
    """
    return figures_of(judge_all(runs, folder, data, quick=quick, say=say),
                      [*missing(runs, families(runs, folder), folder), *refused])


def judge_all(runs: Sequence[Run], folder: Path, data: Path, *, quick: bool = False,
              say: Say = lambda line: None) -> List[Judged]:
    """Judge the families that are there; see `front_figures`."""
    judged: List[Judged] = []
    timed: Timed = {}
    found = families(runs, folder)
    for run in runs:
        if run.name not in found or (quick and run.task.name in {
                j.run.task.name for j in judged}):
            continue
        judged.append(judge(run, found[run.name], data,
                            rounds=QUICK_ROUNDS if quick else ROUNDS, timed=timed))
        say('%s: %d variants, at most %.2f points from its log' % (
            run.name, len(judged[-1].accuracy), judged[-1].difference_pt))
    return judged


def judge(run: Run, path: Path, data: Path, *, rounds: int = ROUNDS,
          timed: Optional[Timed] = None) -> Judged:
    """
    Measure the logged variants of a family again.

    :param timed: latencies of the task's network, which are no other for other weights; what is
        measured is entered
    :raises DataError: family or data cannot be read, or the log lacks the whole network
    """
    net, statistics, _ = load_family(path)
    material = material_for(run.task, data, held_out=run.held_out, seed=run.seed)
    whole = next((n for n, v in run.variants.items() if v == net.whole()), None)
    if whole is None:
        raise DataError('the log of %s lists no whole network: train it again' % run.name)
    variants = with_others(net, run.variants)
    statistics = calibrated(net, material.train, variants.values(), statistics)
    right = reached(run.sha256, net, variants, statistics, material.test,
                    balanced=run.task.balanced)
    known = {} if timed is None else timed.setdefault(run.task.name, {})
    if not known.keys() >= set(variants.values()):  # all in turn: they are compared
        with hold_machine():
            seconds = latencies(net, variants, statistics, run.task.backbone.example()[:1],
                                rounds=rounds)
        known.update((variants[name], found) for name, found in seconds.items())
    return Judged(run, whole, right, {n: net.plan(v).macs for n, v in variants.items()},
                  {n: known[v] for n, v in variants.items()})


def with_others(net: Supernet, variants: Mapping[str, Variant]) -> Dict[str, Variant]:
    """
    Add variants to a log that lists hardly any: a front needs some; the same for each seed.

    :param variants: name -> variant, as logged
    """
    if len(variants) >= FEW:
        return dict(variants)
    last = len(net.structure.exits) - 1
    shown = [v for v in shown_variants(net) if v.exit_index == last]
    others = dict.fromkeys([*shown, *drawn(net, OTHERS, seed=OTHERS_SEED).values()])
    new = [v for v in others if v not in variants.values()]
    names = ['other%d' % number for number in range(len(new))]
    return {**variants, **dict(zip(names, new))}


def figures_of(judged: Sequence[Judged], lacking: Sequence[str] = ()) -> List[Figure]:
    """
    Return the figures of what was judged again.

    :param lacking: what is to be said of runs whose family was not found
    """
    count = sum(len(j.run.accuracy) for j in judged)
    found = [held(
        AGAIN, max((j.difference_pt for j in judged), default=None), also=not lacking,
        how='largest difference to the logged accuracy, points, over %d variants of %d '
        'families%s' % (count, len(judged), ''.join('; ' + s for s in lacking)))]
    for name in sorted({j.run.task.name for j in judged} | set(FOLDED)):
        own = [j for j in judged if j.run.task.name == name]
        if name in FOLDED:
            found += _folded(name, own, FOLDED[name])
        found += [inform('%s/%s' % (name, end), value, better=HIGHER, how=_runs_text(own))
                  for end, value in _ends(own).items()]
    return found


def _ends(judged: Sequence[Judged]) -> Dict[str, float]:
    """Return mean accuracies of the whole network and of the leanest variant."""
    if not judged:
        return {}
    lean = [j.accuracy[min(j.macs, key=lambda n: j.macs[n])] for j in judged]
    return {'accuracy_whole': float(np.mean([j.accuracy[j.whole] for j in judged])),
            'accuracy_leanest': float(np.mean(lean))}


def _folded(name: str, judged: Sequence[Judged], wanted: CrossValidated) -> List[Figure]:
    """Return the claims of a task that is judged over folds."""
    whole = [j.accuracy[j.whole] for j in judged]
    pairs = {(j.run.held_out, j.run.seed) for j in judged}
    folds, seeds = ({pair[side] for pair in pairs} for side in (0, 1))
    complete = (len(folds) >= wanted.folds and len(seeds) >= wanted.seeds
                and len(pairs) == len(folds) * len(seeds))
    how = '%d trainings, %d folds of %d by %d seeds of %d%s; %s' % (
        len(pairs), len(folds), wanted.folds, len(seeds), wanted.seeds,
        '' if complete else ', not all of them', _runs_text(judged))
    found = [held(name + '_accuracy', float(np.mean(whole)) if whole else None,
                  how='whole network, mean; ' + how, also=complete)]
    if wanted.worst:
        found.append(held(name + '_accuracy_worst', min(whole, default=None),
                          how='whole network, worst fold; ' + how, also=complete))
    lost_pt, told = lost_by_folds(judged, CHEAPER)
    return [*found, held(name + '_loss_pt_at_8x_macs', lost_pt, also=complete,
                         how='points that a variant of at most 1/%g of the operations loses, '
                         'chosen for each fold on the others, told of its test part: %s; %s' % (
                             CHEAPER, told, how))]


def lost_by_folds(judged: Sequence[Judged], ratio: float) -> Tuple[Optional[float], str]:
    """
    Tell what a cheap variant loses on a fold that had no say in which one it is.

    :param judged: families of one task over folds, of any seeds
    :param ratio: times fewer operations than the whole network
    :returns: points, mean over all families, and which variants; None where nothing is so cheap
        or there is one fold
    """
    lost, told = [], []
    for fold in sorted({j.run.held_out for j in judged}):
        points = mean_points([j for j in judged if j.run.held_out != fold], 'macs')
        best = best_within(points, points[0].cost / ratio) if points else None
        own = [j for j in judged if j.run.held_out == fold]
        if best is None or any(best.name not in j.accuracy for j in own):
            return None, 'none'
        lost += [100 * (j.accuracy[j.whole] - j.accuracy[best.name]) for j in own]
        told.append('%s at %.1fx' % (best.name, points[0].cost / best.cost))
    return (float(np.mean(lost)) if lost else None), ', '.join(told) or 'none'


def mean_points(judged: Sequence[Judged], cost: str) -> List[Point]:
    """
    Average the variants that all families of a task have.

    :param cost: 'macs' or 'latency_s'
    :returns: the whole network first
    """
    if not judged:
        return []
    names = [judged[0].whole, *(n for n in judged[0].accuracy if n != judged[0].whole)]
    return [Point(n, float(np.mean([getattr(j, cost)[n] for j in judged])),
                  float(np.mean([j.accuracy[n] for j in judged])))
            for n in names if all(n in j.accuracy for j in judged)]


def _runs_text(judged: Sequence[Judged]) -> str:
    return 'runs: %s' % (', '.join(j.run.name for j in judged) or 'none')


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Judge all families again, and write the page of fronts."""
    parser = argparse.ArgumentParser(description=str(__doc__).strip().splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help="folder with the tasks' files")
    parser.add_argument('--checkpoints', type=Path, default=None, help='folder with families')
    parser.add_argument('--runs', type=Path, default=RUNS, help='folder with logs')
    parser.add_argument('--docs', type=Path, default=RUNS.parents[1] / 'docs')
    given = parser.parse_args(arguments)
    from benchmarks._training_page import write_page
    runs, folder = read_runs(given.runs), checkpoints_folder(given.checkpoints)
    judged = judge_all(runs, folder, given.data, say=print)
    for line in missing(runs, families(runs, folder), folder):
        print(line)
    print('written: %s' % write_page(judged, given.docs))


if __name__ == '__main__':
    main()
