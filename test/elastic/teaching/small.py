# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A family and data that train in milliseconds."""
from __future__ import annotations

import functools

import torch

from benchmarks._elastic_training import small_batches, small_family
from crowdhmt_ros.elastic.teaching.recipe import PhaseRecipe, Recipe


@functools.lru_cache(1)
def _made():
    net = small_family()
    return net, {name: value.clone() for name, value in net.state_dict().items()}


def family():
    """Return the small family as it was made; one at a time."""
    net, start = _made()
    net.load_state_dict(start)
    for parameter in net.parameters():
        parameter.grad = None
        parameter.requires_grad_(True)
    return net


def recipe(*phases, epochs=1, **options):
    """Describe a training of some phases, 6 steps per epoch."""
    return Recipe(tuple(PhaseRecipe(p, epochs, 0.05) if isinstance(p, str) else p
                        for p in phases), 16, transformation_batches=2, **options)


def tensors(net):
    """Return copies of all tensors."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(net, before):
    """Name the shared tensors that differ."""
    return {name for name in net.names()
            if not torch.equal(net.tensor(name), before['weights.' + name.replace('.', '/')])}


batches = small_batches
