# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Training of the family: largest, smallest and random sub-networks at once (P III-A1).

Each step trains the largest sub-network on the labels and the others on the largest one's
answers (in-place distillation); every exit on the way is trained too. All random numbers are
functions of (seed, epoch, step), so a resumed training equals an uninterrupted one.
"""
from __future__ import annotations

import logging
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from crowdhmt_ros.elastic.data import Mixture, augmented_batch, batches
from crowdhmt_ros.elastic.operators.channel import channel
from crowdhmt_ros.elastic.operators.depth import depth
from crowdhmt_ros.elastic.slim_net import Statistics, Supernet
from crowdhmt_ros.elastic.stage_shapes import Backbone
from crowdhmt_ros.errors import DataError
from crowdhmt_ros.types import OperatorChoice, Variant

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Space:
    """
    The sub-networks that training covers.

    :param ratios: channel ratios, any stage may have any
    :param blocks: numbers of blocks, any stage may have any
    """

    ratios: Tuple[float, ...] = (1.0, 0.75, 0.5, 0.375)
    blocks: Tuple[int, ...] = (2, 1)


@dataclass(frozen=True)
class Cycle:
    """
    One rise and fall of the learning rate.

    :param epochs: passes over an epoch's draw
    :param learning_rate: peak
    :param sizes: (share of the cycle's epochs done, edge in pixels), ascending
    :param warm_up: share of the cycle's steps in which the learning rate rises
    """

    epochs: int
    learning_rate: float
    sizes: Tuple[Tuple[float, int], ...]
    warm_up: float = 0.08

    def size_at(self, epoch: int) -> int:
        """Edge of the images in an epoch of the cycle, pixels."""
        done = epoch / self.epochs
        return [size for start, size in self.sizes if start <= done + 1e-9][-1]

    def learning_rate_at(self, done: float) -> float:
        """Learning rate after a share of the steps: linear rise, then half a cosine to 0."""
        if done < self.warm_up:
            return self.learning_rate * (0.05 + 0.95 * done / self.warm_up)
        rest = (done - self.warm_up) / (1.0 - self.warm_up)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, rest)))


@dataclass(frozen=True)
class Recipe:
    """
    How the family is trained.

    :param cycles: one after the other
    :param batch_size: images per step
    :param weight_decay: of weights; gains, shifts and biases have none
    :param momentum: Nesterov
    :param early_exit_weight: weight of the loss of the earlier exits
    :param label_smoothing: of the largest sub-network's loss
    :param hard_share: share of the label loss in a distilled loss
    """

    cycles: Tuple[Cycle, ...] = (Cycle(11, 0.03, ((0.0, 40), (0.45, 48), (0.81, 64))),)
    batch_size: int = 64
    weight_decay: float = 5e-4
    momentum: float = 0.9
    early_exit_weight: float = 0.5
    label_smoothing: float = 0.05
    hard_share: float = 0.3

    @property
    def epochs(self) -> int:
        """Epochs of all cycles."""
        return sum(c.epochs for c in self.cycles)

    def cycle_of(self, epoch: int) -> Tuple[Cycle, int]:
        """Return the cycle that an epoch belongs to and its number within the cycle."""
        for cycle in self.cycles:
            if epoch < cycle.epochs:
                return cycle, epoch
            epoch -= cycle.epochs
        raise ValueError('the recipe has %d epochs' % self.epochs)


@dataclass(frozen=True)
class Normalisation:
    """
    From pixel to network input: (rgb * scale - mean) / std.

    :param mean: per colour
    :param std: per colour
    :param scale: of pixel values
    """

    mean: Tuple[float, float, float] = (0.47, 0.46, 0.43)
    std: Tuple[float, float, float] = (0.26, 0.25, 0.27)
    scale: float = 1.0 / 255.0

    def apply(self, pixels: NDArray[np.generic]) -> torch.Tensor:
        """Turn pixels of shape (n, h, w, 3) into a network input of shape (n, 3, h, w)."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        scale = torch.tensor([self.scale / s for s in self.std]).view(1, 3, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std)]).view(1, 3, 1, 1)
        return (x * scale + shift).contiguous(memory_format=torch.channels_last)


def describe(
        backbone: Backbone, shape: Sequence[Tuple[float, int]], exit_index: int) -> Variant:
    """
    Describe a sub-network by (ratio, blocks) per stage; what changes nothing is left out.

    :param backbone: the full network
    :param shape: one pair per stage that runs
    :param exit_index: which exit answers
    """
    stages = []
    for (ratio, blocks), stage in zip(shape, backbone.stages):
        choices: List[OperatorChoice] = []
        if ratio < 1.0:
            choices.append(channel(ratio))
        if blocks < stage.blocks:
            choices.append(depth(blocks))
        stages.append(tuple(choices))
    return Variant(tuple(stages), exit_index)


def uniform(backbone: Backbone, ratio: float, blocks: int, exit_index: int = -1) -> Variant:
    """Describe a sub-network with the same ratio and depth in all stages that run."""
    index = exit_index % len(backbone.exits)
    return describe(backbone, [(ratio, blocks)] * backbone.exits[index], index)


def step_variants(backbone: Backbone, space: Space, rng: np.random.Generator) -> List[Variant]:
    """
    Choose the sub-networks of one step: largest, smallest and one at random.

    Half of the random ones are uniform over the stages, as most deployed ones are.
    """
    stages = len(backbone.stages)
    if rng.random() < 0.5:
        one = (float(rng.choice(space.ratios[1:])), int(rng.choice(space.blocks)))
        shape = [one] * stages
    else:
        shape = [(float(rng.choice(space.ratios)), int(rng.choice(space.blocks)))
                 for _ in range(stages)]
    return [uniform(backbone, max(space.ratios), max(space.blocks)),
            uniform(backbone, min(space.ratios), min(space.blocks)),
            describe(backbone, shape, len(backbone.exits) - 1)]


def distilled(
        logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, hard_share: float
        ) -> torch.Tensor:
    """Loss against the teacher's answer, mixed with the loss against the labels."""
    soft = -(teacher * F.log_softmax(logits, 1)).sum(1).mean()
    return hard_share * F.cross_entropy(logits, labels) + (1.0 - hard_share) * soft


def train_step(
        net: Supernet, variants: Sequence[Variant], image: torch.Tensor, labels: torch.Tensor,
        recipe: Recipe) -> float:
    """
    Add the gradients of one step.

    :param variants: the largest first
    :param image: shape (n, 3, h, w)
    :param labels: shape (n,)
    :returns: loss of the largest sub-network at its last exit
    """
    first = 0.0
    teacher: Optional[torch.Tensor] = None
    for variant in variants:
        logits = net(image, variant)
        if teacher is None:
            loss = F.cross_entropy(logits[-1], labels, label_smoothing=recipe.label_smoothing)
            first = float(loss.detach())
            teacher = F.softmax(logits[-1].detach(), 1)
        else:
            loss = distilled(logits[-1], teacher, labels, recipe.hard_share)
        for early in logits[:-1]:
            loss = loss + recipe.early_exit_weight * distilled(
                early, teacher, labels, recipe.hard_share)
        loss.backward()  # type: ignore[no-untyped-call]
    return first


def _optimizer(net: Supernet, recipe: Recipe) -> torch.optim.SGD:
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim == 1]
    return torch.optim.SGD(
        [{'params': decayed, 'weight_decay': recipe.weight_decay},
         {'params': plain, 'weight_decay': 0.0}],
        lr=recipe.cycles[0].learning_rate, momentum=recipe.momentum, nesterov=True)


@dataclass
class Position:
    """Where a training stands: the next step to do."""

    epoch: int = 0
    step: int = 0


class Trainer:
    """A training that can stop after any checkpoint and go on."""

    def __init__(
            self, backbone: Backbone, mixture: Mixture, recipe: Recipe, *, seed: int = 0,
            space: Optional[Space] = None, normalisation: Optional[Normalisation] = None,
            checkpoint: Optional[Path] = None, checkpoint_steps: int = 100,
            pause: Callable[[], None] = lambda: None) -> None:
        """
        Prepare a training from the start; `resume` goes on with a checkpoint.

        :param backbone: the largest network
        :param mixture: what it learns from
        :param recipe: how it learns
        :param seed: of every random number
        :param checkpoint: file to write, None for none
        :param checkpoint_steps: steps between two checkpoints
        :param pause: called before each step; returns when training may use the machine
        """
        self.net = Supernet(backbone, seed=seed)
        self.position = Position()
        self._mixture, self._recipe, self._seed = mixture, recipe, seed
        self._space = space or Space()
        self._normalisation = normalisation or Normalisation()
        self._checkpoint, self._checkpoint_steps = checkpoint, checkpoint_steps
        self._pause = pause
        self._optimizer = _optimizer(self.net, recipe)
        photos = mixture.photos_per_epoch if len(mixture.photos.labels) else 0
        scenes = mixture.scenes_per_epoch if len(mixture.scenes.labels) else 0
        self.steps_per_epoch = max(1, (photos + scenes) // recipe.batch_size)

    def _identity(self) -> Dict[str, str]:
        return {'recipe': repr(self._recipe), 'seed': str(self._seed), 'space': repr(self._space),
                'backbone': repr(self.net.backbone)}

    def save(self) -> None:
        """Write the checkpoint; an interrupted write leaves the last one whole."""
        if self._checkpoint is None:
            return
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        beside = self._checkpoint.with_suffix('.part')
        torch.save({'identity': self._identity(), 'position': asdict(self.position),
                    'net': self.net.state_dict(), 'optimizer': self._optimizer.state_dict()},
                   beside)
        os.replace(beside, self._checkpoint)

    def resume(self) -> bool:
        """
        Go on from the checkpoint where there is one.

        :returns: whether there was one
        :raises DataError: it belongs to another training
        """
        if self._checkpoint is None or not self._checkpoint.exists():
            return False
        state = torch.load(self._checkpoint, map_location='cpu', weights_only=True)
        differing = [k for k, v in self._identity().items() if state['identity'].get(k) != v]
        if differing:
            raise DataError('checkpoint %s was written with another %s; give another '
                            '--checkpoint-dir or leave out --resume'
                            % (self._checkpoint.name, ', '.join(differing)))
        self.net.load_state_dict(state['net'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.position = Position(**state['position'])
        return True

    def run(self) -> Iterator[Tuple[Position, float]]:
        """Train to the end; yield after each step the position done and the loss."""
        while self.position.epoch < self._recipe.epochs:
            yield from self._epoch(self.position.epoch)
            self.position = Position(self.position.epoch + 1, 0)
            self.save()

    def _epoch(self, epoch: int) -> Iterator[Tuple[Position, float]]:
        for step, domain, index in batches(
                self._mixture, self._recipe.batch_size, self._seed, epoch):
            if step < self.position.step:
                continue
            self._pause()
            loss = self._step(epoch, step, domain, index)
            yield Position(epoch, step), loss
            self.position = Position(epoch, step + 1)
            if (step + 1) % self._checkpoint_steps == 0:
                self.save()

    def _step(self, epoch: int, step: int, domain: NDArray[np.int64],
              index: NDArray[np.int64]) -> float:
        cycle, passed = self._recipe.cycle_of(epoch)
        rng = np.random.default_rng((self._seed, epoch, step))
        images = self._mixture.take(domain, index)
        pixels = augmented_batch(images.pixels, cycle.size_at(passed), rng)
        variants = step_variants(self.net.backbone, self._space, rng)
        torch.manual_seed(int(rng.integers(2 ** 31)))
        done = (passed + step / self.steps_per_epoch) / cycle.epochs
        for group in self._optimizer.param_groups:
            group['lr'] = cycle.learning_rate_at(done)
        self._optimizer.zero_grad()
        self.net.train()
        loss = train_step(self.net, variants, self._normalisation.apply(pixels),
                          torch.from_numpy(images.labels), self._recipe)
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self._optimizer.step()
        return loss


def calibration_batches(
        mixture: Mixture, count: int, seed: int, normalisation: Normalisation,
        batch_size: int = 256) -> List[torch.Tensor]:
    """
    Draw training images as they are, without variation, for `recalibrate`.

    :param count: about how many images
    :param seed: of the draw
    """
    domain, index = mixture.order(np.random.default_rng((seed, 2 ** 20)))
    rows = range(0, min(count, len(domain)), batch_size)
    return [normalisation.apply(
        mixture.take(domain[r:r + batch_size], index[r:r + batch_size]).pixels) for r in rows]


@torch.no_grad()
def recalibrate(
        net: Supernet, variants: Mapping[str, Variant], images: Sequence[torch.Tensor]
        ) -> Statistics:
    """
    Measure the statistics of every normalisation of these sub-networks on training images.

    They belong to a convolution in its context (what lies upstream), so sub-networks with equal
    beginnings share them.

    :param variants: name -> sub-network
    :param images: batches of shape (n, 3, h, w)
    """
    statistics: Statistics = {}
    for variant in variants.values():
        extracted = net.extract(variant)
        layers = {m: extracted.get_submodule(m + '.norm') for m in extracted.shapes}
        for layer in layers.values():
            assert isinstance(layer, nn.BatchNorm2d)
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # cumulative average
        for batch in images:
            extracted(batch)
        for name, shape in extracted.shapes.items():
            layer = layers[name]
            assert isinstance(layer, nn.BatchNorm2d)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            statistics.setdefault('%s@%s' % (name, shape.context), (
                layer.running_mean.double().clone(), layer.running_var.double().clone()))
    return statistics


@torch.no_grad()
def round_weights(net: Supernet) -> None:
    """Round the shared weights to float16, the precision in which a bundle stores them."""
    for name in net.names():
        if name.endswith('.weight'):
            weight = net.weight(name)
            weight.copy_(weight.half().float())
