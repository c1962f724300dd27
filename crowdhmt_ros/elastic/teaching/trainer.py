# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs a recipe: phase by phase, step by step, from the start or from a checkpoint (E3).

Every random number is a function of (seed, phase, epoch, step), and a checkpoint holds all that
changes; so a training that is killed at any moment and resumed, any number of times, ends with the
same bits as one that was not, on the same machine and with the same number of threads.
"""
from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from crowdhmt_ros.elastic.norms import SkippedNorms
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching import checkpoint
from crowdhmt_ros.elastic.teaching.ahead import ahead
from crowdhmt_ros.elastic.teaching.batches import Batches, Draw
from crowdhmt_ros.elastic.teaching.phases import PHASES, Phase
from crowdhmt_ros.elastic.teaching.place import Place, place_for
from crowdhmt_ros.elastic.teaching.ranks import Ranks
from crowdhmt_ros.elastic.teaching.recipe import Recipe, check
from crowdhmt_ros.elastic.teaching.step import Taught, Teacher
from crowdhmt_ros.elastic.transformation import transform
from crowdhmt_ros.errors import ConfigError, DataError
from crowdhmt_ros.types import Variant

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """
    Where a training stands: the next step to do.

    :param phase: number of the phase
    :param epoch: of the phase
    :param step: of the epoch
    :param entered: whether the phase has begun: what it does before its first step is done
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    entered: bool = False


@dataclass(frozen=True)
class Progress:
    """
    What was just done.

    :param phase: its name
    :param epoch: of the phase, from 0
    :param epochs: of the phase
    :param step: of the epoch, from 0
    :param steps: of an epoch
    :param done_ratio: share of the whole training's work
    :param losses: of this step: 'backbone', 'variants'
    :param conflict_ratio: share of the variants' gradient that opposed the backbone's
    :param learning_rate: of this step
    :param seconds_left: of the whole training; None while nothing was measured
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    done_ratio: float
    losses: Mapping[str, float]
    conflict_ratio: Optional[float]
    learning_rate: float
    seconds_left: Optional[float]


class Trainer:
    """A training that can stop at any moment and go on."""

    def __init__(self, net: Supernet, recipe: Recipe, batches: Batches, *, seed: int = 0,
                 place: Optional[Place] = None, ranks: Optional[Ranks] = None,
                 checkpoint_path: Optional[Path] = None, checkpoint_steps: int = 100,
                 pause: Callable[[], None] = lambda: None,
                 members: Sequence[Variant] = ()) -> None:
        """
        Prepare a training from the start; `resume` goes on with a checkpoint.

        :param net: the family; it is trained in place
        :param recipe: how
        :param batches: on what
        :param seed: of every random number
        :param place: where, None for this machine's processor
        :param ranks: processes that train together, None for this one alone
        :param checkpoint_path: file to write, None for none
        :param checkpoint_steps: steps between two checkpoints
        :param pause: called before each step; returns when training may use the machine
        :param members: of the family that are trained by name, as the phases' `members_ratio` says
        :raises ConfigError: the recipe does not fit the network, the data or the ranks
        :raises ExportError: a member does not fit the network
        """
        check(recipe)
        self.net, self.recipe, self.position = net, recipe, Position()
        self._batches, self._seed = batches, seed
        self._place = place or place_for('cpu', recipe.precision)
        self._ranks = ranks or Ranks()
        self._path, self._checkpoint_steps = checkpoint_path, checkpoint_steps
        self._pause = pause
        self.steps = batches.steps(recipe.batch_size)
        self._refuse_unfit()
        self._place.settle(net)
        net.running.clear()  # statistics that came with the backbone do not outlive its weights
        self._teacher = Teacher(net, self._place, self._ranks)
        self._phases = [PHASES[p.phase](net, p, recipe, members) for p in recipe.phases]
        self._passes = [0 if p.is_idle else _passes(p) for p in self._phases]
        self._refuse_edges()
        self._identity = {
            'recipe': repr(recipe), 'seed': str(seed), 'data': batches.identity,
            'network': _digest(net), 'list of members': _short_digest(tuple(members))}
        self._optimizer: Optional[torch.optim.Optimizer] = None
        self._loaded: Optional[Dict[str, Any]] = None
        self._clock = _Clock()

    def _refuse_unfit(self) -> None:
        if not self.net.structure.classes:
            raise ConfigError('the network gives no scores of classes; this training is for '
                              'classification')
        if self.steps < 1:
            raise ConfigError('the data has less than one batch of %d; make the batch smaller'
                              % self.recipe.batch_size)
        if self.recipe.batch_size % self._ranks.count:
            raise ConfigError('%d processes cannot share batches of %d evenly; change one of them'
                              % (self._ranks.count, self.recipe.batch_size))

    @torch.no_grad()
    def _refuse_edges(self) -> None:
        """Run the whole network once at each edge of the recipe, before hours of training."""
        plans = [phase.plan for phase in self._phases if not phase.is_idle]
        first = {plan.edge_at(epoch): plan.phase for plan in reversed(plans)
                 for epoch in range(plan.epochs)}
        whole, was_training = self.net.plan(self.net.whole()), self.net.training
        self.net.eval()  # draws nothing
        for edge, phase in sorted(first.items()):
            for inputs in self._batches.unvaried(1, 2, edge):
                try:
                    self.net.run(inputs.to(self._place.device), whole, SkippedNorms())
                except RuntimeError as error:
                    raise ConfigError(
                        'phase %s: inputs of %s do not go through the network (%s); change edges '
                        'in the recipe' % (phase, 'x'.join(map(str, inputs.shape[1:])),
                                           ' '.join(str(error).split())[:120])) from error
        self.net.train(was_training)

    def resume(self) -> bool:
        """
        Go on from the checkpoint where there is one.

        :returns: whether there was one
        :raises DataError: it is damaged, or belongs to another recipe, seed, data or network
        """
        if self._path is None or not self._path.exists():
            return False
        state = checkpoint.read(self._path, self._identity)
        self.net.load_state_dict(state['net'])
        self.position = Position(**state['position'])
        self._loaded = state['optimizer']
        return True

    def save(self) -> None:
        """
        Write the checkpoint; the first rank does.

        :raises DataError: the training has lost its way; the last checkpoint stays
        """
        if self._path is None or not self._ranks.is_first:
            return
        if not all(bool(torch.isfinite(t).all()) for t in self.net.state_dict().values()):
            raise DataError('the weights are no longer finite in phase %s, epoch %d; lower its '
                            'learning rate' % (self._plan_name(), self.position.epoch + 1))
        optimizer = self._optimizer
        checkpoint.write(self._path, {
            'identity': self._identity, 'position': vars(self.position),
            'net': self.net.state_dict(),
            'optimizer': None if optimizer is None else optimizer.state_dict()})

    def _plan_name(self) -> str:
        return self.recipe.phases[min(self.position.phase, len(self._phases) - 1)].phase

    def run(self, report: Callable[[Progress], None] = lambda progress: None, *,
            report_steps: int = 1) -> None:
        """
        Train to the end.

        :param report: called after each `report_steps`-th step, on the first rank
        :raises DataError: the weights are no longer finite
        """
        while self.position.phase < len(self._phases):
            phase = self._phases[self.position.phase]
            if phase.is_idle:
                logger.info('phase %s: the network offers none of its operators; left out',
                            phase.plan.phase)
            else:
                self._run_phase(phase, report, report_steps)
            self.position = Position(self.position.phase + 1)
            self._optimizer = None
            self.save()

    def _run_phase(self, phase: Phase, report: Callable[[Progress], None], report_steps: int
                   ) -> None:
        self._enter(phase)
        while self.position.epoch < phase.plan.epochs:
            for step, inputs, labels in self._drawn(phase):
                self._pause()
                taught, rate = self._step(phase, step, inputs, labels)
                self._clock.tick(self._passes[self.position.phase])
                if self._ranks.is_first and (step + 1) % report_steps == 0:
                    report(self._progress(phase, step, taught, rate))
                self.position = replace(self.position, step=step + 1)
                if (step + 1) % self._checkpoint_steps == 0:
                    self.save()
            self.position = replace(self.position, epoch=self.position.epoch + 1, step=0)
            self.save()

    def _enter(self, phase: Phase) -> None:
        """Do what comes before a phase's first step, and make its optimizer."""
        if phase.transforms and not self.position.entered:
            # Without a backbone phase the net is a family already.
            transform(self.net, self._unvaried(phase), sort=any(
                p.phase == 'backbone' for p in self.recipe.phases))
        self._ranks.agree(self.net.state_dict().values())
        names = phase.trained()
        for name in self.net.names():
            self.net.tensor(name).requires_grad_(name in names)
        self.net.kept.requires_grad_(phase.teaches_backbone)
        self._optimizer = _optimizer(self._learning(), self.recipe)
        if self._loaded is not None:
            self._optimizer.load_state_dict(self._loaded)
            self._loaded = None
        if not self.position.entered:
            self.position = replace(self.position, entered=True)
            self.save()
        self.net.train()
        self._clock.start()

    def _unvaried(self, phase: Phase) -> List[torch.Tensor]:
        edge = phase.plan.edge_at(phase.plan.epochs - 1)
        images = self._batches.unvaried(
            self.recipe.transformation_batches, self.recipe.batch_size, edge)
        return [image.to(self._place.device) for image in images]

    def _learning(self) -> List[nn.Parameter]:
        """Return the parameters of this phase, in an order that does not change."""
        named = sorted(self.net.named_parameters())
        return [parameter for _, parameter in named if parameter.requires_grad]

    def _drawn(self, phase: Phase) -> Iterator[Tuple[int, torch.Tensor, torch.Tensor]]:
        """Return the batches of the epoch from the position on."""
        at = self.position
        drawn = self._batches.epoch(Draw(
            self._seed, self.recipe.epochs_before(at.phase) + at.epoch, self.recipe.batch_size,
            phase.plan.edge_at(at.epoch), at.step, self._ranks.rank, self._ranks.count))
        return ahead(drawn)

    def _step(self, phase: Phase, step: int, inputs: torch.Tensor, labels: torch.Tensor
              ) -> Tuple[Taught, float]:
        at, optimizer = self.position, self._optimizer
        assert optimizer is not None
        rng = np.random.default_rng((self._seed, at.phase, at.epoch, step))
        torch.manual_seed(int(rng.integers(2 ** 31)))
        variants = phase.variants(at.epoch * self.steps + step, rng)
        rate = phase.plan.learning_rate_at((at.epoch + step / self.steps) / phase.plan.epochs)
        for group in optimizer.param_groups:
            group['lr'] = rate
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        taught = self._teacher.teach(
            phase, parameters, variants, *self._place.brought(inputs, labels))
        nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_limit)
        optimizer.step()
        return taught, rate

    def _progress(self, phase: Phase, step: int, taught: Taught, rate: float) -> Progress:
        at, plan = self.position, phase.plan
        done = self._work(at.phase) + self._passes[at.phase] * (at.epoch * self.steps + step + 1)
        total = self._work(len(self._phases))
        conflict = taught.conflict_ratio
        return Progress(
            plan.phase, at.epoch, plan.epochs, step, self.steps, done / total,
            {name: float(loss) for name, loss in taught.losses.items()},
            None if conflict is None else float(conflict), rate,
            self._clock.seconds_left(total - done))

    def _work(self, phases: int) -> int:
        """Return the passes through the network of the first phases."""
        return sum(passes * phase.plan.epochs * self.steps
                   for passes, phase in zip(self._passes[:phases], self._phases))


class _Clock:
    """Seconds per pass through the network, smoothed."""

    def __init__(self) -> None:
        self._last: Optional[float] = None
        self._pass_s: Optional[float] = None

    def start(self) -> None:
        """Begin to measure."""
        self._last = time.monotonic()

    def tick(self, passes: int) -> None:
        """Take note of a step."""
        now = time.monotonic()
        spent = (now - (self._last or now)) / passes
        self._pass_s = spent if self._pass_s is None else 0.95 * self._pass_s + 0.05 * spent
        self._last = now

    def seconds_left(self, passes: int) -> Optional[float]:
        """Return how long so many passes will take."""
        return None if self._pass_s is None else self._pass_s * passes


def _passes(phase: Phase) -> int:
    """Return how many networks a step runs."""
    return 1 + len(phase.members.every_step) + len(phase.variants(0, np.random.default_rng(0)))


def _optimizer(parameters: List[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    groups = [{'params': [p for p in parameters if p.ndim > 1],
               'weight_decay': recipe.weight_decay},
              {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0}]
    groups = [g for g in groups if g['params']]
    if recipe.optimizer == 'adamw':
        return torch.optim.AdamW(groups, lr=0.0)
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum,
                           nesterov=recipe.momentum > 0.0)


def _digest(net: Supernet) -> str:
    """Name a network by its tensors' names and shapes."""
    listed = [(name, tuple(value.shape)) for name, value in sorted(net.state_dict().items())]
    return _short_digest((listed, net.structure.exits, net.structure.classes))


def _short_digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
