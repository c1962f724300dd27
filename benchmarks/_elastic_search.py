# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How many variants there are, that switching leaves no trace, and what a small space costs."""
from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from crowdhmt_ros.cli.figures import HIGHER, LOWER, Figure, claim, inform
from crowdhmt_ros.datasets.opening import open_dataset
from crowdhmt_ros.elastic.backbones.resnet import residual, resnet18
from crowdhmt_ros.elastic.evolve.generate import generate, signature
from crowdhmt_ros.elastic.evolve.reduce import reduce_space
from crowdhmt_ros.elastic.evolve.space import Genome, Space
from crowdhmt_ros.elastic.evolve.zero_shot import Measured, ZeroShot
from crowdhmt_ros.elastic.extraction import extract
from crowdhmt_ros.elastic.make_elastic import make_elastic
from crowdhmt_ros.elastic.norms import FixedNorms
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.transformation import calibrate, transform
from crowdhmt_ros.planner.pareto import Front, hypervolume, search
from crowdhmt_ros.types import Variant

DISTINCT_TARGET, MOST_RESOLVED = 10_000, 20_000
SWITCHES, SWITCHED, EXTRACTED = 1000, 32, 12
RATIO_TARGET, HYPERVOLUME_TARGET = 0.05, 0.98
TRAIN_FILE, TEST_FILE = 'cifar10_train5k.npz', 'cifar10_test5k.npz'
MEAN, DEVIATION = 0.45, 0.25
WIDTHS, EPOCHS, BATCH, PEAK_RATE = (16, 32, 64), 4, 64, 0.1
EXIT_WEIGHT = 0.3
HELD, CALIBRATION, FRESH = 512, 128, 1024
BUDGET, LARGE_BUDGET, POPULATION = 400, 800, 24
DEAREST = 1.1
"""Operations, as a share of the whole network's, up to which volume counts."""
Say = Callable[[str], None]


def variants_distinct() -> Figure:
    """Draw variants of ResNet18 and resolve them until enough compute something of their own."""
    began_s = time.monotonic()
    net = make_elastic(resnet18(10, edge=32), torch.zeros(2, 3, 32, 32)).net
    space = generate(net)
    made_s = time.monotonic() - began_s
    rng = np.random.default_rng(0)
    found: Set[str] = set()
    resolved: Set[Genome] = set()
    while len(found) < DISTINCT_TARGET and len(resolved) < MOST_RESOLVED:
        genome = space.random(rng)
        if genome not in resolved:
            resolved.add(genome)
            found.add(signature(net.plan(space.variant(genome))))
    return claim('variants_distinct', len(found), DISTINCT_TARGET, better=HIGHER,
                 how='ResNet18, 32 pixels: %d variants drawn and resolved, those that compute the '
                 'same counted once, in %.0f s and %.0f s for network and space; the space has '
                 '%.3g' % (len(resolved), time.monotonic() - began_s - made_s, made_s, space.size))


def switch_back_identical() -> Figure:
    """Switch among variants at random; whatever comes back must answer bit by bit as before."""
    torch.manual_seed(0)
    net = make_elastic(residual(10, widths=(16, 32, 64), blocks=2, edge=64),
                       torch.zeros(2, 3, 32, 32)).net.eval()
    images = [torch.randn(16, 3, 32, 32)]
    transform(net, images)
    space, rng = generate(net), np.random.default_rng(0)
    variants = sorted({space.variant(space.random(rng)) for _ in range(SWITCHED)})
    norms = FixedNorms(calibrate(net, variants, images))
    before = {name: net.tensor(name).detach().clone() for name in net.names()}
    x = torch.randn(2, 3, 32, 32)
    alike, answers = _switch(variants, lambda v: net(x, v, norms, every_exit=False)[-1])
    statistics = calibrate(net, variants[:EXTRACTED], images)
    taken = {v: extract(net, v, statistics).module.eval() for v in variants[:EXTRACTED]}
    alike_out, _ = _switch(variants[:EXTRACTED], lambda v: taken[v](x))
    again = all(torch.equal(extract(net, v, statistics).module.eval()(x), taken[v](x))
                for v in taken)
    kept = all(torch.equal(before[n], net.tensor(n)) for n in net.names())
    share = (alike + alike_out) / (2.0 * SWITCHES)
    return claim('switch_back_identical', share if again and kept else 0.0, 1.0, better=HIGHER,
                 how='%d random switches among %d variants in the supernet and %d among %d that '
                 'were taken out: answers bit by bit as when the variant came first, weights as '
                 'before; %d different answers' % (SWITCHES, len(variants), SWITCHES, len(taken),
                                                   answers))


@torch.no_grad()
def _switch(variants: Sequence[Variant], run: Callable[[Variant], torch.Tensor]
            ) -> Tuple[int, int]:
    """Return how many switches came out alike, and how many answers differ."""
    draw, first, alike = random.Random(0), {}, 0
    for variant in variants:
        first[variant] = run(variant)
    last = variants[-1]
    for _ in range(SWITCHES):
        last = draw.choice([v for v in variants if v != last])
        alike += torch.equal(run(last), first[last])
    return alike, len({v.numpy().tobytes() for v in first.values()})


class _Photos(NamedTuple):
    """Inputs and classes."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def part(self, start: int, stop: int) -> _Photos:
        return _Photos(self.inputs[start:stop], self.labels[start:stop])


def _photos(path: Path) -> _Photos:
    data = open_dataset(path, split='all', check='none')
    rows = np.random.default_rng(0).permutation(len(data))
    pixels, labels = data.take([int(r) for r in rows])
    inputs = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2) / 255.0
    return _Photos((inputs - MEAN) / DEVIATION, torch.from_numpy(np.asarray(labels)))


def _train(net: Supernet, photos: _Photos) -> None:
    """Train the whole network with its exits, plainly."""
    draw = torch.Generator().manual_seed(0)
    steps = len(photos.inputs) // BATCH
    optimizer = torch.optim.SGD(net.parameters(), PEAK_RATE, momentum=0.9, nesterov=True,
                                weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE,
                                                   total_steps=EPOCHS * steps)
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(photos.inputs), generator=draw)
        for step in range(steps):
            rows = order[step * BATCH:(step + 1) * BATCH]
            x = photos.inputs[rows].flip(3) if step % 2 else photos.inputs[rows]
            shift = torch.randint(-3, 4, (2,), generator=draw).tolist()
            losses = [F.cross_entropy(scores, photos.labels[rows])
                      for scores in net(x.roll(shift, (2, 3)), net.whole())]
            optimizer.zero_grad()
            (losses[-1] + EXIT_WEIGHT * sum(losses[:-1])).backward()
            optimizer.step()
            schedule.step()
    net.eval()


class _Cached:
    """Measures each variant once."""

    def __init__(self, meter: ZeroShot) -> None:
        self.net, self._meter = meter.net, meter
        self._known: Dict[Variant, Measured] = {}

    def measure(self, variant: Variant) -> Measured:
        if variant not in self._known:
            self._known[variant] = self._meter.measure(variant)
        return self._known[variant]

    def objectives(self, space: Space, genomes: Sequence[Genome]) -> List[Tuple[float, ...]]:
        """Return error and operations, these as a share of the whole network's."""
        whole = self.net.plan(self.net.whole()).macs
        variants = [space.variant(g) for g in genomes]
        return [(1.0 - self.measure(v).accuracy, self.net.plan(v).macs / whole)
                for v in variants]


def search_figures(data: Path, *, seed: int = 1, say: Say = lambda line: None) -> List[Figure]:
    """
    Search the reduced and the large space alike, with the same figures of each candidate.

    :param data: folder with the CIFAR-10 files
    :param seed: of both searches
    :param say: is told what is being done
    """
    torch.manual_seed(0)
    train, test = _photos(data / TRAIN_FILE), _photos(data / TEST_FILE)
    net = make_elastic(residual(10, widths=WIDTHS, edge=64), torch.zeros(2, 3, 32, 32)).net
    learnt, held = train.part(HELD, len(train.inputs)), train.part(0, HELD)
    began_s = time.monotonic()
    _train(net, learnt)
    say('trained in %.0f s' % (time.monotonic() - began_s))
    seen = [learnt.inputs[:CALIBRATION]]
    transform(net, [learnt.inputs[:2 * CALIBRATION]])
    meter = _Cached(ZeroShot(net, seen, [held.inputs], [held.labels]))
    fresh = test.part(0, FRESH)
    judge = _Cached(ZeroShot(net, seen, [fresh.inputs], [fresh.labels]))
    large, began_s = generate(net), time.monotonic()
    reduced = reduce_space(large, meter)
    say('%.3g variants reduced to %.3g by %d measurements in %.0f s' % (
        large.size, reduced.space.size, reduced.evaluations, time.monotonic() - began_s))
    fronts = [_searched(meter, space, budget, seed, say) for space, budget in (
        (reduced.space, BUDGET), (large, LARGE_BUDGET))]
    accuracy = meter.measure(net.whole()).accuracy
    return _figures(reduced.ratio, reduced.evaluations, fronts, [
        judge.objectives(space, front.genomes)
        for space, front in zip((reduced.space, large), fronts)], accuracy)


def _searched(meter: _Cached, space: Space, budget: int, seed: int, say: Say) -> Front:
    began_s = time.monotonic()
    front = search(space, lambda genomes: meter.objectives(space, genomes), budget=budget,
                   population=POPULATION, seed=seed, starts=space.ends)
    say('%d variants of %.3g measured in %.0f s: front of %d, hypervolume %.4f' % (
        front.evaluations, space.size, time.monotonic() - began_s, len(front.genomes),
        _volume(front.objectives)))
    return front


def _volume(objectives: Sequence[Tuple[float, ...]]) -> float:
    return hypervolume(objectives, (0.9, DEAREST))  # ten classes: the error of guessing


def _figures(ratio: float, measured: int, fronts: Sequence[Front],
             judged: Sequence[Sequence[Tuple[float, ...]]], accuracy: float) -> List[Figure]:
    small, large = fronts
    volumes = [_volume(f.objectives) for f in fronts]
    fresh = [_volume(objectives) for objectives in judged]
    how = ('hypervolume over error and operations up to guessing and %g of the whole network, '
           '%.4f against %.4f: NSGA-II measured %d variants of the small space (and %d to make '
           'it) and %d of the large one, each by its zero-shot accuracy on %d held photos; '
           'backbone %.3f' % (DEAREST, *volumes, small.evaluations, measured, large.evaluations,
                              HELD, accuracy))
    return [
        claim('search_space_ratio', ratio, RATIO_TARGET, better=LOWER,
              how='variants in the reduced space over those of the large one'),
        claim('front_hypervolume_ratio', volumes[0] / volumes[1], HYPERVOLUME_TARGET,
              better=HIGHER, how=how),
        inform('front_hypervolume_ratio_fresh', fresh[0] / fresh[1], better=HIGHER,
               how='both fronts measured again on %d photos that neither search saw: %.4f '
               'against %.4f' % (FRESH, *fresh)),
    ]
