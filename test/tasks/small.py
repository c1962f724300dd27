# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A task that is learnt in seconds: windows of noise, their classes by loudness."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

CLASSES = ('quiet', 'loud', 'louder')
TEXT = """
data: {train: har*.npz, options: {window_samples: 32}, folds: 2,
       held_back_ratio: 0.2, held_back_by: groups}
backbone: {name: motion_cnn, classes: 3, options: {channels: 3, samples: 32, width: 8}}
exits: [1]
variation: window
recipe: %s
"""
RECIPE = """
batch_size: 16
optimizer: adamw
phases:
  - {phase: backbone, epochs: 2, learning_rate: 0.01}
  - {phase: joint, epochs: 1, learning_rate: 0.005, members_ratio: 0.5}
"""


NARROW = {'resnet18': {'width': 8}, 'resnet34': {'width': 8}, 'vgg16': {'width': 8},
          'motion_cnn': {'width': 8}, 'mobilenet_v2': {'width_multiplier': 0.125},
          'spectrogram_cnn': {'width': 8}, 'residual': {'widths': (16, 16, 24, 24)},
          'vision_transformer': {'width': 16, 'heads': 2, 'head_size': 8}}


def narrow(task):
    """Return a task of the package with few channels."""
    options = {**task.backbone.options, **NARROW[task.backbone.name]}
    return replace(task, backbone=replace(task.backbone, options=options))


def windows(path: Path, *, subjects: int = 5, each: int = 24) -> Path:
    """Write windows of some subjects, every class alike."""
    rng = np.random.default_rng(0)
    count = subjects * each
    labels = np.arange(count) % len(CLASSES)
    loudness = np.array([20.0, 100.0, 500.0])[labels]
    values = rng.normal(size=(count, 32, 3)) * loudness[:, None, None]
    np.savez(path, X=values.astype(np.int16), scale=np.float64(0.01), y=labels.astype(np.uint8),
             labels=np.array(CLASSES), subject=np.repeat(np.arange(1, subjects + 1), each))
    return path


def task_file(folder: Path) -> Path:
    """Write the data, the recipe and the task; return the task's file."""
    windows(folder / 'har.npz')
    recipe, task = folder / 'recipe.yaml', folder / 'small.yaml'
    recipe.write_text(RECIPE, encoding='utf-8')
    task.write_text(TEXT % recipe, encoding='utf-8')
    return task
