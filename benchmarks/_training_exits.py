# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Part of the training bench: what early exits gain on inputs that nobody has seen.

The whole network answers where one of its early exits is not sure; thresholds are chosen on the
data held back. Then each input of the test part is answered by both, the network without exits
and the one with them, through ONNX Runtime with one thread, in blocks that take turns.
"""
from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from benchmarks._training_claims import held
from benchmarks._training_shared import material_for
from crowdhmt_ros.cli.figures import Figure, inform
from crowdhmt_ros.elastic.store import load_family
from crowdhmt_ros.machine_lock import hold_machine
from crowdhmt_ros.tasks.cascade import Cascade, Steps, cascade_of, plain, session, steps_of
from crowdhmt_ros.tasks.latency import ROUNDS
from crowdhmt_ros.tasks.material import Labelled
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.training import calibrated

SPEEDUP, MOST_LOST_PT = 'exit_speedup', 0.5
SEEDS = 2
BLOCK = 32
"""Inputs that one of the two answers in a row: its weights stay in the cache, as on a robot."""
QUICK_INPUTS, QUICK_ROUNDS = 320, 20


@dataclass(frozen=True)
class Answers:
    """
    What both answered on the test part.

    :param whole_s: mean of the network without exits, see `settled_mean`
    :param early_s: mean of the one with them
    :param raw_s: the plain means of the same, with what neighbours took
    :param whole_accuracy: ratio of right answers without exits
    :param early_accuracy: with them
    :param ratios: per step, the share of answers
    """

    whole_s: float
    early_s: float
    raw_s: Tuple[float, float]
    whole_accuracy: float
    early_accuracy: float
    ratios: Tuple[float, ...]

    @property
    def speedup(self) -> float:
        """How many times less an answer takes."""
        return self.whole_s / self.early_s

    @property
    def lost_pt(self) -> float:
        """Points of accuracy lost."""
        return 100.0 * (self.whole_accuracy - self.early_accuracy)


@dataclass(frozen=True)
class Family:
    """
    A trained family.

    :param path: its file
    :param task: that it has learnt
    :param seed: of its training: what was held back then is held back now
    """

    path: Path
    task: Task
    seed: int


def exit_figures(families: Sequence[Family], data: Path, *, quick: bool = False,
                 say: Callable[[str], None] = lambda line: None) -> List[Figure]:
    """
    Measure what early exits gain.

    :param families: of one task, one for each seed
    :param data: folder with the task's files
    :param quick: a part of the test part, few rounds
    :param say: told how it goes
    :raises DataError: a family or the data cannot be read
    :raises ExportError: a family cannot be expressed
    """
    done = []
    for family in families:
        cascade, found = measure(family, data, quick=quick)
        done.append((family, cascade, found))
        say('%s, seed %d: %s' % (family.task.name, family.seed, _told(cascade, found)))
    return figures_of([(f.seed, c, a) for f, c, a in done])


def figures_of(done: Sequence[Tuple[int, Cascade, Answers]]) -> List[Figure]:
    """
    Return the figures of what was measured.

    :param done: (seed, cascade, answers) of each family
    """
    lost = float(np.mean([a.lost_pt for _, _, a in done])) if done else None
    faster = float(np.mean([a.speedup for _, _, a in done])) if done else None
    how = '; '.join('seed %d: %s' % (seed, _told(c, a)) for seed, c, a in done)
    seeds = len({seed for seed, _, _ in done})
    return [
        held(SPEEDUP, faster, also=seeds >= SEEDS and lost is not None and lost <= MOST_LOST_PT,
             how='mean latency of the whole network over that with its early exits, mean over '
             '%d seeds, ONNX Runtime, one thread, whole test part: %s' % (
                 seeds, how or 'no family was found')),
        inform('exit_lost_pt', lost, how='points that the early exits lose on the test part, mean '
               'over the seeds; at most %g are allowed' % MOST_LOST_PT)]


def measure(family: Family, data: Path, *, quick: bool = False) -> Tuple[Cascade, Answers]:
    """
    Choose thresholds for one family's whole network, and measure it on the test part.

    :raises DataError: the family or the data cannot be read
    :raises ExportError: the family cannot be expressed
    """
    net, statistics, _ = load_family(family.path)
    material = material_for(family.task, data, seed=family.seed)
    variant = net.whole()
    statistics = calibrated(net, material.train, [variant], statistics)
    test = material.test
    if quick:
        test = Labelled(test.inputs[:QUICK_INPUTS], test.labels[:QUICK_INPUTS])
    with hold_machine():
        cascade = cascade_of(net, variant, statistics, material.held_back,
                             rounds=QUICK_ROUNDS if quick else ROUNDS)
        return cascade, answers(cascade, test, seed=family.seed)


def answers(cascade: Cascade, test: Labelled, *, seed: int = 0) -> Answers:
    """
    Let the network answer with and without its early exits, block by block.

    :param seed: of which of the two comes first in a block
    :raises ExportError: the graph cannot be taken apart
    """
    whole = Steps([session(plain(cascade))])
    early, stops = steps_of(cascade)
    labels, inputs = test.labels.numpy(), test.inputs.numpy()
    took_s: NDArray[np.float64] = np.zeros((2, len(labels)))
    right: NDArray[np.bool_] = np.zeros((2, len(labels)), bool)
    step: NDArray[np.intp] = np.zeros(len(labels), np.intp)
    rng = random.Random(seed)

    def one(side: int, i: int) -> None:
        began_s = time.perf_counter()
        number, scores = (early.answer(inputs[i:i + 1], stops) if side
                          else whole.answer(inputs[i:i + 1], ()))
        took_s[side, i] = time.perf_counter() - began_s
        right[side, i] = scores[0].argmax() == labels[i]
        if side:
            step[i] = number

    for begin in range(0, len(labels), BLOCK):
        for side in rng.sample((0, 1), 2):
            (early.answer if side else whole.answer)(
                inputs[begin:begin + 1], stops if side else ())  # weights back into the cache
            for i in range(begin, min(begin + BLOCK, len(labels))):
                one(side, i)
    counts = np.bincount(step, minlength=len(stops) + 1)
    raw = took_s.mean(1)
    return Answers(settled_mean(took_s[0], np.zeros_like(step)), settled_mean(took_s[1], step),
                   (float(raw[0]), float(raw[1])), float(right[0].mean()),
                   float(right[1].mean()), tuple(float(c) / len(labels) for c in counts))


def settled_mean(took_s: NDArray[np.float64], step: NDArray[np.intp]) -> float:
    """
    Return the mean over all inputs, each counted with the median of those that stopped alike.

    Times that one step takes differ only by what else the machine does.

    :param took_s: per input, seconds
    :param step: per input, where it stopped
    """
    return float(sum(np.median(took_s[step == s]) * np.mean(step == s)
                     for s in np.unique(step)))


def _told(cascade: Cascade, found: Answers) -> str:
    at = ', '.join('exit %d from %.3f' % (n, cascade.thresholds.confidence[n])
                   for n in cascade.graph.exits) or 'no exit pays'
    return ('%.2fx, %.2f points lost (%.2f %% without exits), %.3f ms against %.3f (%.3f and %.3f '
            'with all that the machine did besides); %s; answers per step %s; on the data held '
            'back %.2fx and %.2f points' % (
                found.speedup, found.lost_pt, 100.0 * found.whole_accuracy, 1e3 * found.early_s,
                1e3 * found.whole_s, 1e3 * found.raw_s[1], 1e3 * found.raw_s[0], at,
                ' '.join('%.0f %%' % (100.0 * r) for r in found.ratios),
                cascade.held_back.speedup, 100.0 * cascade.held_back.lost_ratio))
