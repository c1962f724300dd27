# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Hand-made compressions to compare a family with (P IV-A): how each one is trained, and measured at.

Each gets the family's data, batches, optimizer and epochs, and what its publication says of the
rest. What they share with the family is the code: one trainer, one set of operators.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from crowdhmt_ros.elastic.evolve.generate import signature
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.operators.fire import fire
from crowdhmt_ros.elastic.operators.scale import scale
from crowdhmt_ros.elastic.operators.svd import svd
from crowdhmt_ros.elastic.operators.table import OPERATORS
from crowdhmt_ros.elastic.store import Reference
from crowdhmt_ros.elastic.structure import Stage
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.recipe import ETAS, PhaseRecipe, Recipe
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.tasks.alone import alone_recipe
from crowdhmt_ros.types import OperatorChoice, Variant

FITTED_RATE_RATIO = 0.5
"""Peak learning rate of a leg that starts from trained weights, over that of one that does not."""
RANKS, SQUEEZES = (0.5, 0.25, 0.125, 0.0625), (0.25, 0.125, 0.0625)
WIDTHS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)
OFA_WIDTHS = (1.0, 0.75, 0.5, 0.375, 0.25)
OFA_DRAWN, OFA_DRAWN_MEASURED, OFA_SEED = 200, 10, 0
"""Sub-networks that choose for each stage: so many train beside the uniform ones."""
OFA_SHARES = (180.0, 120.0, 145.0, 145.0)
"""Epochs of the whole network, of kernels, depths and widths, relative (as published)."""
Variants = Mapping[str, Variant]


@dataclass(frozen=True)
class Leg:
    """
    One rise and fall of the learning rate.

    :param plan: the only phase of the leg's recipe
    :param members: variants that train in turn, beside the whole network
    :param derives: whether the channels are sorted and the forms derived before it
    """

    plan: PhaseRecipe
    members: Tuple[Variant, ...] = ()
    derives: bool = False


@dataclass(frozen=True)
class Course:
    """
    How a network is trained as a baseline, and where it is measured.

    :param legs: one after the other
    :param measured: name -> variant
    :param lone: the only variant that there is, with tensors of its own; None for the network
        and all variants of it
    """

    legs: Tuple[Leg, ...]
    measured: Variants
    lone: Optional[Variant] = None

    @property
    def epochs(self) -> int:
        """Passes over the data."""
        return sum(leg.plan.epochs for leg in self.legs)


@dataclass(frozen=True)
class Frame:
    """
    What all baselines get alike, from the family's recipe.

    :param recipe: whose batches, optimizer and decay are taken
    :param epochs: of each training
    """

    recipe: Recipe
    epochs: int

    @property
    def single(self) -> PhaseRecipe:
        """Return how one network is trained in all epochs, as for the family's members alone."""
        return replace(alone_recipe(self.recipe).phases[0], epochs=self.epochs)

    def of(self, plan: PhaseRecipe) -> Recipe:
        """Return the recipe of one leg."""
        return replace(self.recipe, phases=(plan,))

    def shared(self, shares: Sequence[float]) -> Tuple[int, ...]:
        """
        Divide the epochs.

        :param shares: relative
        :raises ConfigError: there are fewer epochs than shares
        """
        if self.epochs < len(shares):
            raise ConfigError('%d epochs cannot be divided into %d legs; give at least %d'
                              % (self.epochs, len(shares), len(shares)))
        ends = np.round(np.cumsum(shares) / np.sum(shares) * self.epochs).astype(int)
        for leg in range(len(shares)):  # none is empty, at either end
            least = leg + 1 if not leg else ends[leg - 1] + 1
            ends[leg] = min(max(ends[leg], least), self.epochs - (len(shares) - leg - 1))
        return tuple(int(n) for n in np.diff(ends, prepend=0))

    def course(self, legs: Sequence[Leg], measured: Variants, lone: Optional[Variant] = None
               ) -> Course:
        """
        Put legs one after the other; images have the edge of the epoch, counted over all legs.

        So each baseline has as many epochs at each edge as the family's members alone.
        """
        placed, before = [], 0
        for leg in legs:
            plan = replace(leg.plan, edges=self._edges(before, leg.plan.epochs))
            placed.append(replace(leg, plan=plan))
            before += plan.epochs
        return Course(tuple(placed), measured, lone)

    def _edges(self, first: int, epochs: int) -> Tuple[Tuple[float, int], ...]:
        """Cut so many epochs out of the edges of the whole training."""
        whole = self.single
        if not whole.edges:
            return ()
        edges = [whole.edge_at(epoch) for epoch in range(first, first + epochs)]
        return tuple((n / epochs, edge) for n, edge in enumerate(edges)
                     if not n or edge != edges[n - 1])

    def alone(self, epochs: int) -> PhaseRecipe:
        """Describe the training of the whole network from the labels."""
        return replace(self.single, epochs=epochs)

    def drawn(self, epochs: int, operators: Tuple[str, ...], *, variants: int, hard_share: float,
              phase: str = 'distillation') -> PhaseRecipe:
        """Describe a training of members beside the whole network, which is not protected."""
        single = self.single
        rate = single.learning_rate * (1.0 if phase == 'mutation' else FITTED_RATE_RATIO)
        return replace(single, phase=phase, epochs=epochs, learning_rate=rate, variants=variants,
                       etas=ETAS['joint'], operators=operators, members_ratio=1.0,
                       hard_share=hard_share, protection='none')


def svd_only(net: Supernet, frame: Frame) -> Course:
    """Train the backbone, derive ranks from it, fit all of them at once."""
    return _one_form(net, frame, 'svd', {'svd%g' % (100 * r): svd(r) for r in RANKS})


def fire_only(net: Supernet, frame: Frame) -> Course:
    """Train the backbone, derive Fire modules from it, fit all of them at once."""
    return _one_form(net, frame, 'fire', {'fire%g' % (100 * s): fire(s) for s in SQUEEZES})


def _one_form(net: Supernet, frame: Frame, operator: str,
              strengths: Mapping[str, OperatorChoice]) -> Course:
    """Compress the last stages, or all, by one form in several strengths."""
    stages = len(net.structure.stages)
    found = {'%s-%d' % (name, count): uniform(net, (choice,), last=count)
             for name, choice in strengths.items() for count in range(1, stages + 1)}
    measured = {'whole': net.whole(), **_distinct(net, found)}
    first, second = frame.shared((1.0, 1.0))
    plan = frame.drawn(second, (operator,), variants=2, hard_share=0.3)
    return frame.course((Leg(frame.alone(first)), Leg(plan, _compressed(measured), derives=True)),
                        measured)


def width_only(net: Supernet, frame: Frame) -> Course:
    """
    Train uniform widths from the start (Yu and Huang 2019, universally slimmable networks).

    Sandwich of the whole network, the narrowest one and two others; the narrow ones learn the
    whole network's answers alone.
    """
    found = {'w%g' % (100 * r): uniform(net, (channel(r),)) for r in WIDTHS}
    measured = {'whole': net.whole(), **_distinct(net, found)}
    plan = frame.drawn(frame.epochs, ('channel',), variants=2, hard_share=0.0, phase='mutation')
    return frame.course((Leg(plan, _compressed(measured)),), measured)


def once_for_all(net: Supernet, frame: Frame) -> Course:
    """
    Shrink progressively: kernels, then depths, then widths (Cai et al. 2020, Once-for-all).

    Each stage of the network chooses for itself; a smaller kernel is the middle of the full one.
    One, two and four sub-networks per step, half of the loss from the labels, as published. The
    teacher goes on learning, which the published one does not.
    """
    shares = frame.shared(OFA_SHARES)
    kernels, depths = _kernels(net), _depths(net)
    spaces = [(kernels, depths[:1], (1.0,)), (kernels, depths, (1.0,)),
              (kernels, depths, OFA_WIDTHS)]
    legs: List[Leg] = [Leg(frame.alone(shares[0]))]
    names = ('scale', 'depth', 'channel')
    for number, (space, epochs) in enumerate(zip(spaces, shares[1:])):
        members = (*_grid(net, *space).values(), *_drawn(net, OFA_DRAWN, *space))
        plan = frame.drawn(epochs, names[:number + 1], variants=2 ** number, hard_share=0.5)
        legs.append(Leg(plan, tuple(dict.fromkeys(m for m in members if m != net.whole())),
                        derives=number == len(spaces) - 1))
    drawn = legs[-1].members[-OFA_DRAWN_MEASURED:]
    measured = {**_grid(net, *spaces[-1]),
                **{'drawn%02d' % i: variant for i, variant in enumerate(drawn)}}
    return frame.course(legs, _distinct(net, measured))


SHARED: Dict[str, Callable[[Supernet, Frame], Course]] = {
    'svd': svd_only, 'fire': fire_only, 'slimmable': width_only, 'ofa': once_for_all}
"""Baselines of the task's own network whose variants share one training."""


def alone(net: Supernet, frame: Frame, variant: Optional[Variant] = None) -> Course:
    """
    Train one network from the labels: all that a baseline has at one latency.

    :param variant: with tensors of its own, None for the network as it is
    """
    return frame.course((Leg(frame.alone(frame.epochs)),), {'whole': variant or net.whole()},
                        variant)


def mobilenet(task_backbone: Reference, width_multiplier: float) -> Reference:
    """
    Return a MobileNetV2 for a task (Sandler et al. 2018); each multiplier is trained alone.

    :param task_backbone: whose classes and edge it takes
    :raises ConfigError: the task's network does not read square images
    """
    if 'edge' not in task_backbone.options:
        raise ConfigError('MobileNetV2 reads square images; %s does not' % task_backbone.name)
    return Reference('mobilenet_v2', task_backbone.classes, {
        'width_multiplier': width_multiplier, 'edge': task_backbone.options['edge']})


def uniform(net: Supernet, choices: Sequence[OperatorChoice], *, last: Optional[int] = None
            ) -> Variant:
    """
    Describe the network with the same choices in every stage that takes them.

    A number of blocks is the largest that a stage has; a stride is taken once, by the first stage.

    :param last: only so many of the last stages, None for all
    """
    structure = net.structure
    count = len(structure.stages)
    first = 0 if last is None else count - last
    return Variant(tuple(
        tuple(c for c in choices if index >= first and _takes(net, index, c))
        for index in range(count)), len(structure.exits) - 1)


def _takes(net: Supernet, index: int, choice: OperatorChoice) -> bool:
    stage, units = net.structure.stages[index], net.structure.units_of(index)
    known = dict(choice.parameters)
    if OPERATORS[choice.operator].refusal(stage, units):
        return False
    if choice.operator == 'depth':
        return stage.least_blocks <= int(known['blocks']) < len(stage.blocks)
    return index == 0 or int(known.get('stride', 1)) == 1


def _distinct(net: Supernet, variants: Variants) -> Dict[str, Variant]:
    """Leave out what computes the same as one before: small stages round to equal widths."""
    found: Dict[str, Tuple[str, Variant]] = {}
    for name, variant in variants.items():
        found.setdefault(signature(net.plan(variant)), (name, variant))
    return dict(found.values())


def _compressed(measured: Variants) -> Tuple[Variant, ...]:
    return tuple(variant for name, variant in measured.items() if name != 'whole')


def _kernels(net: Supernet) -> Tuple[int, ...]:
    """Largest kernels that a stage may be limited to, 0 for its own."""
    sizes = {k for unit in net.structure.units for k in unit.kernel}
    return (0, *(k for k in (5, 3, 1) if any(size > k for size in sizes)))


def _depths(net: Supernet) -> Tuple[int, ...]:
    """Blocks that may be left out of a stage."""
    return tuple(range(max(len(s.blocks) - s.least_blocks for s in net.structure.stages) + 1))


def _sub_network(net: Supernet, choices: Sequence[Tuple[int, int, float]]) -> Variant:
    """Describe a variant by kernel, blocks left out and width of each stage."""
    structure = net.structure
    return Variant(tuple(
        _stage_choices(net, index, stage, *choice)
        for index, (stage, choice) in enumerate(zip(structure.stages, choices))),
        len(structure.exits) - 1)


def _stage_choices(net: Supernet, index: int, stage: Stage, kernel: int, left_out: int,
                   width: float) -> Tuple[OperatorChoice, ...]:
    blocks = max(stage.least_blocks, len(stage.blocks) - left_out)
    largest = max((k for u in net.structure.units_of(index) for k in u.kernel), default=1)
    found = [scale(kernel=kernel)] if 0 < kernel < largest else []
    found += [depth(blocks)] if blocks < len(stage.blocks) else []
    found += [channel(width)] if width < 1.0 else []
    return tuple(found)


def _grid(net: Supernet, kernels: Sequence[int], depths: Sequence[int], widths: Sequence[float]
          ) -> Dict[str, Variant]:
    """Name every sub-network that treats its stages alike."""
    stages = len(net.structure.stages)
    return {'k%d-d%d-w%g' % (k, d, 100 * w): _sub_network(net, [(k, d, w)] * stages)
            for k, d, w in itertools.product(kernels, depths, widths)}


def _drawn(net: Supernet, count: int, kernels: Sequence[int], depths: Sequence[int],
           widths: Sequence[float]) -> List[Variant]:
    """Draw sub-networks that choose for each stage."""
    rng = np.random.default_rng(OFA_SEED)
    options = list(itertools.product(kernels, depths, widths))
    return [_sub_network(net, [options[int(i)] for i in rng.integers(
        len(options), size=len(net.structure.stages))]) for _ in range(count)]
