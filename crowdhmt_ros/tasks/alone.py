# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One variant trained alone from scratch: what a member of a family is compared with.

It has exactly its own tensors, drawn at random, and learns from the labels; data, loader, epochs,
batches, optimizer, peak of the learning rate and precision are the family's, and so are the
step, the trainer and the clock. Its learning rate rises and falls once over all epochs, as is
best for one network.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional, Tuple

from crowdhmt_ros.elastic.lone import LoneNet, lone
from crowdhmt_ros.elastic.norms import Statistics
from crowdhmt_ros.elastic.store import load_tensors
from crowdhmt_ros.elastic.supernet import Supernet
from crowdhmt_ros.elastic.teaching.phases import PHASES
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe
from crowdhmt_ros.elastic.teaching.trainer import Progress
from crowdhmt_ros.errors import ConfigError
from crowdhmt_ros.tasks.material import Material
from crowdhmt_ros.tasks.recipes import named_recipe
from crowdhmt_ros.tasks.task import Task
from crowdhmt_ros.tasks.training import Trained, train_task, untrained
from crowdhmt_ros.types import Variant


def alone_recipe(recipe: Recipe) -> Recipe:
    """
    Return how a single network is trained in the time of a family's recipe: as many epochs.

    The phase is the backbone's, without exits, over all epochs; images have the edge that they
    have in the same epoch of the family.

    :raises ConfigError: the recipe has no phase in which the whole network learns
    """
    learning = [p for p in recipe.phases if PHASES[p.phase].teaches_backbone]
    if not learning:
        raise ConfigError('the recipe has no phase in which the whole network learns')
    first = learning[0]
    return replace(recipe, phases=(PhaseRecipe(
        'backbone', recipe.epochs, max(p.learning_rate for p in learning), edges=_edges(recipe),
        warm_up_ratio=first.warm_up_ratio * first.epochs / recipe.epochs,
        early_exit_weight=0.0),))


def _edges(recipe: Recipe) -> Tuple[Tuple[float, int], ...]:
    """
    Join the phases' edges: where they change, and to what.

    :raises ConfigError: some phases have none
    """
    by_epoch = [plan.edge_at(epoch) for plan in recipe.phases for epoch in range(plan.epochs)]
    if not any(by_epoch):
        return ()
    if not all(by_epoch):
        raise ConfigError('some phases give edges of images, others none; give all of them')
    changes = [e for e in range(recipe.epochs) if e == 0 or by_epoch[e] != by_epoch[e - 1]]
    return tuple((e / recipe.epochs, by_epoch[e]) for e in changes)


def train_alone(task: Task, material: Material, variant: Variant, *, seed: int,
                checkpoint: Optional[Path] = None, resume: bool = False,
                recipe: Optional[Recipe] = None, device: str = 'cpu',
                report: Callable[[Progress], None] = lambda progress: None,
                pause: Callable[[], None] = lambda: None) -> Trained:
    """
    Train a variant alone, and calibrate it.

    :param material: the task's data, open
    :param variant: of the task's network
    :param seed: of every random number
    :param checkpoint: file to write, None for none
    :param resume: go on from the checkpoint where there is one
    :param recipe: a family's, None for the task's
    :param device: where the training computes, 'cpu' or 'cuda'
    :param report: called after each step
    :param pause: called before each step; returns when training may use the machine
    :raises ConfigError: the recipe does not fit the network or the data
    :raises DataError: a checkpoint of another training, or weights that are no longer finite
    :raises ExportError: the variant does not fit the network
    """
    return train_task(
        task, material, seed=seed, checkpoint=checkpoint, resume=resume,
        recipe=alone_recipe(recipe or named_recipe(task.recipe)), device=device, report=report,
        pause=pause, net=lone(untrained(task, seed), variant, seed=seed))


def opened_alone(family: Supernet, variant: Variant, path: Path) -> Tuple[LoneNet, Statistics]:
    """
    Open what was saved of a variant that was trained alone.

    :param family: of the same network, trained or not
    :raises DataError: the file is missing, damaged, or of another network
    :raises ExportError: the variant does not fit the family
    """
    net = lone(family, variant, seed=0)
    statistics = load_tensors(net, path)
    net.eval()
    return net, statistics
