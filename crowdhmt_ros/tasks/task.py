# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is learnt, as data: which files, which network, which recipe (P IV-A, tasks T1..T4).

A task is a YAML file in config/tasks, or anywhere; `task_file` reads it, `material` opens its
data.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from crowdhmt_ros.elastic.scaling import InputScaling
from crowdhmt_ros.elastic.store import Reference

__all__ = ['ACCURACIES', 'DataPlan', 'HELD_BACK_BY', 'InputScaling', 'Task']

ACCURACIES = ('plain', 'balanced')
HELD_BACK_BY = ('items', 'groups')


@dataclass(frozen=True)
class DataPlan:
    """
    Which data a task learns from and is tested on.

    :param train: file or folder below the data folder, with `*` and `?` as a shell has them; ''
        for the data folder itself
    :param test: likewise; the same as `train` where folds or subjects, or splits that the layout
        has of its own, make the test part
    :param layout: 'auto', or a name of `datasets.LAYOUTS`
    :param options: further ones of `datasets.open_dataset`: `size` (of square images, pixels),
        `coarse`, `esc10`, `window_samples`, `spectrogram` (fields of `LogMel`)
    :param limit: inputs to learn from, of each class alike; 0 for all. Which ones they are does
        not depend on the seed
    :param held_back_ratio: share of them that calibrates and never trains
    :param held_back_by: 'items', of each class alike, or 'groups': whole subjects
    :param folds: parts that the groups are dealt to for cross-validation; 0: each group is one
    """

    train: str
    test: str
    layout: str = 'auto'
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 0
    held_back_ratio: float = 0.05
    held_back_by: str = HELD_BACK_BY[0]
    folds: int = 0


@dataclass(frozen=True)
class Task:
    """
    Data, network and recipe.

    :param name: of the file, without its ending
    :param data: what it learns from
    :param backbone: the network, untrained
    :param exits: numbers of stages after which it may answer early
    :param recipe: name in config/recipes, or path of a YAML file
    :param variation: how training inputs are varied, a key of `variation.VARIATIONS`
    :param normalisation: of inputs
    :param accuracy: 'plain', or 'balanced': the mean over the classes
    """

    name: str
    data: DataPlan
    backbone: Reference
    exits: Tuple[int, ...]
    recipe: str
    variation: str = 'none'
    normalisation: InputScaling = field(default_factory=InputScaling)
    accuracy: str = ACCURACIES[0]

    @property
    def balanced(self) -> bool:
        """Whether every class counts alike in the accuracy, however many inputs it has."""
        return self.accuracy == 'balanced'
